//! Every refusal, as `application/problem+json` (RFC 9457).

use crate::outages::{Dependency, Failed};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use platform::catalog::CatalogError;
use platform::event_log::LogError;
use serde::Serialize;
use utoipa::ToSchema;

/// At most so many fields are named in one answer.
const MAX_ERRORS: usize = 20;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field: `url`, `events[2]`, `line 3: payload`.
    pub field: String,
    /// What was found, and what would be right.
    pub message: String,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// Why a request was not done. Nothing of it was done.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    /// Seconds until it is worth to ask again.
    retry_after: Option<u32>,
    /// For the log, not for the client.
    failed: Option<Failed>,
}

/// The body of every answer that is not a success.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "1 field is not valid",
    "errors": [{"field": "url", "message": "what was found, and what would be right"}]
}))]
pub struct ProblemBody<'a> {
    /// Always `about:blank`: the status says which kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// The fields that are wrong; empty where the problem is not about fields. At most 20.
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem without field errors.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
            failed: None,
        }
    }

    /// A problem with these fields; all but the first 20 are left out.
    pub fn with_errors(status: StatusCode, detail: impl Into<String>, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        Self {
            errors,
            ..Self::new(status, detail)
        }
    }

    /// The same, worth to be asked again after so many seconds.
    #[must_use]
    pub fn after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// The fields that are wrong.
    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// 422 for one or more fields.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "1 field is not valid".to_owned(),
            many => format!("{many} fields are not valid"),
        };
        Self::with_errors(StatusCode::UNPROCESSABLE_ENTITY, detail, errors)
    }

    /// 400 for a body that is not JSON; `error` says where.
    #[must_use]
    pub fn malformed(error: FieldError) -> Self {
        let detail = format!("the body is not JSON: {}", error.message);
        Self::with_errors(StatusCode::BAD_REQUEST, detail, vec![error])
    }

    /// 404: not there, or another tenant's.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing with this id")
    }

    /// 404 for a path that is no route.
    #[must_use]
    pub fn no_such_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "there is no such path; /docs lists them all",
        )
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not take this method; the allow header lists those it takes",
        )
    }

    /// 401.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 413.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 503: what is away, in words for the client, and the cause for the log.
    pub fn unavailable(detail: impl Into<String>, away: Dependency, cause: String) -> Self {
        Self {
            failed: Some(Failed {
                away: Some(away),
                cause,
            }),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unavailable(cause) => Self::unavailable(
                "the database does not answer; nothing was changed, try again in a moment",
                Dependency::Database,
                cause,
            ),
            CatalogError::NotFound => Self::not_found(),
            CatalogError::Conflict(what) => Self::new(StatusCode::CONFLICT, what),
            CatalogError::Changed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "it is not what if-match names any more: get it again, and decide anew",
            ),
            CatalogError::InUse(subscriptions) => {
                let named: Vec<String> = subscriptions
                    .iter()
                    .take(MAX_ERRORS)
                    .map(ToString::to_string)
                    .collect();
                let more = match subscriptions.len() - named.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                Self::with_errors(
                    StatusCode::CONFLICT,
                    format!(
                        "in use by subscription(s) {}{more}: delete them first, or add ?cascade=true",
                        named.join(", ")
                    ),
                    named
                        .into_iter()
                        .map(|id| FieldError::new("subscriptionId", id))
                        .collect(),
                )
            }
            CatalogError::Dangling { field, what } => {
                Self::invalid(vec![FieldError::new(field, format!("there is no such {what}"))])
            }
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(cause) => Self::unavailable(
                "the event log does not answer; no event of this request is accepted, try again in a moment",
                Dependency::EventLog,
                cause,
            ),
            // The topic is missing or closed to us: the operator's to mend, not the client's.
            LogError::Refused(cause) => Self {
                failed: Some(Failed { away: None, cause }),
                ..Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the event log refused the request; no event of it is accepted",
                )
            },
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        };
        // Unwrap safety: text and numbers only, which always serialise.
        let body = serde_json::to_vec(&body).expect("text and numbers serialise");
        let mut response = (self.status, body).into_response();
        if self.status.is_server_error() {
            let failed = self.failed.unwrap_or(Failed {
                away: None,
                cause: self.detail,
            });
            response.extensions_mut().insert(failed);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"hookwright\""),
            );
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
