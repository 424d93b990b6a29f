//! Sealing anew: all that is sealed comes under the key that seals now, so that older ones can go.
//!
//! Where this stands is in the values themselves, each of which names its key: an interrupted run is taken up by the
//! next, and the pipeline goes on meanwhile. A value that somebody changes at the same time is left as they have it.

use super::db::{Db, Sql};
use super::{Catalog, CatalogError};
use crate::secrets::{KeyId, MARK_LEN, OpenError};
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// A column whose values are sealed, and the columns that tell its rows apart.
struct Column {
    table: &'static str,
    name: &'static str,
    key: &'static [Part],
}

/// A column of a key.
#[derive(Clone, Copy)]
enum Part {
    Number(&'static str),
    Text(&'static str),
}

/// What stands in it.
#[derive(Clone)]
enum Place {
    Number(i64),
    Text(String),
}

/// All of them, but for the key check in `settings`.
const COLUMNS: [Column; 4] = [
    Column {
        table: "target_secrets",
        name: "sealed",
        key: &[Part::Number("target"), Part::Number("id")],
    },
    Column {
        table: "target_secrets",
        name: "sealed_seed",
        key: &[Part::Number("target"), Part::Number("id")],
    },
    Column {
        table: "targets",
        name: "client_key",
        key: &[Part::Number("id")],
    },
    Column {
        table: "idempotency_keys",
        name: "answer",
        key: &[Part::Text("tenant"), Part::Text("key")],
    },
];

/// How many values are read at once.
const BATCH: usize = 200;

/// What has been sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Values that are under the new key now.
    pub sealed: u64,
    /// Values that were changed or deleted by others meanwhile.
    pub changed: u64,
    /// Values that no configured key opens.
    pub closed: u64,
}

/// How many values are sealed with which key. `None` counts those of a layout this version does not know.
pub type SealedBy = BTreeMap<Option<KeyId>, u64>;

/// A sealed value and its place.
struct Sealed {
    key: Vec<Place>,
    value: Vec<u8>,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Number(name) | Self::Text(name) => name,
        }
    }

    fn read(self, row: &AnyRow, n: usize) -> Result<Place, sqlx::Error> {
        Ok(match self {
            Self::Number(_) => Place::Number(row.try_get(n)?),
            Self::Text(_) => Place::Text(row.try_get(n)?),
        })
    }
}

impl Place {
    fn bind(&self, sql: &mut Sql) {
        match self {
            Self::Number(number) => sql.bind(*number),
            Self::Text(text) => sql.bind(text.clone()),
        };
    }
}

impl Catalog {
    /// The key that seals.
    #[must_use]
    pub fn seals_with(&self) -> KeyId {
        self.sealer.seals_with()
    }

    /// Whether this key is configured.
    #[must_use]
    pub fn opens(&self, key: KeyId) -> bool {
        self.sealer.has(key)
    }

    /// How many values are sealed with which key, the key check counted as one. Reads all of them.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sealed_by(&self) -> Result<SealedBy, CatalogError> {
        let mut counts = SealedBy::new();
        let check = format!(
            "SELECT substr(value, 1, {MARK_LEN}), COUNT(*) FROM settings WHERE name = 'key_check' GROUP BY 1"
        );
        let others = COLUMNS.iter().map(|Column { table, name, .. }| {
            format!(
                "SELECT substr({name}, 1, {MARK_LEN}), COUNT(*) FROM {table} WHERE {name} IS NOT NULL GROUP BY 1"
            )
        });
        for sql in std::iter::once(check).chain(others) {
            for row in Sql::new(sql).query().fetch_all(self.db.of_all()).await? {
                let count: i64 = row.try_get(1)?;
                *counts.entry(KeyId::of(row.try_get(0)?)).or_default() += count.unsigned_abs();
            }
        }
        Ok(counts)
    }

    /// Seals what is sealed with other keys anew, batch by batch; `told` hears how far it is after each. The key
    /// check comes last, and only when nothing else is left: with a key that is still needed gone from the
    /// configuration, no process would start.
    ///
    /// # Errors
    /// `Unavailable`; what was done until then stays done.
    pub async fn reseal(&self, mut told: impl FnMut(Resealed)) -> Result<Resealed, CatalogError> {
        let mut so_far = Resealed::default();
        for column in &COLUMNS {
            let mut after = None;
            loop {
                let batch = self.sealed_otherwise(column, after.as_deref()).await?;
                let last = batch.len() < BATCH;
                after = batch.last().map(|sealed| sealed.key.clone());
                for sealed in batch {
                    match self.sealer.open(&sealed.value) {
                        Ok(plain) => {
                            let new = self.sealer.seal(&plain);
                            match swap(&self.db, column, sealed, new).await? {
                                true => so_far.sealed += 1,
                                false => so_far.changed += 1,
                            }
                        }
                        Err(OpenError::OtherKey { .. } | OpenError::Damaged | OpenError::UnknownVersion) => {
                            so_far.closed += 1;
                        }
                    }
                }
                told(so_far);
                if last {
                    break;
                }
            }
        }
        let others = self.sealed_by().await?;
        let left: u64 = others
            .iter()
            .filter(|(key, _)| **key != Some(self.seals_with()))
            .map(|(_, count)| count)
            .sum();
        if left == 1 && self.reseal_check().await? {
            so_far.sealed += 1;
            told(so_far);
        }
        Ok(so_far)
    }

    /// The next values after these that another key than the present one has sealed.
    async fn sealed_otherwise(
        &self,
        column: &Column,
        after: Option<&[Place]>,
    ) -> Result<Vec<Sealed>, CatalogError> {
        let Column { table, name, key } = column;
        let names: Vec<&str> = key.iter().map(|part| part.name()).collect();
        let names = names.join(", ");
        let mut sql = Sql::new(format!(
            "SELECT {name}, {names} FROM {table} WHERE substr({name}, 1, {MARK_LEN}) <> "
        ));
        sql.bind(self.sealer.mark().to_vec());
        if let Some(after) = after {
            sql.push(&format!(" AND ({names}) > ("));
            for (n, part) in after.iter().enumerate() {
                sql.push(if n > 0 { ", " } else { "" });
                part.bind(&mut sql);
            }
            sql.push(")");
        }
        sql.push(&format!(" ORDER BY {names} LIMIT {BATCH}"));
        let rows = sql.query().fetch_all(self.db.of_all()).await?;
        let sealed = rows.iter().map(|row| {
            Ok(Sealed {
                value: row.try_get(0)?,
                key: (1..)
                    .zip(*key)
                    .map(|(n, part)| part.read(row, n))
                    .collect::<Result<_, _>>()?,
            })
        });
        sealed.collect()
    }
}

/// Puts a value in place of another, if that is still there. A statement of its own: no row stays locked while
/// the next one is sealed, so nobody who changes several waits in a circle.
async fn swap(db: &Db, column: &Column, old: Sealed, new: Vec<u8>) -> Result<bool, CatalogError> {
    let Column { table, name, key } = column;
    let mut sql = Sql::new(format!("UPDATE {table} SET {name} = "));
    sql.bind(new).push(&format!(" WHERE {name} = ")).bind(old.value);
    for (part, value) in key.iter().zip(old.key) {
        sql.push(&format!(" AND {} = ", part.name()));
        value.bind(&mut sql);
    }
    let mut write = db.begin_of_all().await?;
    let changed = sql.query().execute(write.on()).await?.rows_affected();
    write.commit().await?;
    Ok(changed == 1)
}
