//! SQL put together, values bound to it and read from its rows.

use crate::catalog::CatalogError;
use schemas::ids::Tenant;
use schemas::time::Millis;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, Arguments, AssertSqlSafe, ColumnIndex, Row};

/// SQL put together from parts, and its arguments. Only literals of this crate become text;
/// values are always bound.
pub(crate) struct Sql {
    text: String,
    arguments: AnyArguments,
}

impl Sql {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            arguments: AnyArguments::default(),
        }
    }

    /// Adds text.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value, and its placeholder to the text.
    pub(crate) fn bind<'v, T>(&mut self, value: T) -> &mut Self
    where
        T: sqlx::Encode<'v, Any> + sqlx::Type<Any>,
    {
        bind(&mut self.arguments, value);
        self.text.push('$');
        self.text.push_str(&self.arguments.len().to_string());
        self
    }

    /// The query, to run.
    pub(crate) fn query(self) -> sqlx::query::Query<'static, Any, AnyArguments> {
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments)
    }
}

/// Adds a value to the arguments.
pub(crate) fn bind<'v, T>(arguments: &mut AnyArguments, value: T)
where
    T: sqlx::Encode<'v, Any> + sqlx::Type<Any>,
{
    arguments
        .add(value)
        // Unwrap safety: for `Any`, encoding only puts the value into a vector.
        .expect("any value can be put into a vector");
}

/// Reads a number that was stored from a narrower unsigned one.
pub(crate) fn unsigned<N: TryFrom<i64>>(row: &AnyRow, column: usize) -> Result<N, CatalogError> {
    let number: i64 = row.try_get(column)?;
    N::try_from(number).map_err(|_| broken(row, column))
}

/// Reads a tenant's name.
pub(crate) fn tenant(row: &AnyRow, column: usize) -> Result<Tenant, CatalogError> {
    Tenant::new(row.try_get(column)?).map_err(|_| broken(row, column))
}

/// Reads a moment.
pub(crate) fn millis(row: &AnyRow, column: usize) -> Result<Millis, CatalogError> {
    Ok(Millis(row.try_get(column)?))
}

/// Reads JSON; `None` where there is none.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(
    row: &AnyRow,
    column: usize,
) -> Result<Option<T>, CatalogError> {
    row.try_get::<Option<&str>, _>(column)?
        .map(serde_json::from_str)
        .transpose()
        .map_err(|_| broken(row, column))
}

/// JSON to store.
pub(in crate::catalog) fn json(value: &impl serde::Serialize) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|e| CatalogError::Unavailable(format!("cannot be stored: {e}")))
}

/// The error of a stored value that this version cannot read; names the column, not the value.
pub(crate) fn broken(row: &AnyRow, column: usize) -> CatalogError {
    use sqlx::Column;
    let name = match column.index(row) {
        Ok(at) => row.columns()[at].name(),
        Err(_) => "?",
    };
    CatalogError::Unavailable(format!("a stored {name} is not what this version writes"))
}
