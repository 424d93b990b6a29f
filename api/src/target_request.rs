//! How requests to a target are made: its signatures and TLS, in the API.

use crate::json::Checks;
use platform::catalog::Change;
use platform::tls::{TlsError, client_config};
use schemas::signature::compatible::{Algorithm, Encoding, MOST_HEADERS, SignatureHeader};
use schemas::target::{Scheme, SecretText, TlsOptions};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// How a request is signed: `v1` is HMAC-SHA256 by the secret, `v1a` ed25519 by a key whose public half is at
/// `/public-keys` (both Standard Webhooks).
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SignatureScheme)]
pub enum SchemeBody {
    /// HMAC-SHA256.
    V1,
    /// ed25519.
    V1a,
}

/// Which HMAC.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the algorithms' names")]
#[schema(as = SignatureAlgorithm)]
pub enum AlgorithmBody {
    Sha1,
    Sha256,
    Sha512,
}

/// How its bytes are written: lower-case hex, or standard base64 with its padding.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the encodings' names")]
#[schema(as = SignatureEncoding)]
pub enum EncodingBody {
    Hex,
    Base64,
}

/// A signature of the body in a header of another sender's form, for receivers that check those already. Its key
/// is the secret as text, `whsec_` included. While a rotated secret signs too, the header comes once for each, the
/// newest first.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SignatureHeader, example = json!({
    "name": "x-hub-signature-256", "algorithm": "sha256", "encoding": "hex", "prefix": "sha256="
}))]
pub struct SignatureHeaderBody {
    /// The header: none that hookwright or the connection sets.
    name: String,
    /// Which HMAC.
    algorithm: AlgorithmBody,
    /// How it is written.
    encoding: EncodingBody,
    /// What stands before it; nothing when left out.
    #[serde(default)]
    prefix: String,
}

/// TLS of a target's own, as it can be read. The private key is never shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tls)]
pub struct TlsShown {
    /// The authorities that are trusted in place of the server's, in PEM.
    ca: Option<String>,
    /// The certificate that is shown to the target, in PEM.
    client_certificate: Option<String>,
}

/// TLS of a target's own, as a whole.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TlsToSet)]
pub struct TlsBody {
    /// The authorities to trust in place of the server's, in PEM.
    ca: Option<String>,
    /// The certificate to show to the target, and those between it and its authority, in PEM.
    client_certificate: Option<String>,
    /// Its private key in PEM. Sealed, and never shown.
    client_key: Option<String>,
}

impl TlsBody {
    /// Takes a certificate out that comes without its key.
    pub fn take_bare_certificate(&mut self) -> Option<String> {
        match self.client_key {
            Some(_) => None,
            None => self.client_certificate.take(),
        }
    }
}

/// What a target's TLS is kept as: the part that is shown, and the private key.
pub type Tls = (TlsOptions, Option<SecretText>);

impl From<Scheme> for SchemeBody {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::V1 => Self::V1,
            Scheme::V1a => Self::V1a,
        }
    }
}

impl From<SignatureHeader> for SignatureHeaderBody {
    fn from(header: SignatureHeader) -> Self {
        Self {
            name: header.name,
            algorithm: match header.algorithm {
                Algorithm::Sha1 => AlgorithmBody::Sha1,
                Algorithm::Sha256 => AlgorithmBody::Sha256,
                Algorithm::Sha512 => AlgorithmBody::Sha512,
            },
            encoding: match header.encoding {
                Encoding::Hex => EncodingBody::Hex,
                Encoding::Base64 => EncodingBody::Base64,
            },
            prefix: header.prefix,
        }
    }
}

impl From<TlsOptions> for TlsShown {
    fn from(tls: TlsOptions) -> Self {
        Self {
            ca: tls.ca,
            client_certificate: tls.client_certificate,
        }
    }
}

/// The schemes in their order; without any, `v1`.
pub fn schemes(checks: &mut Checks, given: Option<Vec<SchemeBody>>) -> Vec<Scheme> {
    let Some(given) = given else {
        return vec![Scheme::V1];
    };
    let has = |scheme| given.contains(&scheme);
    if given.is_empty() || given.len() > usize::from(has(SchemeBody::V1)) + usize::from(has(SchemeBody::V1a))
    {
        checks.fail("signature", "must name v1, v1a or both, each once");
    }
    let both = [(SchemeBody::V1, Scheme::V1), (SchemeBody::V1a, Scheme::V1a)];
    let named = both.into_iter().filter(|(body, _)| has(*body));
    named.map(|(_, scheme)| scheme).collect()
}

/// The headers with their names in lower case.
pub fn signature_headers(checks: &mut Checks, given: Vec<SignatureHeaderBody>) -> Vec<SignatureHeader> {
    if given.len() > MOST_HEADERS {
        checks.fail(
            "signatureHeaders",
            format!("are {}; at most {MOST_HEADERS} fit", given.len()),
        );
        return Vec::new();
    }
    let mut headers: Vec<SignatureHeader> = Vec::new();
    for (n, body) in given.into_iter().enumerate() {
        let header = SignatureHeader {
            name: body.name.to_ascii_lowercase(),
            algorithm: match body.algorithm {
                AlgorithmBody::Sha1 => Algorithm::Sha1,
                AlgorithmBody::Sha256 => Algorithm::Sha256,
                AlgorithmBody::Sha512 => Algorithm::Sha512,
            },
            encoding: match body.encoding {
                EncodingBody::Hex => Encoding::Hex,
                EncodingBody::Base64 => Encoding::Base64,
            },
            prefix: body.prefix,
        };
        if let Err(error) = header.check() {
            checks.fail(format!("signatureHeaders.{n}"), error);
        } else if headers.iter().any(|other| other.name == header.name) {
            checks.fail(format!("signatureHeaders.{n}"), "has a name that is there twice");
        } else {
            headers.push(header);
        }
    }
    headers
}

/// TLS that can be used.
pub fn tls(checks: &mut Checks, given: TlsBody) -> Tls {
    let options = TlsOptions {
        ca: given.ca,
        client_certificate: given.client_certificate,
    };
    let key = given.client_key.map(SecretText::new);
    let machine = Arc::new(rustls::RootCertStore::empty());
    if let Err(error) = client_config(&options, key.as_ref(), machine) {
        let field = match error {
            TlsError::Ca => "tls.ca",
            TlsError::ClientCertificate => "tls.clientCertificate",
            TlsError::ClientKey => "tls.clientKey",
        };
        checks.fail(field, error.to_string());
    }
    (options, key)
}

/// A change by PATCH: null is as when left out of a new target.
pub fn change<T, U>(given: Change<T>, to: impl FnOnce(T) -> U) -> Change<U> {
    match given {
        Change::Keep => Change::Keep,
        Change::Set(value) => Change::Set(to(value)),
    }
}
