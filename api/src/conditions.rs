//! What a client saw, and whether it is still so: `ETag`, `If-Match` and `If-None-Match` (RFC 9110, 8.8.3 and 13.1).
//!
//! A tag is the hash of the JSON that a GET shows, so that whatever changes what is shown changes the tag: a PATCH,
//! a verification, a target that was disabled.

use crate::Shared;
use crate::endpoints::EndpointBody;
use crate::filters::FilterBody;
use crate::json::Json;
use crate::problem::{FieldError, Problem};
use crate::subscriptions::SubscriptionBody;
use crate::target_fields::TargetBody;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use platform::catalog::{Expected, Found};
use ring::digest;
use serde::Serialize;
use std::sync::Arc;

/// A thing of the catalog as the answer, with its tag.
pub struct Tagged<T>(pub T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        ([(ETAG, tag(&self.0))], Json(self.0)).into_response()
    }
}

/// The strong tag of what a GET shows, in its quotes: 128 bits are enough for no two to meet.
pub fn tag(shown: &impl Serialize) -> String {
    // Unwrap safety: our answers are structs with text keys, which always serialise.
    let json = serde_json::to_vec(shown).expect("answers serialise");
    let hash = digest::digest(&digest::SHA256, &json);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]))
}

/// The tag that a GET of it would have now.
fn tag_of(found: Found<'_>) -> String {
    match found {
        Found::Target(target) => tag(&TargetBody::from(target.clone())),
        Found::Filter(filter) => tag(&FilterBody::from(filter.clone())),
        Found::Subscription(subscription) => tag(&SubscriptionBody::from(subscription.clone())),
        Found::Endpoint(endpoint) => tag(&EndpointBody::from(endpoint.clone())),
    }
}

/// What a header of tags names.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever there is.
    Any,
    /// These, in their quotes; weak ones begin with `W/`.
    These(Vec<String>),
}

/// Reads a header of tags; `None` where there is none.
///
/// # Errors
/// 400 for what is no tag.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let mut these = Vec::new();
    for value in headers.get_all(name) {
        let mut quoted = false;
        // A comma in quotes is part of a tag.
        let between = |c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        };
        for part in value.to_str().unwrap_or("?").split(between).map(str::trim) {
            let opaque = part.strip_prefix("W/").unwrap_or(part);
            if part == "*" {
                return Ok(Some(Tags::Any));
            }
            if opaque.len() < 2 || !opaque.starts_with('"') || !opaque.ends_with('"') {
                let shown: String = part.chars().take(80).collect();
                let message = format!("{shown:?} is no tag: give an etag as it was, in its quotes, or *");
                let error = FieldError::new(name.as_str(), message);
                let detail = format!("the {name} header is not valid");
                return Err(Problem::with_errors(StatusCode::BAD_REQUEST, detail, vec![error]));
            }
            these.push(part.to_owned());
        }
    }
    Ok((!these.is_empty()).then_some(Tags::These(these)))
}

/// `If-Match`: what a PATCH or DELETE must find.
pub struct IfMatch(pub Option<Expected>);

impl FromRequestParts<Shared> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        Ok(Self(match tags(&parts.headers, &IF_MATCH)? {
            // What is not there answers 404 anyway.
            None | Some(Tags::Any) => None,
            // A weak tag is the same as none of ours: they are compared strongly.
            Some(Tags::These(these)) => Some(Arc::new(move |found| these.contains(&tag_of(found)))),
        }))
    }
}

/// Answers 304 to a GET whose `If-None-Match` names what it would show.
pub async fn not_modified(request: Request, next: Next) -> Response {
    if request.method() != Method::GET || !request.headers().contains_key(IF_NONE_MATCH) {
        return next.run(request).await;
    }
    let seen = tags(request.headers(), &IF_NONE_MATCH);
    let mut response = next.run(request).await;
    let Some(tag) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()) else {
        return response;
    };
    // Who has no key, or asks for what is not there, is told that first.
    let seen = match seen {
        Ok(seen) => seen,
        Err(problem) => return problem.into_response(),
    };
    let unchanged = match seen {
        None => false,
        Some(Tags::Any) => true,
        // Compared weakly (RFC 9110, 13.1.2).
        Some(Tags::These(these)) => these
            .iter()
            .any(|seen| seen.strip_prefix("W/").unwrap_or(seen) == tag),
    };
    if unchanged && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = axum::body::Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(values: &[&str]) -> Result<Option<Tags>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_str(value).unwrap());
        }
        tags(&headers, &IF_MATCH)
    }

    #[test]
    fn tags_are_read_from_any_number_of_headers() {
        let these = |tags: &[&str]| Some(Tags::These(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[" * "]).unwrap(), Some(Tags::Any));
        assert_eq!(
            read(&["\"a\", W/\"b\"", "\"\""]).unwrap(),
            these(&["\"a\"", "W/\"b\"", "\"\""])
        );
        assert_eq!(
            read(&["W/\",a, b\",\"c,\""]).unwrap(),
            these(&["W/\",a, b\"", "\"c,\""])
        );
        for wrong in ["a", "", "\"", "\"a\", b", "w/\"a\"", "W/"] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tag_is_of_what_is_shown() {
        assert_eq!(tag(&1), tag(&1));
        assert_ne!(tag(&1), tag(&2));
        assert_eq!(tag(&1).len(), 24);
    }
}
