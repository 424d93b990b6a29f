//! Which web pages may ask from a browser (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>): those of
//! `api.cors_origins`. Keys come in a header, never as a cookie, so credentials are not shared with anybody.

use crate::Shared;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};

const ANY: &str = "*";
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
/// What a page may send beyond what every page may.
const TAKEN: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, traceparent",
);
/// What a page may read beyond what every page may.
const SHOWN: HeaderValue = HeaderValue::from_static("etag, idempotent-replayed, location, retry-after");
/// How long a browser need not ask again, in seconds: as long as any of them takes.
const ASKED_FOR: HeaderValue = HeaderValue::from_static("7200");

/// Answers preflights, which bring no key, and tells browsers what pages may read.
pub async fn share(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let origins = &server.config.cors_origins;
    let any = origins.iter().any(|origin| origin == ANY);
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = if any {
        Some(HeaderValue::from_static(ANY))
    } else {
        origin.filter(|origin| origins.iter().any(|one| one == origin))
    };
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight && allowed.is_some() {
        let headers = [
            (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (ACCESS_CONTROL_ALLOW_HEADERS, TAKEN),
            (ACCESS_CONTROL_MAX_AGE, ASKED_FOR),
        ];
        (StatusCode::NO_CONTENT, headers).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    if !any {
        // Also where there was none, or another: a cache must not mix them up.
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(allowed) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if !is_preflight {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
        }
    }
    response
}
