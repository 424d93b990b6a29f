//! `Idempotency-Key`: a POST that is sent again is answered again, not done again.
//!
//! [`once`] reads the body and its hash, and what becomes of the request does not depend on its client staying. A
//! handler that takes [`Once`], after its caller, has the key claimed for it, or is not run: because there is an
//! answer, because somebody works on it, because the key was used otherwise. Only what was done is kept: after a
//! refusal the key is as new. What makes a change and its claim one step is in `platform::catalog`, `claims`.
//!
//! An administrator's key is kept with the keys of the tenant that the request is about, under a name that no tenant
//! can give one.
//!
//! Publishing events has a way of its own (`publish`), since no database may stand there.

use crate::access::whose;
use crate::admin;
use crate::json::{MAX_BODY, read_body};
use crate::outages::Dependency;
use crate::problem::{FieldError, Problem};
use crate::{Server, Shared};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use platform::catalog::{Claim, Claimed};
use ring::digest;
use schemas::ids::Tenant;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

/// The header with a request's key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// No key is longer.
const LONGEST_KEY: usize = 255;
/// What stands before an administrator's key where it is kept: not printable, so that no tenant's begins so.
const ADMINS: char = '\u{1}';

/// A key, and what was asked for under it.
#[derive(Clone)]
struct Asked {
    tenant: Tenant,
    key: Arc<str>,
    /// The hash of method, path and body.
    request: Arc<str>,
    /// Set where a handler has it claimed.
    claim: Arc<OnceLock<Claim>>,
}

/// The request's key, if it has one.
///
/// # Errors
/// 400 for what can be none.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("");
    let fits = (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if fits && values.next().is_none() {
        return Ok(Some(text));
    }
    let message = format!("must be there once, with 1 to {LONGEST_KEY} printable ASCII characters");
    Err(Problem::with_errors(
        StatusCode::BAD_REQUEST,
        "the idempotency-key header is not valid",
        vec![FieldError::new(IDEMPOTENCY_KEY.as_str(), message)],
    ))
}

/// 422 for a key that was used for another request.
pub fn used_otherwise() -> Problem {
    Problem::invalid(vec![FieldError::new(
        IDEMPOTENCY_KEY.as_str(),
        "was used for another path or body: give each request a key of its own",
    )])
}

/// The SHA-256 over some parts, each with its length before it.
pub fn hash(parts: &[&[u8]]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish()
}

/// Prepares requests with a key, and keeps their answers.
pub async fn once(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
    if !has_key || request.method() != Method::POST || server.publishes(request.uri().path()) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let by_admin = server.keys.admin(&parts.headers).is_ok();
    let caller = match by_admin {
        true => None,
        // Who has no good key is told so by the route itself, and before any body is read.
        false => match whose(&server, &parts.headers, &mut parts.extensions).await {
            Ok(caller) => Some(caller.tenant.clone()),
            Err(_) => return next.run(Request::from_parts(parts, body)).await,
        },
    };
    let key = match key(&parts.headers) {
        Ok(key) => key.unwrap_or_default(),
        Err(problem) => return problem.into_response(),
    };
    let body = match read_body(body, MAX_BODY).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let (tenant, key) = match caller {
        Some(tenant) => (tenant, key.into()),
        None => {
            let path = parts.uri.path();
            let path = path.strip_prefix(&server.config.base_path).unwrap_or(path);
            match admin::about(path, &body) {
                Some(tenant) => (tenant, format!("{ADMINS}{key}").into()),
                // It will be refused.
                None => return next.run(Request::from_parts(parts, body.into())).await,
            }
        }
    };
    let asked = asked(&parts, tenant, key, &body);
    let claim = asked.claim.clone();
    parts.extensions.insert(asked);
    let request = Request::from_parts(parts, body.into());
    // A client that goes away does not break it off: the next try finds the answer.
    let tasks = server.tasks.clone();
    let done = tasks.spawn(async move {
        let response = next.run(request).await;
        match claim.get() {
            Some(claim) => keep(&server, claim, response).await,
            None => response,
        }
    });
    done.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server stops").into_response(),
    })
}

fn asked(parts: &Parts, tenant: Tenant, key: Arc<str>, body: &[u8]) -> Asked {
    let request = hash(&[
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        body,
    ]);
    Asked {
        tenant,
        key,
        request: URL_SAFE_NO_PAD.encode(request).into(),
        claim: Arc::default(),
    }
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Keeps the answer to what was done, and gives the key of what was refused back.
async fn keep(server: &Server, claim: &Claim, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    // Unwrap safety: our own answers lie in memory whole.
    let body = read_body(body, usize::MAX).await.expect("an answer in memory");
    let catalog = &server.parts.catalog;
    let done = if parts.status.is_success() {
        let headers = parts.headers.iter();
        let kept = Kept {
            status: parts.status.as_u16(),
            headers: headers
                .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        // Unwrap safety: text and numbers only, which always serialise.
        let kept = serde_json::to_vec(&kept).expect("text and numbers serialise");
        catalog.answered(claim, &kept).await
    } else {
        catalog.release(claim).await
    };
    // Whoever asks again takes the claim over when it has run out, and finds what was made.
    if let Err(error) = done {
        server.outages.of(Dependency::Database).failed(&error);
    }
    Response::from_parts(parts, Body::from(body))
}

/// The answer that was given before.
fn again(kept: &[u8]) -> Option<Response> {
    let kept: Kept = serde_json::from_slice(kept).ok()?;
    let mut response = (StatusCode::from_u16(kept.status).ok()?, kept.body).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in kept.headers {
        headers.append(
            HeaderName::try_from(name).ok()?,
            HeaderValue::try_from(value).ok()?,
        );
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Some(response)
}

/// The claim of a request with a key; `None` of one without. Comes after the caller: who may not ask is not told
/// what was answered.
pub struct Once(Option<Claim>);

impl Once {
    /// What to make things under.
    pub fn claim(&self) -> Option<&Claim> {
        self.0.as_ref()
    }
}

impl FromRequestParts<Shared> for Once {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, server: &Shared) -> Result<Self, Response> {
        let Some(asked) = parts.extensions.get::<Asked>() else {
            return Ok(Self(None));
        };
        let catalog = &server.parts.catalog;
        let kept = server.config.idempotency_kept;
        let problem = match catalog
            .claim(&asked.tenant, &asked.key, &asked.request, kept)
            .await
        {
            Ok(Claimed::Mine(claim)) => {
                let claim = asked.claim.get_or_init(|| claim);
                return Ok(Self(Some(claim.clone())));
            }
            Ok(Claimed::Answered(kept)) => {
                return Err(again(&kept).unwrap_or_else(|| {
                    Problem::new(
                        StatusCode::CONFLICT,
                        "this was done, but its answer is of another version of the server",
                    )
                    .into_response()
                }));
            }
            Ok(Claimed::Running) => Problem::new(
                StatusCode::CONFLICT,
                "a request with this idempotency-key is being worked on: ask again in a moment",
            )
            .after(1),
            Ok(Claimed::Other) => used_otherwise(),
            Err(error) => error.into(),
        };
        Err(problem.into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_printable_and_there_once() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            key(&headers).map(|key| key.map(str::to_owned)).ok()
        };
        assert_eq!(read(&[]), Some(None));
        let longest = "x".repeat(LONGEST_KEY);
        for good in ["1", "a b", "~!\"", &longest] {
            assert_eq!(read(&[good.as_bytes()]), Some(Some(good.to_owned())));
        }
        let long = "x".repeat(LONGEST_KEY + 1);
        for bad in [&b""[..], b"\xc3\xa9", b"a\tb", long.as_bytes()] {
            assert_eq!(read(&[bad]), None);
        }
        assert_eq!(read(&[b"a", b"a"]), None);
    }

    #[test]
    fn a_kept_answer_comes_back_as_it_was() {
        let kept = br#"{"status":201,"headers":[["location","/x"],["etag","\"a\""]],"body":"{}"}"#;
        let response = again(kept).unwrap();
        assert_eq!(response.status(), 201);
        let headers = response.headers();
        assert_eq!(
            (headers.len(), &headers["location"]),
            (3, &HeaderValue::from_static("/x"))
        );
        assert_eq!(headers[REPLAYED], "true");
        assert!(again(b"{}").is_none());
    }
}
