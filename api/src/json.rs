//! JSON in and out: bodies read with the name of every field that is wrong.
//!
//! Malformed JSON answers 400 with its line and column; a wrong type or an unknown field answers
//! 422 with the field; what the fields hold is checked with [`Checks`], which names them all.

use crate::Shared;
use crate::problem::{FieldError, Problem};
use crate::slow_body::TooSlow;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::LengthLimitError;
use platform::catalog::Change;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::error::Category;
use std::error::Error;

/// The largest body of a request that is not an event: 1 MiB.
pub const MAX_BODY: usize = 1 << 20;

/// A JSON body, read or to be written.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(body, MAX_BODY).await?;
        // Nothing at all means no fields: some requests need none.
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        if media_type(&parts.headers)? == MediaType::Ndjson {
            return Err(unsupported("application/x-ndjson"));
        }
        parse(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // Unwrap safety: our answers are structs with text keys, which always serialise.
        let body = serde_json::to_vec(&self.0).expect("answers serialise");
        let json = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, json)], body).into_response()
    }
}

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`, or nothing, or what `curl -d` says of any body.
    Json,
    /// `application/x-ndjson`.
    Ndjson,
}

/// The body's media type.
///
/// # Errors
/// 415 for any other.
pub fn media_type(headers: &HeaderMap) -> Result<MediaType, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(MediaType::Json);
    };
    let text = value.to_str().unwrap_or("");
    let essence = text.split(';').next().unwrap_or("").trim();
    // `curl -d` says that it sends a form unless told otherwise. We have no forms.
    let curl = "application/x-www-form-urlencoded";
    if essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case(curl) {
        Ok(MediaType::Json)
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Ok(MediaType::Ndjson)
    } else {
        Err(unsupported(essence))
    }
}

fn unsupported(given: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!(
            "content-type {given:?} is not taken here: send application/json \
             (or application/x-ndjson for many events at once)"
        ),
    )
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 for a larger one, 408 for one that comes too slowly, 400 when it breaks off.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        if cause::<LengthLimitError>(&error).is_some() {
            Problem::too_large(format!("the request's body is larger than {limit} bytes"))
        } else if let Some(TooSlow { received, took }) = cause(&error) {
            let detail = format!(
                "the request's body came too slowly: {received} bytes in {} ms; nothing was done",
                took.as_millis()
            );
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "the request's body broke off")
        }
    })
}

/// The cause of this type, if it is one of an error's causes.
fn cause<T: Error + 'static>(error: &axum::Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Reads JSON.
///
/// # Errors
/// 400 for malformed JSON, 422 for a wrong type or an unknown field.
pub fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    parse_or_explain(bytes).map_err(|(status, error)| match status {
        StatusCode::BAD_REQUEST => Problem::malformed(error),
        _ => Problem::invalid(vec![error]),
    })
}

/// Whether JSON can only be an object.
pub(crate) fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// Reads JSON, or says with which status and why not.
pub(crate) fn parse_or_explain<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
) -> Result<T, (StatusCode, FieldError)> {
    if !is_object(bytes) {
        // A derived reader would take a list for a struct, by position.
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                FieldError::new("body", "is not a JSON object: give {…}"),
            ),
            Err(error) => (
                StatusCode::BAD_REQUEST,
                FieldError::new("body", error.to_string()),
            ),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    T::deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track))
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| {
            let message = error.to_string();
            let at = |message: String| {
                let path = track.path().to_string();
                let field = if path == "." { "body".to_owned() } else { path };
                (StatusCode::UNPROCESSABLE_ENTITY, FieldError::new(field, message))
            };
            match error.classify() {
                Category::Data => at(message),
                // serde_json says so too of a null, or a number, where a word is expected.
                Category::Syntax if serde_json::from_slice::<Value>(bytes).is_ok() => {
                    at("is of the wrong type: give one of the words it may be".to_owned())
                }
                // Where JSON breaks off is told by line and column.
                Category::Syntax | Category::Eof | Category::Io => {
                    (StatusCode::BAD_REQUEST, FieldError::new("body", message))
                }
            }
        })
}

/// Reads a field of a PATCH that is there: null is a value too.
///
/// # Errors
/// The type's own.
pub fn change<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Change<T>, D::Error> {
    T::deserialize(from).map(Change::Set)
}

/// Collects what is wrong with the fields of a request, to name them all in one answer.
///
/// The value a check returns after a failure is a stand-in that is never used, since
/// [`finish`](Self::finish) then fails.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes a failure.
    pub fn fail(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// The value, or a failure noted.
    pub fn take<T: Default, E: ToString>(&mut self, field: &str, checked: Result<T, E>) -> T {
        checked.unwrap_or_else(|error| {
            self.fail(field, error.to_string());
            T::default()
        })
    }

    /// The value of a field that must be there.
    pub fn require<T: Default>(&mut self, field: &str, value: Option<T>) -> T {
        self.take(field, value.ok_or("is missing"))
    }

    /// The value of a field that must be there, checked.
    pub fn required<T, U: Default, E: ToString>(
        &mut self,
        field: &str,
        value: Option<T>,
        check: impl FnOnce(T) -> Result<U, E>,
    ) -> U {
        match value {
            Some(value) => self.take(field, check(value)),
            None => self.require(field, None),
        }
    }

    /// A changed field's value, checked; an unchanged one stays so.
    pub fn change<T, U: Default, E: ToString>(
        &mut self,
        field: &str,
        change: Change<T>,
        check: impl FnOnce(T) -> Result<U, E>,
    ) -> Change<U> {
        match change {
            Change::Keep => Change::Keep,
            Change::Set(value) => Change::Set(self.take(field, check(value))),
        }
    }

    /// Fails if anything was noted.
    ///
    /// # Errors
    /// 422 with all the fields.
    pub fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.0))
        }
    }
}
