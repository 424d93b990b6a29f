//! Durations and sizes that carry their unit.

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// A duration written with its unit, such as `15s` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A duration written with its unit, or `off` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaybeSpan(pub Option<Duration>);

/// A size in bytes written with its unit, such as `256KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

/// Reads a duration with its unit.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "\"{text}\" has no unit; write \"{text}s\" (ms, s, m, h, d)"
        ));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("\"{text}\" is not a duration; write for example \"15s\" (ms, s, m, h, d)"))
}

/// Reads a size with its unit.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "" if digits > 0 => {
            return Err(format!(
                "\"{text}\" has no unit; write \"{text}KiB\" (B, KiB, MiB, GiB)"
            ));
        }
        _ => {
            return Err(format!(
                "\"{text}\" is not a size; write for example \"256KiB\" (B, KiB, MiB, GiB)"
            ));
        }
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
        .ok_or_else(|| format!("\"{text}\" is not a size; write for example \"256KiB\" (B, KiB, MiB, GiB)"))
}

struct UnitVisitor<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }

    // A bare number reaches us as one from TOML and from the environment: it lacks its unit.
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.1)(&number.to_string()).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.1)(&number.to_string()).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(UnitVisitor("a duration such as \"15s\"", parse_span))
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for MaybeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn parse(text: &str) -> Result<Option<Duration>, String> {
            match text {
                "off" => Ok(None),
                text => parse_span(text)
                    .map(Some)
                    .map_err(|error| format!("{error}, or \"off\"")),
            }
        }
        deserializer
            .deserialize_any(UnitVisitor("a duration such as \"5d\", or \"off\"", parse))
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(UnitVisitor("a size such as \"256KiB\"", parse_size))
            .map(Self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_span("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(
            parse_span("15"),
            Err("\"15\" has no unit; write \"15s\" (ms, s, m, h, d)".into())
        );
        for bad in ["", "s", "-1s", "15 parsecs"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_may_be_off_where_that_makes_sense() {
        let read = |text: &str| serde_json::from_value::<MaybeSpan>(serde_json::json!(text));
        assert_eq!(read("off").unwrap(), MaybeSpan(None));
        let days = Duration::from_secs(5 * 86_400);
        assert_eq!(read("5d").unwrap(), MaybeSpan(Some(days)));
        let error = read("never").unwrap_err().to_string();
        assert!(error.contains("or \"off\""), "{error}");
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("256KiB"), Ok(262_144));
        assert_eq!(parse_size("8MiB"), Ok(8 << 20));
        assert_eq!(parse_size("1 MB"), Ok(1_000_000));
        assert_eq!(
            parse_size("256"),
            Err("\"256\" has no unit; write \"256KiB\" (B, KiB, MiB, GiB)".into())
        );
        for bad in ["", "KiB", "1.5MiB", "-1B", "99999999999999999999GiB", "1XB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
