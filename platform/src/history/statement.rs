//! One statement for many rows.
//!
//! Each statement costs SQLite a thread hop and Postgres a round trip, so a statement carries many
//! rows: powers of two up to [`MOST_ROWS`], so that few different ones stay prepared whatever the
//! length of a batch.

use crate::catalog::CatalogError;
use crate::catalog::db::Dialect;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};
use std::sync::Arc;

/// Rows in one statement at most.
const MOST_ROWS: usize = 64;

/// A statement with a list of rows in it, for each length of the list.
pub(super) struct Statement {
    /// For 64 rows, 32, 16, … 1.
    lengths: Vec<(usize, Arc<str>)>,
}

impl Statement {
    /// `head`, `VALUES` with so many columns a row, and `tail`.
    pub(super) fn new(dialect: Dialect, head: &str, columns: usize, tail: &str) -> Self {
        let mut lengths = Vec::new();
        let mut rows = MOST_ROWS;
        while rows > 0 {
            let mut sql = format!("{head} VALUES ");
            for row in 0..rows {
                sql.push_str(if row == 0 { "(" } else { ", (" });
                for column in 1..=columns {
                    sql.push_str(if column == 1 { "" } else { ", " });
                    match dialect {
                        // To SQLite `$1` is a name, which it looks up in a list for each value: half
                        // the time of a statement with hundreds of them.
                        Dialect::Sqlite => sql.push('?'),
                        Dialect::Postgres => {
                            sql.push('$');
                            sql.push_str(&(row * columns + column).to_string());
                        }
                    }
                }
                sql.push(')');
            }
            sql.push(' ');
            sql.push_str(tail);
            lengths.push((rows, sql.into()));
            rows /= 2;
        }
        Self { lengths }
    }

    /// Runs it over all rows, as many at a time as it takes: what it answers.
    pub(super) async fn run<R>(
        &self,
        on: &mut AnyConnection,
        mut rows: impl ExactSizeIterator<Item = R>,
        bind_row: impl Fn(&mut AnyArguments, R),
    ) -> Result<Vec<AnyRow>, CatalogError> {
        let mut answer = Vec::new();
        while let Some(query) = self.next(&mut rows, &bind_row) {
            answer.extend(query.fetch_all(&mut *on).await?);
        }
        Ok(answer)
    }

    /// Runs it over all rows: how many of the table's it has put in or changed.
    pub(super) async fn count<R>(
        &self,
        on: &mut AnyConnection,
        mut rows: impl ExactSizeIterator<Item = R>,
        bind_row: impl Fn(&mut AnyArguments, R),
    ) -> Result<u64, CatalogError> {
        let mut count = 0;
        while let Some(query) = self.next(&mut rows, &bind_row) {
            count += query.execute(&mut *on).await?.rows_affected();
        }
        Ok(count)
    }

    /// The statement for as many of the rows left as one takes; `None` when none is left.
    fn next<R>(
        &self,
        rows: &mut impl ExactSizeIterator<Item = R>,
        bind_row: &impl Fn(&mut AnyArguments, R),
    ) -> Option<Query<'static, Any, AnyArguments>> {
        let (count, sql) = self.lengths.iter().find(|(count, _)| *count <= rows.len())?;
        let mut arguments = AnyArguments::default();
        for row in rows.take(*count) {
            bind_row(&mut arguments, row);
        }
        Some(sqlx::query_with(AssertSqlSafe(sql.clone()), arguments))
    }
}
