//! Times and durations as the API writes them.

use schemas::time::Millis;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;
use utoipa::ToSchema;

/// A moment: RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T23:59:59.123Z")]
pub struct Time(pub Millis);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.to_rfc3339())
    }
}

/// A duration with its unit: `15s`, `250ms`, `1h 30m`, `1day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "15s")]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit such as \"15s\", \"250ms\" or \"24h\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text)
                    .map(Span)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_str(Text)
    }
}

impl Span {
    /// The duration, if it lies within these bounds.
    ///
    /// # Errors
    /// Names the duration and the bounds.
    pub fn within(self, least: Duration, most: Duration) -> Result<Duration, String> {
        if (least..=most).contains(&self.0) {
            return Ok(self.0);
        }
        Err(format!(
            "{} is not between {} and {}",
            humantime::format_duration(self.0),
            humantime::format_duration(least),
            humantime::format_duration(most)
        ))
    }
}

/// Text of at most `most` characters, without control characters other than line breaks and tabs.
///
/// # Errors
/// Says what is wrong.
pub fn plain(text: String, most: usize) -> Result<String, String> {
    let length = text.chars().count();
    if length > most {
        return Err(format!("has {length} characters; at most {most} fit"));
    }
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err("contains control characters".to_owned());
    }
    Ok(text)
}

/// A name: [`plain`] text of 1 to 200 characters on one line.
///
/// # Errors
/// Says what is wrong.
pub fn name(text: String) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; give it a name of 1 to 200 characters".to_owned());
    }
    if text.contains(['\n', '\r', '\t']) {
        return Err("has more than one line".to_owned());
    }
    plain(text, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units_both_ways() {
        for (text, seconds) in [("15s", 15), ("1h 30m", 5400), ("24h", 86_400), ("1day", 86_400)] {
            let span: Span = serde_json::from_value(text.into()).unwrap();
            assert_eq!(span.0, Duration::from_secs(seconds));
            let again: Span = serde_json::from_value(serde_json::to_value(span).unwrap()).unwrap();
            assert_eq!(again, span);
        }
        for wrong in [
            serde_json::json!("15"),
            15.into(),
            "".into(),
            "-1s".into(),
            "soon".into(),
        ] {
            let error = serde_json::from_value::<Span>(wrong.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains("such as \"15s\""), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_duration_out_of_bounds_names_the_bounds() {
        let error = Span(Duration::from_secs(90))
            .within(Duration::from_millis(100), Duration::from_secs(60))
            .unwrap_err();
        assert_eq!(error, "1m 30s is not between 100ms and 1m");
    }
}
