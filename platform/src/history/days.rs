//! Days: on Postgres attempts lie in a partition for each UTC day of acceptance, and a day past its time goes at once,
//! without a row being touched.
//!
//! Nothing depends on a day's partition being there. What has none goes to `attempts_default`, and is removed row by
//! row like everything in SQLite; so does what was there before there were days (`attempts_before`).
//!
//! Both changes want a lock that nobody else may share for a moment. Whoever asks for such a lock makes all others stand
//! behind him, so he asks for [`SHORTLY`] only and comes back at the next run.

use super::History;
use super::tally::DAY;
use crate::catalog::CatalogError;
use crate::catalog::db::{Dialect, bounded};
use schemas::time::Millis;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};
use std::sync::Once;

/// Days that are there ahead of time: so long may no recorder run and new attempts still find their day.
const AHEAD: i64 = 7;

/// How long a change waits for those who read and write, and others behind it: longer than a batch takes to be written.
/// Looking through what lies in `attempts_default`, for rows of a new day, is bounded too.
const SHORTLY: &str = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '3s'";

/// Taken by one who makes a day, in each schema of a Postgres.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1752329581, hashtext(current_schema()))";

/// The partitions of attempts; a bound that is open, as both of `attempts_default` are, is null.
const PARTS: &str = "SELECT CAST(format('%I.%I', n.nspname, c.relname) AS TEXT), \
    CAST(substring(b.bound FROM 'FROM \\(''?(-?[0-9]+)') AS BIGINT), \
    CAST(substring(b.bound FROM 'TO \\(''?(-?[0-9]+)') AS BIGINT) \
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b \
    WHERE i.inhparent = to_regclass('attempts') ORDER BY 3";

/// A partition of attempts.
#[derive(Debug)]
struct Part {
    /// As SQL takes it.
    name: String,
    /// The first moment in it.
    from: Option<i64>,
    /// The first moment after it.
    to: Option<i64>,
}

impl Part {
    fn holds_some_of(&self, day: i64) -> bool {
        let is_default = self.from.is_none() && self.to.is_none();
        let begins = self.from.is_none_or(|from| from < day.saturating_add(DAY));
        !is_default && begins && self.to.is_none_or(|to| to > day)
    }

    fn is_over(&self, before: i64) -> bool {
        self.to.is_some_and(|to| to <= before)
    }
}

/// Today and the days ahead that no partition has anything of: when each begins.
fn missing(now: Millis, parts: &[Part]) -> Vec<i64> {
    let today = now.0.div_euclid(DAY);
    let days = (today..=today.saturating_add(AHEAD)).map(|day| day.saturating_mul(DAY));
    days.filter(|day| !parts.iter().any(|part| part.holds_some_of(*day)))
        .collect()
}

/// Whether a day has begun, or begins within 24 hours: with that it has been missing for six days.
fn is_near(now: Millis, day: i64) -> bool {
    day <= now.0.saturating_add(DAY)
}

/// Up to where rows are removed one by one. A day that is not yet over its time is left whole: row by row nothing would
/// be left of it to drop.
fn row_by_row(before: Millis, parts: &[Part]) -> Millis {
    let days = parts.iter().filter_map(|part| part.from);
    Millis(days.fold(before.0, i64::min))
}

/// Why a change was not made.
enum Refusal {
    /// Somebody reads or writes for long: another time.
    NotNow,
    /// Rows of that day lie in `attempts_default`, and it is left to that.
    HasRows,
    /// The database does not let us.
    Never,
    /// No answer.
    Away(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        static TOLD: Once = Once::new();
        let Some(refusal) = error.as_database_error() else {
            return Self::Away(error);
        };
        match refusal.code().as_deref() {
            // lock_not_available, query_canceled (by the time limit), deadlock_detected
            Some("55P03" | "57014" | "40P01") => Self::NotNow,
            // check_violation: a row came in between.
            Some("23514") => Self::HasRows,
            _ => {
                TOLD.call_once(|| {
                    tracing::warn!(
                        error = refusal.message(),
                        "cannot make or drop days of history: the recorder's role must own the table attempts; \
                         until then attempts are removed row by row"
                    );
                });
                Self::Never
            }
        }
    }
}

impl History {
    /// Makes the partitions of today and the seven days ahead that are not there yet, as far as the database allows just
    /// now: how many were made. Does nothing on SQLite. May be run by several at once.
    ///
    /// # Errors
    /// `Unavailable`; days made so far stay.
    pub async fn make_days(&self, now: Millis) -> Result<u32, CatalogError> {
        bounded(async {
            let mut made = 0;
            let parts = self.parts().await?;
            if parts.is_empty() {
                return Ok(0);
            }
            for day in missing(now, &parts) {
                match self.make_day(day).await {
                    Ok(()) => made += 1,
                    Err(Refusal::HasRows) => {}
                    Err(Refusal::NotNow) => {
                        if is_near(now, day) {
                            tracing::warn!(
                                day = &Millis(day).to_rfc3339()[..10],
                                "cannot make a day of history that is near: for long somebody reads or writes attempts, or \
                                 attempts_default is too large to be looked through within 3 s; what no day is made for \
                                 is removed row by row"
                            );
                        }
                        break;
                    }
                    Err(Refusal::Never) => break,
                    Err(Refusal::Away(error)) => return Err(error.into()),
                }
            }
            Ok(made)
        })
        .await
    }

    /// Drops the partitions that are over before `before`. Answers up to where rows are to be removed one by one.
    ///
    /// # Errors
    /// `Unavailable`; what was dropped stays so.
    pub(super) async fn drop_days(&self, before: Millis) -> Result<Millis, CatalogError> {
        let mut parts = self.parts().await?;
        while let Some(at) = parts.iter().position(|part| part.is_over(before.0)) {
            match self.drop_part(&parts[at]).await {
                Ok(()) => drop(parts.swap_remove(at)),
                Err(Refusal::NotNow) => break,
                Err(Refusal::HasRows | Refusal::Never) => return Ok(before),
                Err(Refusal::Away(error)) => return Err(error.into()),
            }
        }
        Ok(row_by_row(before, &parts))
    }

    /// None on SQLite.
    async fn parts(&self) -> Result<Vec<Part>, CatalogError> {
        if self.db.dialect == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(PARTS).fetch_all(self.db.of_all()).await?;
        let parts = rows.iter().map(|row| {
            Ok(Part {
                name: row.try_get(0)?,
                from: row.try_get(1)?,
                to: row.try_get(2)?,
            })
        });
        parts.collect()
    }

    async fn make_day(&self, day: i64) -> Result<(), Refusal> {
        let next = day.saturating_add(DAY);
        let date = Millis(day).to_rfc3339();
        let name = format!("attempts_{}", date[..10].replace('-', "_"));
        let mut tx = self.shortly().await?;
        sqlx::query(LOCK).execute(&mut *tx).await?;
        // Asked before any lock that others would feel.
        let taken: bool = sqlx::query(
            "SELECT to_regclass($1) IS NOT NULL OR EXISTS \
             (SELECT 1 FROM attempts_default WHERE accepted_at >= $2 AND accepted_at < $3)",
        )
        .bind(&name)
        .bind(day)
        .bind(next)
        .fetch_one(&mut *tx)
        .await?
        .try_get(0)?;
        if taken {
            return Err(Refusal::HasRows);
        }
        // `PARTITION OF` would lock the whole of attempts; this locks attempts_default only.
        sqlx::raw_sql(AssertSqlSafe(format!(
            "CREATE TABLE {name} (LIKE attempts INCLUDING ALL); \
             ALTER TABLE attempts ATTACH PARTITION {name} FOR VALUES FROM ({day}) TO ({next})"
        )))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn drop_part(&self, part: &Part) -> Result<(), Refusal> {
        let mut tx = self.shortly().await?;
        // Another recorder may have dropped it.
        sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE IF EXISTS {}", part.name)))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Begins a transaction that waits for nobody for long.
    async fn shortly(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        let mut tx = self.db.of_all().begin().await?;
        sqlx::raw_sql(SHORTLY).execute(&mut *tx).await?;
        Ok(tx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(from: Option<i64>, to: Option<i64>) -> Part {
        Part {
            name: "p".to_owned(),
            from: from.map(|day| day * DAY),
            to: to.map(|day| day * DAY),
        }
    }

    const DEFAULT: (Option<i64>, Option<i64>) = (None, None);

    fn days_missing(now: i64, parts: &[(Option<i64>, Option<i64>)]) -> Vec<i64> {
        let parts: Vec<Part> = parts.iter().map(|(from, to)| part(*from, *to)).collect();
        missing(Millis(now), &parts).iter().map(|day| day / DAY).collect()
    }

    #[test]
    fn a_day_is_near_from_24_hours_before_its_first_moment_on() {
        let near = |now, day| is_near(Millis(now), day * DAY);
        assert!(near(100 * DAY, 101) && !near(100 * DAY - 1, 101));
        assert!(near(100 * DAY + 1, 100), "it has begun");
        assert!(near(i64::MAX, 100));
    }

    #[test]
    fn days_are_missing_from_today_to_a_week_ahead_where_nothing_is_there_of_them() {
        let noon = 100 * DAY + DAY / 2;
        let week: Vec<i64> = (100..=107).collect();
        assert_eq!(days_missing(noon, &[DEFAULT]), week);
        assert_eq!(days_missing(100 * DAY, &[DEFAULT]), week, "its first moment");
        assert_eq!(days_missing(101 * DAY - 1, &[DEFAULT]), week, "its last moment");
        let before = (None, Some(102));
        assert_eq!(days_missing(noon, &[before, DEFAULT]), week[2..]);
        let day = |day| (Some(day), Some(day + 1));
        assert_eq!(
            days_missing(noon, &[before, day(102), day(104), DEFAULT]),
            [103, 105, 106, 107]
        );
        let month = (Some(103), Some(133));
        assert_eq!(
            days_missing(noon, &[before, month, DEFAULT]),
            [102],
            "an operator's own"
        );
        let rest = (Some(105), None);
        assert_eq!(days_missing(noon, &[before, rest, DEFAULT]), [102, 103, 104]);
        assert_eq!(
            days_missing(-1, &[DEFAULT])[..2],
            [-1, 0],
            "a clock before all time"
        );
    }

    #[test]
    fn a_part_is_over_when_its_end_is_not_after_the_bound() {
        let day = part(Some(100), Some(101));
        assert!(!day.is_over(101 * DAY - 1));
        assert!(day.is_over(101 * DAY));
        assert!(part(None, Some(101)).is_over(101 * DAY));
        assert!(!part(None, None).is_over(i64::MAX));
        assert!(!part(Some(100), None).is_over(i64::MAX));
    }

    #[test]
    fn rows_are_removed_one_by_one_up_to_the_first_day_that_is_left() {
        let before = Millis(100 * DAY + 5);
        assert_eq!(row_by_row(before, &[]), before);
        assert_eq!(
            row_by_row(before, &[part(None, None), part(None, Some(200))]),
            before
        );
        let later = part(Some(101), Some(102));
        assert_eq!(row_by_row(before, &[later]), before);
        let today = part(Some(100), Some(101));
        assert_eq!(row_by_row(before, &[today]), Millis(100 * DAY));
        let stuck = [part(Some(98), Some(99)), part(Some(100), Some(101))];
        assert_eq!(row_by_row(before, &stuck), Millis(98 * DAY));
    }
}
