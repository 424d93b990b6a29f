//! Standard Webhooks signatures, `v1`: written apart from the product's, so that one checks the other.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use ring::hmac;

/// Checks deliveries of one target.
pub struct Verifier(hmac::Key);

impl Verifier {
    /// From the `whsec_…` secret as the API shows it.
    pub fn new(secret: &str) -> Result<Self> {
        Ok(Self(key(secret)?))
    }

    /// Whether one of the signatures fits the id, the time and the body.
    pub fn is_right(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(time), Some(signatures)) = (
            text("webhook-id"),
            text("webhook-timestamp"),
            text("webhook-signature"),
        ) else {
            return false;
        };
        let content = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
        signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .any(|tag| hmac::verify(&self.0, &content, &tag).is_ok())
    }
}

/// Signs requests as the product does: the work a bare client has to do too.
pub struct Signer(hmac::Key);

impl Signer {
    /// From a `whsec_…` secret.
    pub fn new(secret: &str) -> Result<Self> {
        Ok(Self(key(secret)?))
    }

    /// A signed delivery of event `seq`; `uri` as the client wants it (whole, or the path alone).
    pub fn request(&self, uri: &str, host: &str, seq: u64, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let id = format!("evt_{seq:010}");
        let time = (crate::ledger::now_ns() / 1_000_000_000).to_string();
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", time.as_bytes(), b".", &body] {
            context.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(context.sign()));
        Ok(Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("host", host)
            .header("content-type", "application/json")
            .header("user-agent", "bench")
            .header("webhook-id", id)
            .header("webhook-timestamp", time)
            .header("webhook-signature", signature)
            .body(Full::new(body))?)
    }
}

fn key(secret: &str) -> Result<hmac::Key> {
    // The secret itself stays out of the message.
    let bytes = secret
        .strip_prefix("whsec_")
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .context("a signing secret is not whsec_ and base64")?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(id: &str, time: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", time.parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_known_vector_is_right_and_a_changed_one_is_not() {
        let verifier = Verifier::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, time, body) = (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(verifier.is_right(&headers(id, time, signature), body));
        assert!(verifier.is_right(&headers(id, time, &format!("v1,AAAA {signature}")), body));
        assert!(!verifier.is_right(&headers(id, "1614265331", signature), body));
        assert!(!verifier.is_right(&headers(id, time, "v1,"), body));
        assert!(!verifier.is_right(&HeaderMap::new(), body));
    }

    #[test]
    fn what_is_signed_here_is_right() {
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let body = Bytes::from_static(b"{}");
        let request = Signer::new(secret)
            .unwrap()
            .request("/t/0", "127.0.0.1", 3, body.clone());
        assert!(
            Verifier::new(secret)
                .unwrap()
                .is_right(request.unwrap().headers(), &body)
        );
    }
}
