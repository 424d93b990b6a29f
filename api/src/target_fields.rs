//! A target's fields in the API, and what they may hold.

use crate::Config;
use crate::json::{Checks, change};
use crate::problem::Problem;
use crate::rate::RateBody;
use crate::retry_policy::RetryPolicyBody;
use crate::target_request::{
    SchemeBody, SignatureHeaderBody, TlsBody, TlsShown, change as changed, schemes, signature_headers, tls,
};
use crate::text::{Span, Time, plain};
use crate::verification::{VerificationWord, allowed};
use platform::catalog::{Change, NewTarget, Target, TargetPatch};
use schemas::egress;
use schemas::target::{RequestOptions, TargetState};
use schemas::verification::Verification;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

/// A target's own headers are at most so many.
const MAX_HEADERS: usize = 50;
/// Names and values of a target's own headers have at most so many bytes together.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// One attempt takes at least this long before it is given up.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
/// One attempt takes at most this long.
const MOST_TIMEOUT: Duration = Duration::from_secs(60);

/// A target: where deliveries go.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Target, example = json!({
    "id": 186_243_735_552_001_i64, "url": "https://example.com/hooks", "description": "order desk",
    "headers": {"x-shop": "42"}, "contact": "ops@example.com", "state": "active", "disabledReason": null, "rateLimit": 100,
    "retryPolicy": {"window": "1day", "first": "5s", "factor": 3.0, "max": "4h", "jitter": 0.2},
    "timeout": "15s", "signature": ["v1"], "signatureHeaders": [], "tls": null, "verification": "none", "verifiedAt": null, "notProved": null, "createdAt": "2026-01-31T23:59:59.123Z", "updatedAt": "2026-01-31T23:59:59.123Z"
}))]
pub struct TargetBody {
    /// Its id: a number below 2^53.
    id: i64,
    /// The normalised address.
    url: String,
    /// What it is for.
    description: Option<String>,
    /// Its own headers, sent with each delivery; names in lower case.
    headers: BTreeMap<String, String>,
    /// Whom to write to when deliveries are given up, and when the target is about to be disabled or is: an
    /// e-mail address, written to once an hour at most.
    contact: Option<String>,
    /// `active`, `disabled` or `unverified`; changed with `enable` and `disable`.
    #[schema(value_type = StateWord)]
    state: TargetState,
    /// Why it is disabled, in words; null when it is not, or was disabled by hand.
    disabled_reason: Option<String>,
    /// Attempts per second at most as a number, per minute as text such as `30/minute`; null for no limit of its own.
    rate_limit: Option<RateBody>,
    /// Its own retry policy; null for the server's.
    retry_policy: Option<RetryPolicyBody>,
    /// Its own time limit for one attempt; null for the server's.
    timeout: Option<Span>,
    /// How its requests are signed.
    signature: Vec<SchemeBody>,
    /// Signatures in headers of other senders' form.
    signature_headers: Vec<SignatureHeaderBody>,
    /// TLS of its own; null for the server's.
    tls: Option<TlsShown>,
    /// How it proves that it wants deliveries.
    #[schema(value_type = VerificationWord)]
    verification: Verification,
    /// When it last did; null where it never has, or not at this address.
    verified_at: Option<Time>,
    /// Why its last challenge proved nothing; null where it did.
    not_proved: Option<String>,
    /// When it was made.
    created_at: Time,
    /// When it was last changed.
    updated_at: Time,
}

/// Whether a target takes deliveries.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = TargetState)]
#[allow(dead_code, reason = "describes schemas::target::TargetState")]
enum StateWord {
    /// It does.
    Active,
    /// Switched off, by hand or after too many failures: its deliveries are canceled.
    Disabled,
    /// Not yet proved to belong to the tenant: gets no deliveries.
    Unverified,
}

impl From<Target> for TargetBody {
    fn from(target: Target) -> Self {
        Self {
            id: target.id.0,
            url: target.url,
            description: target.description,
            headers: target.headers.into_iter().collect(),
            contact: target.contact,
            state: target.state,
            disabled_reason: target.disabled_reason,
            rate_limit: target.rate_limit.map(RateBody::from),
            retry_policy: target.retry.map(RetryPolicyBody::from),
            timeout: target.timeout.map(Span),
            signature: target.request.schemes.into_iter().map(SchemeBody::from).collect(),
            signature_headers: target
                .request
                .signature_headers
                .into_iter()
                .map(SignatureHeaderBody::from)
                .collect(),
            tls: target.request.tls.map(TlsShown::from),
            verification: target.request.verification,
            verified_at: target.verified_at.map(Time),
            not_proved: target.not_proved,
            created_at: Time(target.created_at),
            updated_at: Time(target.updated_at),
        }
    }
}

/// A target, and the secret its deliveries are signed with.
#[derive(Serialize, ToSchema)]
#[schema(as = NewTarget)]
pub struct TargetWithSecret {
    /// The target.
    #[serde(flatten)]
    pub target: TargetBody,
    /// The signing secret (Standard Webhooks `v1`). Shown this once.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    pub secret: String,
}

const READ_ONLY_STATE: &str = "is read-only: POST to the target's /enable or /disable instead";

/// A target to make. Only `url` is needed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TargetToMake, example = json!({"url": "https://example.com/hooks", "description": "order desk"}))]
pub struct NewTargetBody {
    /// Where to POST: `https`, a public host, no user or password.
    #[schema(value_type = String, required = true, example = "https://example.com/hooks")]
    url: Option<String>,
    /// What it is for; at most 1000 characters.
    description: Option<String>,
    /// Headers of its own to send with each delivery.
    #[schema(example = json!({"x-shop": "42"}))]
    headers: Option<BTreeMap<String, String>>,
    /// Whom to write to when deliveries are given up, and when the target is about to be disabled or is: an
    /// e-mail address, written to once an hour at most.
    #[schema(example = "ops@example.com")]
    contact: Option<String>,
    #[schema(ignore)]
    state: Option<IgnoredAny>,
    /// Attempts at most: a number of them per second, or text such as `30/minute`. What comes faster waits its turn,
    /// which is no attempt.
    rate_limit: Option<RateBody>,
    /// Its own retry policy.
    retry_policy: Option<RetryPolicyBody>,
    /// Its own time limit for one attempt: 100ms to 60s.
    timeout: Option<Span>,
    /// How its requests are signed: `v1`, `v1a` or both; `v1` when left out.
    signature: Option<Vec<SchemeBody>>,
    /// Signatures in headers of other senders' form, at most 5.
    signature_headers: Option<Vec<SignatureHeaderBody>>,
    /// TLS of its own.
    tls: Option<TlsBody>,
    /// How it is to prove that it wants deliveries; the server's way when left out.
    #[schema(value_type = Option<VerificationWord>)]
    verification: Option<Verification>,
}

impl NewTargetBody {
    /// Takes a client certificate out that comes without its key.
    pub(crate) fn take_bare_certificate(&mut self) -> Option<String> {
        self.tls.as_mut().and_then(TlsBody::take_bare_certificate)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// 422 with all that are wrong.
    pub fn check(self, config: &Config) -> Result<NewTarget, Problem> {
        let mut checks = Checks::default();
        if self.state.is_some() {
            checks.fail("state", READ_ONLY_STATE);
        }
        let schemes = schemes(&mut checks, self.signature);
        let signature_headers = signature_headers(&mut checks, self.signature_headers.unwrap_or_default());
        let verification = allowed(&mut checks, self.verification, config);
        let tls = self.tls.map(|body| tls(&mut checks, body));
        let (tls, client_key) = tls.map_or((None, None), |(tls, key)| (Some(tls), key));
        let new = NewTarget {
            url: checks.required("url", self.url, |url| address(url, config)),
            description: self
                .description
                .map(|text| checks.take("description", description(text))),
            headers: self
                .headers
                .map_or_else(Vec::new, |map| headers(&mut checks, map)),
            contact: self.contact.map(|text| checks.take("contact", contact(text))),
            state: TargetState::Active,
            rate_limit: self
                .rate_limit
                .and_then(|rate| checks.take("rateLimit", rate.check().map(Some))),
            retry: self.retry_policy.map(|policy| policy.check(&mut checks, config)),
            timeout: self.timeout.map(|span| checks.take("timeout", timeout(span))),
            request: RequestOptions {
                schemes,
                signature_headers,
                tls,
                verification,
            },
            client_key,
        };
        checks.finish()?;
        Ok(new)
    }
}

/// What to change of a target: a field left out stays, a null empties it.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TargetChange, example = json!({"url": "https://example.com/hooks/2", "rateLimit": null}))]
pub struct TargetPatchBody {
    /// Where to POST.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = String, required = false, example = "https://example.com/hooks/2")]
    url: Change<String>,
    /// What it is for.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<String>)]
    description: Change<Option<String>>,
    /// All its own headers: those not named here go.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Change<Option<BTreeMap<String, String>>>,
    /// An e-mail address.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<String>, example = "ops@example.com")]
    contact: Change<Option<String>>,
    // Not to be set, and not to null either.
    #[serde(default, deserialize_with = "change")]
    #[schema(ignore)]
    state: Change<IgnoredAny>,
    /// Attempts at most: a number of them per second, or text such as `30/minute`.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<RateBody>)]
    rate_limit: Change<Option<RateBody>>,
    /// Its own retry policy, as a whole: what is left out is as the server's configuration says.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<RetryPolicyBody>)]
    retry_policy: Change<Option<RetryPolicyBody>>,
    /// Its own time limit for one attempt: 100ms to 60s.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<Span>)]
    timeout: Change<Option<Span>>,
    /// How its requests are signed; null for `v1`.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<Vec<SchemeBody>>)]
    signature: Change<Option<Vec<SchemeBody>>>,
    /// All signatures in headers of other senders' form: those not named here go.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<Vec<SignatureHeaderBody>>)]
    signature_headers: Change<Option<Vec<SignatureHeaderBody>>>,
    /// TLS of its own as a whole: certificate and key come together.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<TlsBody>)]
    tls: Change<Option<TlsBody>>,
    /// How it is to prove that it wants deliveries; it is asked anew.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = VerificationWord, required = false)]
    verification: Change<Verification>,
}

impl TargetPatchBody {
    /// Checks the fields.
    ///
    /// # Errors
    /// 422 with all that are wrong.
    pub fn check(self, config: &Config) -> Result<TargetPatch, Problem> {
        let mut checks = Checks::default();
        if matches!(self.state, Change::Set(_)) {
            checks.fail("state", READ_ONLY_STATE);
        }
        let patch = TargetPatch {
            url: checks.change("url", self.url, |url| address(url, config)),
            description: checks.change("description", self.description, |text| {
                text.map(description).transpose()
            }),
            headers: match self.headers {
                Change::Keep => Change::Keep,
                Change::Set(map) => Change::Set(headers(&mut checks, map.unwrap_or_default())),
            },
            contact: checks.change("contact", self.contact, |text| text.map(contact).transpose()),
            state: Change::Keep,
            rate_limit: checks.change("rateLimit", self.rate_limit, |rate| {
                rate.map(RateBody::check).transpose()
            }),
            retry: match self.retry_policy {
                Change::Keep => Change::Keep,
                Change::Set(policy) => Change::Set(policy.map(|policy| policy.check(&mut checks, config))),
            },
            timeout: checks.change("timeout", self.timeout, |span| span.map(timeout).transpose()),
            schemes: changed(self.signature, |given| schemes(&mut checks, given)),
            signature_headers: changed(self.signature_headers, |given| {
                signature_headers(&mut checks, given.unwrap_or_default())
            }),
            tls: changed(self.tls, |given| given.map(|body| tls(&mut checks, body))),
            verification: match self.verification {
                Change::Keep => Change::Keep,
                Change::Set(method) => Change::Set(allowed(&mut checks, Some(method), config)),
            },
        };
        checks.finish()?;
        Ok(patch)
    }
}

/// A target's address, normalised.
///
/// # Errors
/// Says why it may not be one.
pub fn address(url: String, config: &Config) -> Result<String, String> {
    egress::check_url(&url, &config.rules).map_err(|error| error.to_string())
}

fn description(text: String) -> Result<String, String> {
    plain(text, 1000)
}

/// Not the whole grammar of addresses: enough to catch a slip, and nothing that could break a mail.
fn contact(text: String) -> Result<String, String> {
    let fits = text.len() <= 254
        && text
            .split_once('@')
            .is_some_and(|(who, host)| !who.is_empty() && !host.is_empty() && !host.contains('@'))
        && !text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || "<>,;\"".contains(c));
    if fits {
        Ok(text)
    } else {
        let shown: String = text.chars().take(80).collect();
        Err(format!(
            "{shown:?} is not an e-mail address such as ops@example.com"
        ))
    }
}

fn timeout(span: Span) -> Result<Duration, String> {
    span.within(LEAST_TIMEOUT, MOST_TIMEOUT)
}

/// Headers with their names in lower case.
fn headers(checks: &mut Checks, given: BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > MAX_HEADERS {
        checks.fail(
            "headers",
            format!("are {}; at most {MAX_HEADERS} fit", given.len()),
        );
        return Vec::new();
    }
    if bytes > MAX_HEADER_BYTES {
        checks.fail(
            "headers",
            format!("have {bytes} bytes; at most {MAX_HEADER_BYTES} fit"),
        );
        return Vec::new();
    }
    for (name, value) in given {
        if let Err(error) = egress::check_header(&name, &value) {
            checks.fail(format!("headers.{name}"), error);
        } else if headers.insert(name.to_ascii_lowercase(), value).is_some() {
            checks.fail(format!("headers.{name}"), "is there twice: names have no case");
        }
    }
    headers.into_iter().collect()
}
