//! How much one client may ask: so often with one API key, and so much in headers. Both are answered before a body
//! is read.

use crate::Shared;
use crate::access::whose;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names and values of a request's headers have at most so many bytes together.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// When this many keys are counted at first, those are forgotten that have all their tokens back.
const FIRST_SWEEP: usize = 1024;

/// How often one API key may ask, of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Requests a second, at least 1.
    pub rate: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// Who has asked lately. A key that has not asked for as long as all its tokens take to come back takes no memory.
pub struct Paces {
    pace: Option<Pace>,
    keys: Mutex<Keys>,
}

struct Keys {
    /// When each key has all its tokens back (GCRA), by its id.
    full_at: HashMap<i64, Instant>,
    sweep_at: usize,
}

impl Paces {
    /// Nobody has asked. Without a pace all may, always.
    pub fn new(pace: Option<Pace>) -> Self {
        Self {
            pace,
            keys: Mutex::new(Keys {
                full_at: HashMap::new(),
                sweep_at: FIRST_SWEEP,
            }),
        }
    }

    /// Takes a token of this key's.
    ///
    /// # Errors
    /// How long until there is one.
    fn take(&self, pace: Pace, key: i64, now: Instant) -> Result<(), Duration> {
        let interval = Duration::from_secs(1) / pace.rate;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.full_at.len() >= keys.sweep_at {
            keys.full_at.retain(|_, full_at| *full_at > now);
            keys.sweep_at = FIRST_SWEEP.max(2 * keys.full_at.len());
        }
        let full_at = keys.full_at.entry(key).or_insert(now);
        let missing = full_at.saturating_duration_since(now);
        let wait = missing.saturating_sub(interval * (pace.burst - 1));
        if wait.is_zero() {
            *full_at = now + missing + interval;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

/// Refuses what is too much.
pub async fn hold(State(server): State<Shared>, request: Request, next: Next) -> Response {
    let bytes = size(request.headers());
    if bytes > MAX_HEADER_BYTES {
        let detail =
            format!("the request's headers have {bytes} bytes; at most {MAX_HEADER_BYTES} are taken");
        return Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail).into_response();
    }
    let (mut parts, body) = request.into_parts();
    if let Some(pace) = server.paces.pace
        // Only good keys are counted: there is no end of others.
        && let Ok(caller) = whose(&server, &parts.headers, &mut parts.extensions).await
        && let Err(wait) = server.paces.take(pace, caller.key.id, Instant::now())
    {
        let Pace { rate, burst } = pace;
        let detail = format!("this key asks too often: {rate} requests a second are taken, {burst} at once");
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .after(whole_seconds(wait))
            .into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

fn size(headers: &HeaderMap) -> usize {
    let headers = headers.iter();
    headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// What `Retry-After` says: rounded up, at least 1.
fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 10, burst: 3 };

    #[test]
    fn a_burst_goes_at_once_the_rest_at_the_rate_and_each_key_by_itself() {
        let (paces, now) = (Paces::new(Some(PACE)), Instant::now());
        let at = |key, millis| paces.take(PACE, key, now + Duration::from_millis(millis));
        for _ in 0..3 {
            assert_eq!(at(1, 0), Ok(()));
        }
        assert_eq!(at(1, 0), Err(Duration::from_millis(100)));
        assert_eq!(at(2, 0), Ok(()));
        assert_eq!(
            at(1, 99),
            Err(Duration::from_millis(1)),
            "asking in vain costs nothing"
        );
        assert_eq!(at(1, 100), Ok(()));
        assert_eq!(at(1, 100), Err(Duration::from_millis(100)));
        for _ in 0..3 {
            assert_eq!(at(1, 60_000), Ok(()), "no more than the burst is saved up");
        }
        assert!(at(1, 60_000).is_err());
    }

    #[test]
    fn keys_that_do_not_ask_any_more_take_no_memory() {
        let (paces, now) = (Paces::new(Some(PACE)), Instant::now());
        for number in 0..100_000_i32 {
            let now = now + Duration::from_millis(1) * number.unsigned_abs();
            assert_eq!(paces.take(PACE, number.into(), now), Ok(()));
        }
        let counted = paces.keys.lock().unwrap().full_at.len();
        assert!(counted <= FIRST_SWEEP, "{counted}");
    }

    #[test]
    fn a_wait_is_said_in_whole_seconds() {
        for (millis, seconds) in [(1, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
