//! A target's rate limit in its two columns: by the second, and by the minute.

use super::CatalogError;
use super::db::broken;
use schemas::rate::{Period, RateLimit};
use sqlx::Row;
use sqlx::any::AnyRow;

/// What the column of this period holds.
pub(super) fn rate_by(rate: Option<RateLimit>, period: Period) -> Option<i64> {
    rate.filter(|rate| rate.period() == period)
        .map(|rate| i64::from(rate.count()))
}

/// The rate limit of two columns, the one by the second first. Where both are set that one counts: see
/// migration 4.
pub(super) fn rate(row: &AnyRow, first: usize) -> Result<Option<RateLimit>, CatalogError> {
    for (column, period) in [(first, Period::Second), (first + 1, Period::Minute)] {
        if let Some(count) = row.try_get::<Option<i64>, _>(column)? {
            let count = u32::try_from(count).ok();
            let rate = count.and_then(|count| RateLimit::new(count, period));
            return rate.map(Some).ok_or_else(|| broken(row, column));
        }
    }
    Ok(None)
}
