//! A target's rate limit as the API reads and writes it.

use schemas::rate::{MAX_RATE, Period, RateLimit};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A rate limit: a number is of attempts per second, and text such as `30/minute` or `5/second` names its period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RateLimit, example = "30/minute")]
#[serde(untagged)]
pub enum RateBody {
    /// Attempts per second: 1 to 100,000.
    Number(u64),
    /// 1 to 100,000 attempts per `second` or `minute`.
    Text(String),
}

impl RateBody {
    /// Checks it.
    ///
    /// # Errors
    /// Says what it may be.
    pub fn check(self) -> Result<RateLimit, String> {
        match self {
            Self::Text(text) => {
                let shown: String = text.chars().take(40).collect();
                RateLimit::parse(&shown)
            }
            Self::Number(number) => u32::try_from(number)
                .ok()
                .and_then(|count| RateLimit::new(count, Period::Second))
                .ok_or_else(|| {
                    format!(
                        "{number} is not between 1 and {MAX_RATE} (attempts per second); null for no limit"
                    )
                }),
        }
    }
}

impl From<RateLimit> for RateBody {
    fn from(rate: RateLimit) -> Self {
        match rate.period() {
            Period::Second => Self::Number(u64::from(rate.count())),
            Period::Minute => Self::Text(rate.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for RateBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = RateBody;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of attempts per second, or a rate such as \"30/minute\"")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<RateBody, E> {
                Ok(RateBody::Number(number))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RateBody, E> {
                Ok(RateBody::Text(text.to_owned()))
            }
        }
        from.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rate_comes_back_as_a_number_by_the_second_and_as_text_by_the_minute() {
        let table = [
            (json!(100), json!(100)),
            (json!("5/second"), json!(5)),
            (json!("30/minute"), json!("30/minute")),
        ];
        for (given, shown) in table {
            let body: RateBody = serde_json::from_value(given).unwrap();
            let again = RateBody::from(body.check().unwrap());
            assert_eq!(serde_json::to_value(&again).unwrap(), shown);
        }
        for wrong in [
            json!(0),
            json!(100_001),
            json!(5_000_000_000_u64),
            json!("5"),
            json!("0/minute"),
        ] {
            let body: RateBody = serde_json::from_value(wrong.clone()).unwrap();
            assert!(body.check().is_err(), "{wrong}");
        }
        for no_rate in [json!(-1), json!(1.5), json!(true), json!({})] {
            let error = serde_json::from_value::<RateBody>(no_rate).unwrap_err();
            assert!(error.to_string().contains("such as \"30/minute\""), "{error}");
        }
    }
}
