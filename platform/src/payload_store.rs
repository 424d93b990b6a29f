//! Port: the payload store, where payloads lie that are too large for a queue message, and packs of
//! deliveries that wait long.
//!
//! Two adapters: [`s3`] and [`embedded`] (a directory), one conformance suite.

pub mod embedded;
pub mod s3;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::delivery::PayloadPointer;
use schemas::schedule::MAX_WINDOW;
use std::time::Duration;

/// Why a payload could not be put or got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Trying again later may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The object is not there: it expired, or was never written.
    #[error("payload {key} is not in the store")]
    Missing {
        /// The object's key.
        key: String,
    },
    /// The object is not what was put: another length or hash.
    #[error("payload {key} does not match its length and hash")]
    Damaged {
        /// The object's key.
        key: String,
    },
}

/// How long a payload is kept: the longest retry window of 7 days, and the better part of the 14 days
/// that a dead letter lies in its queue.
pub const KEPT: Duration = Duration::from_secs(16 * 24 * 3600);

/// From this age on a payload that is put again begins a new life: the longest retry window, and a day, are not
/// left of the old one.
pub const RENEWED: Duration = Duration::from_secs(KEPT.as_secs() - MAX_WINDOW.as_secs() - 24 * 3600);

/// Where large payloads lie.
#[async_trait]
pub trait PayloadStore: Send + Sync {
    /// Puts a payload under a key; durable when it answers. Putting the same payload again under
    /// the same key is no error and answers the same; it is kept for the longest retry window from then on, at
    /// least. Keys: 1 to 512 characters of `[A-Za-z0-9/_.-]`
    /// without `..` or a leading `/`.
    ///
    /// # Errors
    /// [`PayloadError::Unavailable`]; [`PayloadError::Damaged`] when the key holds another payload.
    async fn put(&self, key: &str, payload: Bytes) -> Result<PayloadPointer, PayloadError>;

    /// Gets a payload and checks its length and hash against the pointer.
    ///
    /// # Errors
    /// As the variants of [`PayloadError`] say.
    async fn get(&self, pointer: &PayloadPointer) -> Result<Bytes, PayloadError>;

    /// Deletes a payload that is needed no more; durable when it answers. One that is not there is none to
    /// delete. The key may be put again.
    ///
    /// # Errors
    /// [`PayloadError::Unavailable`].
    async fn delete(&self, pointer: &PayloadPointer) -> Result<(), PayloadError>;

    /// Deletes the payloads older than this; how many there were. A store that does so by itself, as
    /// S3 by the rule that [`PayloadStore::provision`] gives it, has nothing to do.
    ///
    /// # Errors
    /// [`PayloadError::Unavailable`] naming what could not be read or deleted.
    async fn expire(&self, _older_than: Duration) -> Result<u64, PayloadError> {
        Ok(0)
    }

    /// Creates the bucket or directory, with expiry by age. Safe to repeat.
    ///
    /// # Errors
    /// Says what could not be created.
    async fn provision(&self) -> Result<(), PayloadError>;

    /// Whether the store is there and can be reached. A directory is written to as well. A bucket is
    /// not: every process checks at its start, and only the consumer has the right to put objects.
    ///
    /// # Errors
    /// Says what is wrong.
    async fn check(&self) -> Result<(), PayloadError>;
}
