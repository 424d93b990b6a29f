//! An HTTP answer or the output of a command, and what a test expects of it.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Checks that it is a whole problem of this status; what it says, and the fields it names.
    #[track_caller]
    pub fn problem(self, status: u16) -> Problem {
        let content_type = self.headers.get("content-type").cloned();
        let body = self.expect(status);
        assert_eq!(
            content_type.as_ref().map(|value| value.as_bytes()),
            Some(&b"application/problem+json"[..])
        );
        assert_eq!(body["status"], status, "{body}");
        for field in ["type", "title", "detail"] {
            assert!(
                body[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}: {body}"
            );
        }
        let text = |error: &Value, key: &str| error[key].as_str().expect("text").to_owned();
        let errors = body["errors"].as_array().expect("a list").iter();
        Problem {
            detail: text(&body, "detail"),
            fields: errors
                .map(|error| (text(error, "field"), text(error, "message")))
                .collect(),
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What an `application/problem+json` says.
#[derive(Debug)]
pub struct Problem {
    pub detail: String,
    /// Field and message.
    pub fields: Vec<(String, String)>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Its answer, when it went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }
}
