//! Proof that whoever answers at a target's address wants its deliveries: a challenge that only they can
//! answer. Pure: what is asked, and what an answer is worth.
//!
//! | method | asked | proof |
//! |---|---|---|
//! | `crc` | `GET` with `crc_token` in the query, as X (Twitter) asks | 2xx and `{"response_token": "sha256=…"}`: base64 of the token's HMAC-SHA256 under a live secret, whose bytes are the key as for signatures, or whose text `whsec_…` is, as code made for X has it |
//! | `echo` | `POST` of `{"type": "webhook.verification", "challenge": "…"}`, as Slack asks, signed as a delivery | 2xx and the challenge, by itself or as `challenge` of a JSON object |
//! | `cloudevents` | `OPTIONS` with `WebHook-Request-Origin` (CloudEvents, HTTP webhook 1.0, section 4) | `WebHook-Allowed-Origin` names us or is `*`, whatever the status |

use crate::signature::encode_secret;
use crate::target::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

/// The header that names us, in the handshake of CloudEvents and in each delivery after it.
pub const REQUEST_ORIGIN: &str = "webhook-request-origin";
/// The header that allows it.
pub const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";

/// How a target is to prove that it wants deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verification {
    /// Not at all.
    #[default]
    None,
    /// By the HMAC of a token.
    Crc,
    /// By repeating what it is sent.
    Echo,
    /// By naming us in an answer to `OPTIONS`.
    CloudEvents,
}

impl Verification {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Crc, Self::Echo, Self::CloudEvents];

    /// The method's word in the API, the configuration and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Crc => "crc",
            Self::Echo => "echo",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// The method of a word; `None` for any other word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

/// What a target is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `GET`, `POST` or `OPTIONS`.
    pub verb: &'static str,
    /// The target's address, with the token in its query where the method wants it there.
    pub url: String,
    /// The header `WebHook-Request-Origin`, where the method has one.
    pub origin: Option<String>,
    /// The body, to be signed as a delivery's; empty where there is none.
    pub body: Vec<u8>,
}

/// What to ask at `url`; `None` where nothing is asked. `token` is drawn anew for each question, from
/// characters that need no escape; `origin` is the name we go by.
#[must_use]
pub fn question(method: Verification, url: &str, token: &str, origin: &str) -> Option<Question> {
    let question = |verb| Question {
        verb,
        url: url.to_owned(),
        origin: None,
        body: Vec::new(),
    };
    match method {
        Verification::None => None,
        Verification::Crc => {
            let mut with_token = question("GET");
            with_token.url.push(if url.contains('?') { '&' } else { '?' });
            with_token.url.push_str("crc_token=");
            with_token.url.push_str(token);
            Some(with_token)
        }
        Verification::Echo => Some(Question {
            body: json!({"type": "webhook.verification", "challenge": token})
                .to_string()
                .into_bytes(),
            ..question("POST")
        }),
        Verification::CloudEvents => Some(Question {
            origin: Some(origin.to_owned()),
            ..question("OPTIONS")
        }),
    }
}

/// What a target said to a question.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The status.
    pub status: u16,
    /// `WebHook-Allowed-Origin`.
    pub allowed_origin: Option<&'a str>,
    /// The beginning of the body, 1 KiB at least.
    pub body: &'a str,
}

/// Why a reply is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// It may be one later: the target is out of order.
    #[error("the target answered the challenge with status {0}")]
    Status(u16),
    /// It is a wrong one: somebody else answers there, or the receiver does not know the challenge.
    #[error("{0}")]
    Wrong(&'static str),
}

impl NoProof {
    /// Whether a target that had proved itself before keeps its proof for a while.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Status(_))
    }
}

/// What the answer to a challenge by CRC is: `sha256=` and the base64 of the token's HMAC-SHA256 under
/// the bytes of a secret.
#[must_use]
pub fn crc_answer(key: &SigningKey, token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut answer = "sha256=".to_owned();
    STANDARD.encode_string(hmac::sign(&key, token.as_bytes()), &mut answer);
    answer
}

/// Judges a reply to a question with this token. A redirect is not followed and is wrong.
///
/// # Errors
/// Why it is no proof.
pub fn judge<'a>(
    method: Verification,
    reply: Reply<'_>,
    token: &str,
    origin: &str,
    keys: impl IntoIterator<Item = &'a SigningKey>,
) -> Result<(), NoProof> {
    let proved = |proved: bool, why| if proved { Ok(()) } else { Err(NoProof::Wrong(why)) };
    match (method, reply.status) {
        (Verification::None, _) => Ok(()),
        // "The status code is not consent", nor is it a refusal.
        (Verification::CloudEvents, _) => match reply.allowed_origin.map(str::trim) {
            Some(allowed) => proved(
                allowed == "*" || allowed.eq_ignore_ascii_case(origin),
                "the answer's WebHook-Allowed-Origin names somebody else",
            ),
            None if reply.status >= 500 || reply.status == 429 => Err(NoProof::Status(reply.status)),
            None => Err(NoProof::Wrong("the answer has no WebHook-Allowed-Origin")),
        },
        (_, 300..=399) => Err(NoProof::Wrong(
            "the target redirects the challenge, which is not followed",
        )),
        (Verification::Crc, 200..=299) => proved(
            is_crc_answer(reply.body, token, keys),
            "the answer is not {\"response_token\": \"sha256=…\"} with the token's HMAC",
        ),
        (Verification::Echo, 200..=299) => proved(
            repeats(reply.body, token),
            "the answer does not repeat the challenge",
        ),
        (Verification::Crc | Verification::Echo, status) => Err(NoProof::Status(status)),
    }
}

fn is_crc_answer<'a>(body: &str, token: &str, keys: impl IntoIterator<Item = &'a SigningKey>) -> bool {
    let Ok(Value::Object(answer)) = serde_json::from_str(body) else {
        return false;
    };
    let Some(Value::String(given)) = answer.get("response_token") else {
        return false;
    };
    let Some(tag) = given
        .strip_prefix("sha256=")
        .and_then(|tag| STANDARD.decode(tag).ok())
    else {
        return false;
    };
    let made_with = |key: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, token.as_bytes(), &tag).is_ok()
    };
    keys.into_iter()
        .any(|key| made_with(key.as_bytes()) || made_with(encode_secret(key).as_bytes()))
}

fn repeats(body: &str, token: &str) -> bool {
    let body = body.trim();
    body == token
        || serde_json::from_str(body).is_ok_and(|answer: Value| match answer {
            Value::String(answer) => answer == token,
            Value::Object(answer) => answer.get("challenge") == Some(&json!(token)),
            _ => false,
        })
}

#[cfg(test)]
mod tests;
