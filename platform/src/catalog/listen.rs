//! Hearing of changes as they are made: Postgres tells those who listen at each commit. SQLite tells
//! nobody; its other processes are found by asking.

use super::db::{CONNECT_LIMIT, Dialect};
use super::{Catalog, CatalogError};
use sqlx::postgres::PgListener;
use std::time::Duration;

/// What is told, with the schema as payload: installations that share a database share the channel.
/// Equal notices of one transaction are one. NOTIFY lets one transaction of the whole server commit at a
/// time; ours already wait for each other at the feed's head.
pub(super) const TELL: &str = "pg_notify('hookwright_changes', current_schema())";
const CHANNEL: &str = "hookwright_changes";

/// How long nothing may be heard before the connection is tried: one that was dropped on the way without
/// a word is silent too.
const QUIET: Duration = Duration::from_secs(30);

/// A connection that hears of this schema's changes.
pub(crate) struct Listener {
    connection: PgListener,
    schema: String,
}

impl Catalog {
    /// Listens, on a connection of its own. `None` when the database tells nobody. A pooler between may
    /// let it listen and never pass anything on.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn listen(&self) -> Result<Option<Listener>, CatalogError> {
        if self.db.dialect == Dialect::Sqlite {
            return Ok(None);
        }
        let options = self.db.of_all().connect_options();
        let listen = async {
            let mut connection = PgListener::connect(options.database_url.as_str()).await?;
            // Lost is lost: whoever listens again looks at what was missed.
            connection.eager_reconnect(false);
            let schema = sqlx::query_scalar("SELECT current_schema()::text")
                .fetch_one(&mut connection)
                .await?;
            connection.listen(CHANNEL).await?;
            Ok(Listener { connection, schema })
        };
        in_time(listen).await.map(Some)
    }
}

impl Listener {
    /// Returns when something has changed. May be dropped half-way.
    ///
    /// # Errors
    /// `Unavailable` when the connection is lost.
    pub(crate) async fn heard(&mut self) -> Result<(), CatalogError> {
        loop {
            match tokio::time::timeout(QUIET, self.connection.try_recv()).await {
                Ok(Ok(Some(notice))) if notice.payload() == self.schema => return Ok(()),
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => return Err(CatalogError::Unavailable("the connection was lost".to_owned())),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    let alive = sqlx::query("SELECT 1").execute(&mut self.connection);
                    in_time(alive).await?;
                }
            }
        }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, CatalogError> {
    match tokio::time::timeout(CONNECT_LIMIT, call).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(CatalogError::Unavailable(format!(
            "no answer within {} s",
            CONNECT_LIMIT.as_secs()
        ))),
    }
}
