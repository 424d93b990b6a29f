//! What an answer means.

use crate::time::Millis;
use std::time::Duration;

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target has it.
    Delivered,
    /// Try again by the schedule, and not before `after` from now where the target asked for that.
    Retry {
        /// How long the target wants to be left alone.
        after: Option<Duration>,
    },
    /// The target says it is gone for good: disable it.
    Gone,
    /// It can never be delivered, whatever the target does.
    Rejected,
    /// Nothing was asked of the target, for want of something of ours: it waits, which is no attempt.
    NotAsked,
}

/// Why an attempt brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.word())]
pub enum AttemptError {
    /// The deadline passed.
    Timeout,
    /// No connection, or it broke.
    Connect,
    /// No TLS session: most often the certificate.
    Tls,
    /// The name has no address.
    Dns,
    /// Every address of the name is one that may not be dialled.
    Blocked,
    /// What came back is not HTTP.
    Protocol,
    /// The payload is no longer in the payload store or the log.
    PayloadMissing,
    /// Nobody could be asked: no file is left for a connection, or no thread for a lookup.
    NotAsked,
}

impl AttemptError {
    /// A short word that never changes: in the history, in metrics, in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Blocked => "blocked",
            Self::Protocol => "protocol",
            Self::PayloadMissing => "payload_missing",
            Self::NotAsked => "not_asked",
        }
    }
}

/// Judges an attempt by its answer, the status and the `Retry-After` header if there is one, or by
/// why there was none.
///
/// - 2xx is delivered, 410 is gone, any other status is tried again: a redirect is not followed, and
///   a 4xx may be a mistake that its owner mends within the window.
/// - No answer is tried again, a blocked address too: it was not dialled, and a mistake in the name
///   service can be mended.
/// - A payload that is gone stays gone.
/// - A connection or a lookup that we cannot begin says nothing of the target.
///
/// `cap` is the longest a target may ask to be left alone.
#[must_use]
pub fn judge(answer: Result<(u16, Option<&str>), AttemptError>, now: Millis, cap: Duration) -> Outcome {
    match answer {
        Ok((200..=299, _)) => Outcome::Delivered,
        Ok((410, _)) => Outcome::Gone,
        Ok((_, retry_after)) => Outcome::Retry {
            after: retry_after
                .and_then(|text| parse_retry_after(text, now))
                .filter(|after| !after.is_zero())
                .map(|after| after.min(cap)),
        },
        Err(
            AttemptError::Timeout
            | AttemptError::Connect
            | AttemptError::Tls
            | AttemptError::Dns
            | AttemptError::Blocked
            | AttemptError::Protocol,
        ) => Outcome::Retry { after: None },
        Err(AttemptError::PayloadMissing) => Outcome::Rejected,
        Err(AttemptError::NotAsked) => Outcome::NotAsked,
    }
}

/// Why an attempt did not deliver, as a short word: `http_500`, or the error's.
#[must_use]
pub fn reason(answer: Result<u16, AttemptError>) -> String {
    match answer {
        Ok(status) => format!("http_{status}"),
        Err(error) => error.word().to_owned(),
    }
}

/// Reads a `Retry-After`: seconds, or a date in one of the three forms of RFC 9110, 5.6.7. A date
/// that has passed is zero; seconds beyond counting are as many as can be counted. `None` for
/// anything else.
#[must_use]
pub fn parse_retry_after(text: &str, now: Millis) -> Option<Duration> {
    let text = text.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = imf_fixdate(text)
        .or_else(|| by_format("%A, %d-%b-%y %H:%M:%S GMT", text))
        .or_else(|| by_format("%a %b %e %H:%M:%S %Y", text))?;
    Some(Millis(date.as_millisecond()).since(now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. A wrong day of the week is forgiven.
fn imf_fixdate(text: &str) -> Option<jiff::Timestamp> {
    const PARSER: jiff::fmt::rfc2822::DateTimeParser =
        jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
    PARSER.parse_timestamp(text).ok()
}

/// The two obsolete forms, which have no offset but are in UTC.
fn by_format(format: &str, text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::strtime::parse(format, text)
        .and_then(|parsed| parsed.to_datetime())
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
        .map(|zoned| zoned.timestamp())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1994-11-06T08:49:37Z.
    const DATE: Millis = Millis(784_111_777_000);
    const CAP: Duration = Duration::from_secs(3600);

    fn at(before: u64) -> Millis {
        Millis(DATE.0 - i64::try_from(before).unwrap() * 1000)
    }

    fn retry(seconds: u64) -> Outcome {
        Outcome::Retry {
            after: Some(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn a_status_decides() {
        const AGAIN: Outcome = Outcome::Retry { after: None };
        let table = [
            (100, AGAIN),
            (101, AGAIN),
            (199, AGAIN),
            (200, Outcome::Delivered),
            (202, Outcome::Delivered),
            (204, Outcome::Delivered),
            (299, Outcome::Delivered),
            (300, AGAIN),
            (301, AGAIN),
            (307, AGAIN),
            (399, AGAIN),
            (400, AGAIN),
            (401, AGAIN),
            (404, AGAIN),
            (408, AGAIN),
            (409, AGAIN),
            (410, Outcome::Gone),
            (411, AGAIN),
            (429, AGAIN),
            (500, AGAIN),
            (502, AGAIN),
            (503, AGAIN),
            (504, AGAIN),
            (599, AGAIN),
            (999, AGAIN),
        ];
        for (status, expected) in table {
            assert_eq!(judge(Ok((status, None)), DATE, CAP), expected, "{status}");
        }
    }

    #[test]
    fn a_target_may_ask_for_peace_up_to_the_cap() {
        let table = [
            (429, "120", retry(120)),
            (503, "120", retry(120)),
            (302, "5", retry(5)),
            (500, "3600", retry(3600)),
            (503, "3601", retry(3600)),
            (503, "99999999999999999999999", retry(3600)),
            (503, "Sun, 06 Nov 1994 08:49:37 GMT", retry(60)),
            (503, "0", Outcome::Retry { after: None }),
            (
                503,
                "Sat, 05 Nov 1994 08:49:37 GMT",
                Outcome::Retry { after: None },
            ),
            (503, "soon", Outcome::Retry { after: None }),
            (200, "120", Outcome::Delivered),
            (410, "120", Outcome::Gone),
        ];
        for (status, retry_after, expected) in table {
            let outcome = judge(Ok((status, Some(retry_after))), at(60), CAP);
            assert_eq!(outcome, expected, "{status} {retry_after}");
        }
    }

    #[test]
    fn without_an_answer_only_a_missing_payload_is_final() {
        let table = [
            (AttemptError::Timeout, "timeout", Outcome::Retry { after: None }),
            (AttemptError::Connect, "connect", Outcome::Retry { after: None }),
            (AttemptError::Tls, "tls", Outcome::Retry { after: None }),
            (AttemptError::Dns, "dns", Outcome::Retry { after: None }),
            (AttemptError::Blocked, "blocked", Outcome::Retry { after: None }),
            (AttemptError::Protocol, "protocol", Outcome::Retry { after: None }),
            (AttemptError::PayloadMissing, "payload_missing", Outcome::Rejected),
            (AttemptError::NotAsked, "not_asked", Outcome::NotAsked),
        ];
        for (error, word, expected) in table {
            assert_eq!(judge(Err(error), DATE, CAP), expected, "{word}");
            assert_eq!(error.word(), word);
            assert_eq!(error.to_string(), word);
            assert_eq!(reason(Err(error)), word);
        }
        assert_eq!(reason(Ok(500)), "http_500");
    }

    #[test]
    fn retry_after_is_seconds_or_one_of_three_dates() {
        let seconds = |n| Some(Duration::from_secs(n));
        let table = [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 7\t", seconds(7)),
            ("007", seconds(7)),
            ("18446744073709551616", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(60)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(60)),
            ("Sun Nov  6 08:49:37 1994", seconds(60)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", seconds(60)),
            ("Sun, 06 Nov 1994 08:48:30 GMT", seconds(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1,5", None),
            ("120 s", None),
            ("١٢", None),
            ("tomorrow", None),
            ("1994-11-06T08:49:37Z", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_retry_after(text, at(60)), expected, "{text}");
        }
    }
}
