//! Tallies into the database, in the transaction of what they count.
//!
//! One after the other: who settles holds a lock until the end of its transaction, and so reads, adds up and writes
//! what nobody else changes. It is the last step before the commit.

use super::statement::Statement;
use super::tally::{ALL_TYPES, Cell, Changes, Kind, OTHER_TYPES, Tally};
use crate::catalog::CatalogError;
use crate::catalog::db::{Dialect, bind, broken, unsigned};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Event types of one target, or of all, that are counted apart in an hour or a day. Those that come when there are so
/// many share one cell: whoever makes types out of ids shall not make a row of each.
pub(super) const MOST_TYPES: u64 = 100;

/// Taken by one settling transaction at a time, in each schema of a Postgres.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1752329580, hashtext(current_schema()))";

/// The statements on cells.
pub(super) struct Cells {
    dialect: Dialect,
    read: Statement,
    count_types: Statement,
    write: Statement,
}

impl Cells {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            read: Statement::new(
                dialect,
                "WITH k (tenant, target, event_type, span, at) AS (",
                5,
                ") SELECT s.tenant, s.target, s.event_type, s.span, s.at, s.tally FROM k CROSS JOIN stats s \
                 WHERE s.tenant = k.tenant AND s.target = k.target AND s.event_type = k.event_type \
                 AND s.span = k.span AND s.at = k.at",
            ),
            count_types: Statement::new(
                dialect,
                "WITH k (tenant, target, span, at) AS (",
                4,
                &format!(
                    ") SELECT s.tenant, s.target, s.span, s.at, COUNT(*) FROM k CROSS JOIN stats s \
                     WHERE s.tenant = k.tenant AND s.target = k.target AND s.span = k.span AND s.at = k.at \
                     AND s.event_type NOT IN ('{ALL_TYPES}', '{OTHER_TYPES}') \
                     GROUP BY s.tenant, s.target, s.span, s.at"
                ),
            ),
            write: Statement::new(
                dialect,
                "INSERT INTO stats (tenant, target, event_type, span, at, tally)",
                6,
                "ON CONFLICT (tenant, target, event_type, span, at) DO UPDATE SET tally = excluded.tally",
            ),
        }
    }

    /// Adds what a transaction changes to what is counted.
    pub(super) async fn settle(&self, on: &mut AnyConnection, changes: Changes) -> Result<(), CatalogError> {
        let mut cells = changes.cells();
        if cells.is_empty() {
            return Ok(());
        }
        if self.dialect == Dialect::Postgres {
            sqlx::query(LOCK).execute(&mut *on).await?;
        }
        let mut stored = self.read(on, cells.keys()).await?;
        let strangers: Vec<Cell> = cells
            .keys()
            .filter(|cell| cell.is_of_one_type() && !stored.contains_key(cell))
            .cloned()
            .collect();
        if !strangers.is_empty() {
            let others = self.admit(on, &mut cells, strangers).await?;
            stored.extend(self.read(on, others.iter()).await?);
        }
        for (cell, tally) in &mut cells {
            if let Some(before) = stored.get(cell) {
                tally.add(before);
            }
            tally.settle();
        }
        self.write.run(on, cells.iter(), bind_tally).await?;
        Ok(())
    }

    /// Lets event types in that have no cell yet while there is room, and moves what is left into the cells of other
    /// types: answers those. A type once let in stays, and one that was not never is, since types only become more:
    /// what is taken away goes from where it was added.
    async fn admit(
        &self,
        on: &mut AnyConnection,
        cells: &mut BTreeMap<Cell, Tally>,
        strangers: Vec<Cell>,
    ) -> Result<BTreeSet<Cell>, CatalogError> {
        let mut groups: BTreeMap<Cell, u64> = BTreeMap::new();
        for cell in &strangers {
            groups.insert(cell.clone().of_other_types(), 0);
        }
        let asked: Vec<Cell> = groups.keys().cloned().collect();
        let counts = self.count_types.run(on, asked.iter(), bind_group).await?;
        for row in &counts {
            let kind = Kind {
                tenant: row.try_get::<&str, _>(0)?.into(),
                target: row.try_get(1)?,
                event_type: OTHER_TYPES.into(),
            };
            let group = Cell {
                kind,
                span: row.try_get(2)?,
                at: row.try_get(3)?,
            };
            groups.insert(group, unsigned(row, 4)?);
        }
        let mut others = BTreeSet::new();
        for cell in strangers {
            let group = cell.clone().of_other_types();
            let types = groups.entry(group.clone()).or_default();
            if *types < MOST_TYPES {
                *types += 1;
            } else if let Some(change) = cells.remove(&cell) {
                cells.entry(group.clone()).or_default().add(&change);
                others.insert(group);
            }
        }
        Ok(others)
    }

    async fn read<'c>(
        &self,
        on: &mut AnyConnection,
        cells: impl ExactSizeIterator<Item = &'c Cell>,
    ) -> Result<BTreeMap<Cell, Tally>, CatalogError> {
        let rows = self.read.run(on, cells, bind_cell).await?;
        rows.iter().map(|row| Ok((cell(row)?, tally(row, 5)?))).collect()
    }
}

fn cell(row: &AnyRow) -> Result<Cell, CatalogError> {
    let kind = Kind {
        tenant: row.try_get::<&str, _>(0)?.into(),
        target: row.try_get(1)?,
        event_type: row.try_get::<&str, _>(2)?.into(),
    };
    Ok(Cell {
        kind,
        span: row.try_get(3)?,
        at: row.try_get(4)?,
    })
}

/// Reads a tally.
pub(super) fn tally(row: &AnyRow, column: usize) -> Result<Tally, CatalogError> {
    serde_json::from_str(row.try_get(column)?).map_err(|_| broken(row, column))
}

fn bind_cell(to: &mut AnyArguments, cell: &Cell) {
    bind(to, &*cell.kind.tenant);
    bind(to, cell.kind.target);
    bind(to, &*cell.kind.event_type);
    bind(to, cell.span);
    bind(to, cell.at);
}

fn bind_group(to: &mut AnyArguments, group: &Cell) {
    bind(to, &*group.kind.tenant);
    bind(to, group.kind.target);
    bind(to, group.span);
    bind(to, group.at);
}

fn bind_tally(to: &mut AnyArguments, (cell, tally): (&Cell, &Tally)) {
    bind_cell(to, cell);
    // Unwrap safety: words and numbers, as text.
    let text = serde_json::to_string(tally).expect("words and numbers serialise");
    bind(to, text.as_str());
}
