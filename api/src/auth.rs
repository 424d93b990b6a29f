//! Who is asking: API keys, and the admin key.
//!
//! A tenant's key is looked up in the catalog by its SHA-256 and remembered for a moment, so that
//! publishing costs no database request. While the database is away, a key that was good within
//! the last quarter of an hour stays good, since publishing needs only the log. A key that expires does so
//! at its time, remembered or not.
//!
//! What a key may be used for is asked by the extractors of `access`.

use crate::problem::Problem;
use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use moka::Expiry;
use moka::future::Cache;
use platform::catalog::{Catalog, CatalogError, KeyRow};
use platform::clock::Clock;
use platform::telemetry::Outage;
use ring::{digest, hmac};
use schemas::ids::Tenant;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

/// How long a good key is not asked for again. With [`PATIENCE`] and [`FOUND_FOR`](crate::access::FOUND_FOR) it
/// makes the two seconds after which a revoked key must be refused everywhere.
const GOOD_FOR: Duration = Duration::from_millis(1400);
/// How long an unknown key is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// How long the database has to answer for a key that was good before.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a key is taken as still good before an absent database is asked again.
const STALE_FOR: Duration = Duration::from_secs(5);
/// How long a key that was good stays good while the database is away.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
/// At most so many keys are remembered.
const CAPACITY: u64 = 100_000;
/// So many keys that were not good lately are looked up at a time: whoever tries keys out takes no more of the
/// database's connections than that.
const STRANGERS: usize = 2;
/// What every tenant's key begins with (see `platform::secrets::new_api_key`).
const KEY_PREFIX: &str = "hk_";
/// No key is longer.
const LONGEST_KEY: usize = 200;

/// The most keys whose use waits to be written down. What does not fit is written at a later use.
const MOST_USED: usize = 1024;

/// Whom a request speaks for.
#[derive(Debug)]
pub struct Caller {
    /// The tenant.
    pub tenant: Tenant,
    /// Its name, ready to stand in a record's header.
    pub name: Bytes,
    /// The key that the request brought.
    pub key: KeyRow,
}

/// Proof that a request brought the admin key.
#[derive(Clone, Copy, Debug)]
pub struct Admin;

type Hash = [u8; digest::SHA256_OUTPUT_LEN];

#[derive(Clone)]
enum Answer {
    Good(Arc<Caller>),
    /// Was good; the database is away.
    Stale(Arc<Caller>),
    Unknown,
}

struct Lifetimes;

impl Expiry<Hash, Answer> for Lifetimes {
    fn expire_after_create(&self, _: &Hash, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(match answer {
            Answer::Good(_) => GOOD_FOR,
            Answer::Stale(_) => STALE_FOR,
            Answer::Unknown => UNKNOWN_FOR,
        })
    }
}

/// The keys seen lately, and the admin key.
pub struct Keys {
    answers: Cache<Hash, Answer>,
    last_good: Cache<Hash, Arc<Caller>>,
    strangers: Semaphore,
    admin: Option<(hmac::Key, hmac::Tag)>,
    clock: Clock,
    used: mpsc::Sender<i64>,
}

/// Keys that were used, whose use is to be written down.
pub struct Uses(mpsc::Receiver<i64>);

impl Uses {
    /// Writes down when keys are used, for ever. No request waits for it: while the database is away or slow,
    /// uses are left out.
    pub async fn note(mut self, catalog: Catalog) -> Infallible {
        let mut keys = Vec::new();
        while self.0.recv_many(&mut keys, MOST_USED).await > 0 {
            if let Err(error) = catalog.keys_used(&keys).await {
                tracing::debug!(%error, "the last use of keys is not noted");
            }
            keys.clear();
        }
        std::future::pending().await
    }
}

impl Keys {
    /// No keys seen yet; and what is to be written down of those that will be.
    #[must_use]
    pub fn new(admin_key: Option<&str>, clock: Clock) -> (Self, Uses) {
        let (used, uses) = mpsc::channel(MOST_USED);
        let keys = Self {
            answers: Cache::builder()
                .max_capacity(CAPACITY)
                .expire_after(Lifetimes)
                .build(),
            last_good: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            strangers: Semaphore::new(STRANGERS),
            admin: admin_key.map(|key| {
                let keyed = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
                let tag = hmac::sign(&keyed, key.as_bytes());
                (keyed, tag)
            }),
            clock,
            used,
        };
        (keys, Uses(uses))
    }

    /// Forgets all keys: one was revoked here.
    pub fn forget(&self) {
        self.answers.invalidate_all();
        self.last_good.invalidate_all();
    }

    /// Whom the request speaks for, by the key it brought.
    ///
    /// # Errors
    /// 401 without a good key, 403 for the admin key, 503 when the database is away and the key
    /// was not seen lately.
    pub async fn caller(
        &self,
        catalog: &Catalog,
        database: &Outage,
        headers: &HeaderMap,
    ) -> Result<Arc<Caller>, Problem> {
        let key = bearer(headers)?;
        if !key.starts_with(KEY_PREFIX) {
            // Not worth a question to the database.
            return Err(self.unknown(key));
        }
        // Unwrap safety: SHA-256 gives as many bytes as `Hash` has.
        let hash: Hash = digest::digest(&digest::SHA256, key.as_bytes())
            .as_ref()
            .try_into()
            .expect("a SHA-256");
        let answer = match self.answers.get(&hash).await {
            Some(answer) => answer,
            // One lookup per key at a time, whatever the number of requests that wait for it.
            None => self
                .answers
                .try_get_with(hash, self.look_up(catalog, database, hash, key))
                .await
                .map_err(|error| Problem::from(CatalogError::clone(&error)))?,
        };
        match answer {
            Answer::Good(caller) | Answer::Stale(caller) => match caller.key.expires_at {
                Some(end) if caller.key.has_expired(self.clock.now()) => Err(Problem::unauthorized(format!(
                    "this API key expired at {}",
                    end.to_rfc3339()
                ))),
                Some(_) | None => Ok(caller),
            },
            Answer::Unknown => Err(self.unknown(key)),
        }
    }

    fn unknown(&self, key: &str) -> Problem {
        if self.is_admin(key) {
            Problem::forbidden("the admin key belongs to no tenant: use one of the tenant's API keys here")
        } else {
            Problem::unauthorized("this API key is not known, or was revoked")
        }
    }

    async fn look_up(
        &self,
        catalog: &Catalog,
        database: &Outage,
        hash: Hash,
        key: &str,
    ) -> Result<Answer, CatalogError> {
        let remembered = self.last_good.get(&hash).await;
        let asked = match &remembered {
            None => match tokio::time::timeout(PATIENCE, self.strangers.acquire()).await {
                Ok(_turn) => catalog.authenticate(key).await,
                Err(_) => {
                    return Err(CatalogError::Unavailable(
                        "too many unknown keys to look up".to_owned(),
                    ));
                }
            },
            Some(_) => tokio::time::timeout(PATIENCE, catalog.authenticate(key))
                .await
                .unwrap_or_else(|_| {
                    Err(CatalogError::Unavailable(format!(
                        "no answer within {PATIENCE:?}"
                    )))
                }),
        };
        if asked.is_ok() {
            database.works();
        }
        match (asked, remembered) {
            (Ok(Some(key)), _) => {
                let now = self.clock.now();
                if key.use_is_news(now) && !key.has_expired(now) {
                    // Where there is no room, a later use is written down.
                    let _ = self.used.try_send(key.id);
                }
                let caller = Arc::new(Caller {
                    tenant: key.tenant.clone(),
                    name: Bytes::copy_from_slice(key.tenant.as_str().as_bytes()),
                    key,
                });
                self.last_good.insert(hash, caller.clone()).await;
                Ok(Answer::Good(caller))
            }
            (Ok(None), _) => {
                self.last_good.invalidate(&hash).await;
                Ok(Answer::Unknown)
            }
            (Err(CatalogError::Unavailable(error)), Some(caller)) => {
                database.failed(&error);
                Ok(Answer::Stale(caller))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Compares in constant time: of the keys only their tags meet.
    fn is_admin(&self, key: &str) -> bool {
        self.admin
            .as_ref()
            .is_some_and(|(keyed, tag)| hmac::verify(keyed, key.as_bytes(), tag.as_ref()).is_ok())
    }

    /// Whether the request brought the admin key.
    ///
    /// # Errors
    /// 401 without a key, 403 for any other.
    pub fn admin(&self, headers: &HeaderMap) -> Result<Admin, Problem> {
        let key = bearer(headers)?;
        if self.is_admin(key) {
            Ok(Admin)
        } else if self.admin.is_none() {
            Err(Problem::forbidden(
                "administration over HTTP is off: no api.admin_key is configured",
            ))
        } else {
            Err(Problem::forbidden("this path takes the admin key only"))
        }
    }
}

/// The key of `Authorization: Bearer KEY`.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(Problem::unauthorized(
            "no API key: send the header authorization: Bearer hk_…",
        ));
    };
    let key = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    match key {
        Some(key) if !key.is_empty() && key.len() <= LONGEST_KEY => Ok(key),
        Some(_) | None => Err(Problem::unauthorized(
            "the authorization header is not of the form Bearer hk_…",
        )),
    }
}
