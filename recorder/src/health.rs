//! Which targets fail, read off the attempts.
//!
//! What a batch says of a target does not depend on the order of its records, and what follows from it is
//! written only where it changes something: the first failure after a success, and the first success after
//! that. Another recorder may have other attempts of the same target, and a batch may come again.

use platform::catalog::{Catalog, CatalogError, Health, HealthChange};
use schemas::delivery::DeliveryStatus;
use schemas::history::{Attempt, HistoryRecord};
use schemas::ids::TargetId;
use schemas::outcome;
use schemas::time::Millis;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an attempt says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// Nothing: it asked for patience (429), or the fault is ours.
    None,
}

/// What an attempt says of its target. A word that a later release may write is no sign.
#[must_use]
pub fn sign_of(attempt: &Attempt) -> Sign {
    match (attempt.status_code, attempt.error.as_deref()) {
        (Some(200..=299), _) => Sign::Good,
        (Some(429), _) => Sign::None,
        (Some(_), _) | (None, Some("timeout" | "connect" | "tls" | "dns" | "protocol")) => Sign::Bad,
        (None, _) => Sign::None,
    }
}

/// What a batch says of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The latest success.
    pub good_at: Option<Millis>,
    /// First and latest failure after that, and why the latest failed.
    pub bad: Option<(Millis, Millis, String)>,
    /// Deliveries given up: how many, the first and the last, and why the last.
    pub given_up: Option<(u32, Millis, Millis, String)>,
}

/// What a batch says of each target.
#[must_use]
pub fn signs(records: &[HistoryRecord]) -> BTreeMap<TargetId, Signs> {
    let mut all: BTreeMap<TargetId, Signs> = BTreeMap::new();
    let attempts = || {
        records.iter().filter_map(|record| match record {
            HistoryRecord::Attempt(record) => Some(record),
            HistoryRecord::Event(_) => None,
        })
    };
    for record in attempts() {
        let signs = all.entry(record.target).or_default();
        if let Some(attempt) = &record.attempt
            && sign_of(attempt) == Sign::Good
        {
            signs.good_at = signs.good_at.max(Some(attempt.started_at));
        }
        if record.status == DeliveryStatus::Exhausted {
            let at = record.recorded_at;
            let reason = record.reason.clone().unwrap_or_else(|| "unknown".to_owned());
            signs.given_up = Some(match signs.given_up.take() {
                None => (1, at, at, reason),
                Some((times, first, last, _)) if at >= last => (times + 1, first, at, reason),
                Some((times, first, last, reason)) => (times + 1, first.min(at), last, reason),
            });
        }
    }
    for record in attempts() {
        let (Some(attempt), Some(signs)) = (&record.attempt, all.get_mut(&record.target)) else {
            continue;
        };
        let at = attempt.started_at;
        // 410 ends it otherwise: the dispatcher disables the target.
        let counts = sign_of(attempt) == Sign::Bad && record.status != DeliveryStatus::Canceled;
        if counts && signs.good_at.is_none_or(|good| at > good) {
            let why = || match attempt.status_code {
                Some(status) => outcome::reason(Ok(status)),
                None => attempt.error.clone().unwrap_or_default(),
            };
            signs.bad = Some(match signs.bad.take() {
                None => (at, at, why()),
                Some((first, last, _)) if at >= last => (first, at, why()),
                Some((first, last, reason)) => (first.min(at), last, reason),
            });
        }
    }
    all
}

/// What follows from a batch's signs, given what is known of the target.
///
/// A target that has failed for half of `disable_after` is warned of; one that has failed for all of it is
/// disabled, if the other half has passed since the warning: an attempt that comes late, or two that lie days
/// apart, end nothing unannounced.
#[must_use]
pub fn changes(signs: &Signs, known: Option<&Health>, disable_after: Option<Duration>) -> Vec<HealthChange> {
    let mut changes = Vec::new();
    if let Some((times, first, last, reason)) = &signs.given_up {
        changes.push(HealthChange::GivenUp(*times, *first, *last, reason.clone()));
    }
    let mut known = known.copied().unwrap_or(Health {
        good_at: Millis(0),
        failing_since: None,
        warned_at: None,
    });
    if let Some(good) = signs.good_at
        && known.failing_since.is_some_and(|since| since < good)
    {
        changes.push(HealthChange::Good(good));
        known = Health {
            good_at: good,
            failing_since: None,
            warned_at: None,
        };
    }
    let Some((first, last, reason)) = signs.bad.as_ref().filter(|(first, ..)| *first > known.good_at) else {
        return changes;
    };
    let since = known.failing_since.unwrap_or_else(|| {
        changes.push(HealthChange::Failing(*first));
        *first
    });
    let Some(after) = disable_after else {
        return changes;
    };
    match known.warned_at {
        None if last.since(since) >= after / 2 => changes.push(HealthChange::Warn(*last, reason.clone())),
        Some(warned) if last.since(since) >= after && last.since(warned) >= after / 2 => {
            changes.push(HealthChange::Disable(format!(
                "every attempt since {} failed, the last with {reason}",
                since.to_rfc3339()
            )));
        }
        None | Some(_) => {}
    }
    changes
}

/// Whether a target was disabled for its 410, which the dispatcher does before it reports the attempt.
fn is_gone(record: &HistoryRecord) -> bool {
    match record {
        HistoryRecord::Attempt(record) => {
            let status = record.attempt.as_ref().and_then(|attempt| attempt.status_code);
            record.status == DeliveryStatus::Canceled && status == Some(410)
        }
        HistoryRecord::Event(_) => false,
    }
}

/// Notes what a batch says; whether there is something to be told now.
///
/// # Errors
/// `Unavailable`: the same call may be repeated.
pub async fn note(
    catalog: &Catalog,
    records: &[HistoryRecord],
    disable_after: Option<Duration>,
) -> Result<bool, CatalogError> {
    let gone = records.iter().any(is_gone);
    let signs = signs(records);
    let targets: Vec<TargetId> = signs
        .iter()
        .filter(|(_, signs)| **signs != Signs::default())
        .map(|(target, _)| *target)
        .collect();
    if targets.is_empty() {
        return Ok(gone);
    }
    let known = catalog.health(&targets).await?;
    let all: Vec<(TargetId, HealthChange)> = targets
        .iter()
        .flat_map(|target| {
            let changes = changes(&signs[target], known.get(target), disable_after);
            changes.into_iter().map(move |change| (*target, change))
        })
        .collect();
    if all.is_empty() {
        return Ok(gone);
    }
    catalog.change_health(&all).await?;
    let urgent = |change: &HealthChange| matches!(change, HealthChange::Warn(..) | HealthChange::Disable(_));
    Ok(gone || all.iter().any(|(_, change)| urgent(change)))
}

#[cfg(test)]
mod tests;
