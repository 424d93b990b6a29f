//! Idempotency keys: what is asked for under a key is done once, however often it is asked.
//!
//! 1. [`Catalog::claim`] writes down, in a transaction of its own, who works on the key.
//! 2. What is made is made [`under`](Catalog::under) the claim. Its transaction looks at the claim first, and
//!    writes the ids of what it makes into it: both are there, or neither.
//! 3. [`Catalog::answered`] keeps the answer, sealed.
//!
//! Whoever dies before 2 has made nothing; another takes the key over when the claim has run out. Whoever dies
//! between 2 and 3 has made it; who takes over finds the ids, and is given what was made instead of making it
//! again. Who was only slow, and has lost its claim, makes nothing any more.

use super::db::{self, Write};
use super::{Catalog, CatalogError, Endpoint, Filter, Subscription, Target, TenantRow};
use super::{endpoints, expected, filters, subscriptions, tenants};
use crate::secrets::random_bytes;
use schemas::ids::{TargetId, Tenant};
use schemas::signature::encode_secret;
use schemas::target::SigningKey;
use schemas::time::Millis;
use sqlx::Row;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long nobody else works on a key: longer than a change takes. Who still waits for a target's answer then
/// has made its change before.
pub const CLAIMED: Duration = Duration::from_secs(30);

/// Work on a key, by whoever has it.
#[derive(Clone, Debug)]
pub struct Claim {
    tenant: Tenant,
    key: Arc<str>,
    owner: Arc<str>,
}

/// What came of a [`Catalog::claim`].
#[derive(Debug)]
pub enum Claimed {
    /// It is the caller's to do.
    Mine(Claim),
    /// It was done: the answer, which may show a secret.
    Answered(Zeroizing<Vec<u8>>),
    /// Somebody works on it.
    Running,
    /// The key was used for another request.
    Other,
}

impl Catalog {
    /// Claims a key for a request, of which `request` is the hash. A key first used `kept` ago is a new one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn claim(
        &self,
        tenant: &Tenant,
        key: &str,
        request: &str,
        kept: Duration,
    ) -> Result<Claimed, CatalogError> {
        let now = self.clock.now();
        let claim = Claim {
            tenant: tenant.clone(),
            key: key.into(),
            owner: format!("{:032x}", u128::from_be_bytes(random_bytes())).into(),
        };
        let mut write = self.db.begin_of(tenant).await?;
        let is_new = sqlx::query(
            "INSERT INTO idempotency_keys (tenant, key, request, owner, until, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, key) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(key)
        .bind(request)
        .bind(&*claim.owner)
        .bind(now.plus(CLAIMED).0)
        .bind(now.0)
        .execute(write.on())
        .await?
        .rows_affected()
            == 1;
        if is_new {
            write.commit().await?;
            return Ok(Claimed::Mine(claim));
        }
        let found = format!(
            "SELECT request, until, answer, created_at FROM idempotency_keys WHERE tenant = $1 AND key = $2{}",
            write.hold()
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(found))
            .bind(tenant.as_str())
            .bind(key)
            .fetch_optional(write.on())
            .await?;
        let Some(found) = found else {
            // Given back since: to be asked for again.
            return Ok(Claimed::Running);
        };
        let (until, created_at) = (Millis(found.try_get(1)?), Millis(found.try_get(3)?));
        if created_at.plus(kept) > now {
            if found.try_get::<&str, _>(0)? != request {
                return Ok(Claimed::Other);
            }
            if let Some(answer) = found.try_get::<Option<Vec<u8>>, _>(2)? {
                return Ok(Claimed::Answered(self.unsealed(&answer)?));
            }
            if until > now {
                return Ok(Claimed::Running);
            }
            sqlx::query("UPDATE idempotency_keys SET owner = $1, until = $2 WHERE tenant = $3 AND key = $4")
                .bind(&*claim.owner)
                .bind(now.plus(CLAIMED).0)
                .bind(tenant.as_str())
                .bind(key)
                .execute(write.on())
                .await?;
        } else {
            sqlx::query(
                "UPDATE idempotency_keys SET owner = $1, until = $2, request = $3, created_at = $4, made = NULL, \
                 answer = NULL WHERE tenant = $5 AND key = $6",
            )
            .bind(&*claim.owner)
            .bind(now.plus(CLAIMED).0)
            .bind(request)
            .bind(now.0)
            .bind(tenant.as_str())
            .bind(key)
            .execute(write.on())
            .await?;
        }
        write.commit().await?;
        Ok(Claimed::Mine(claim))
    }

    /// Keeps the answer, sealed, for whoever asks again.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn answered(&self, claim: &Claim, answer: &[u8]) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(&claim.tenant).await?;
        sqlx::query("UPDATE idempotency_keys SET answer = $1 WHERE tenant = $2 AND key = $3 AND owner = $4")
            .bind(self.sealer.seal(answer))
            .bind(claim.tenant.as_str())
            .bind(&*claim.key)
            .bind(&*claim.owner)
            .execute(write.on())
            .await?;
        write.commit().await?;
        Ok(())
    }

    /// Gives a key back whose request was refused, so that it can be asked for again, or for something else. Where
    /// something was made after all (the commit's answer was lost), the key stays what it was used for.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn release(&self, claim: &Claim) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(&claim.tenant).await?;
        for sql in [
            "DELETE FROM idempotency_keys WHERE tenant = $1 AND key = $2 AND owner = $3 AND made IS NULL",
            "UPDATE idempotency_keys SET until = 0 WHERE tenant = $1 AND key = $2 AND owner = $3",
        ] {
            sqlx::query(sql)
                .bind(claim.tenant.as_str())
                .bind(&*claim.key)
                .bind(&*claim.owner)
                .execute(write.on())
                .await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// Forgets the keys that were first used so long ago; how many.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn prune_keys(&self, kept: Duration) -> Result<u64, CatalogError> {
        let before = self.clock.now().0 - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let mut write = self.db.begin_of_all().await?;
        let gone = sqlx::query("DELETE FROM idempotency_keys WHERE created_at <= $1")
            .bind(before)
            .execute(write.on())
            .await?
            .rows_affected();
        write.commit().await?;
        Ok(gone)
    }

    /// This catalog, for what is to be done under a claim: what it makes is made once. `None` is under none.
    #[must_use]
    pub fn under(&self, claim: Option<&Claim>) -> Self {
        Self {
            claim: claim.cloned(),
            ..self.clone()
        }
    }

    /// What was made under this claim by somebody before, if anything was. Comes first in a transaction that makes
    /// something; [`making`](Self::making) comes last.
    ///
    /// # Errors
    /// `Conflict` when somebody else has taken the key over.
    pub(crate) async fn made(&self, write: &mut Write) -> Result<Option<Vec<i64>>, CatalogError> {
        let Some(claim) = &self.claim else {
            return Ok(None);
        };
        let hold = write.hold();
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT made FROM idempotency_keys WHERE tenant = $1 AND key = $2 AND owner = $3{hold}"
        )))
        .bind(claim.tenant.as_str())
        .bind(&*claim.key)
        .bind(&*claim.owner)
        .fetch_optional(write.on())
        .await?;
        match row {
            Some(row) => db::from_json(&row, 0),
            None => Err(CatalogError::Conflict(
                "another request with this idempotency-key has taken its place".to_owned(),
            )),
        }
    }

    /// Writes down what is made under this claim.
    pub(crate) async fn making(&self, write: &mut Write, ids: &[i64]) -> Result<(), CatalogError> {
        let Some(claim) = &self.claim else {
            return Ok(());
        };
        sqlx::query("UPDATE idempotency_keys SET made = $1 WHERE tenant = $2 AND key = $3 AND owner = $4")
            .bind(db::json(&ids)?)
            .bind(claim.tenant.as_str())
            .bind(&*claim.key)
            .bind(&*claim.owner)
            .execute(write.on())
            .await?;
        Ok(())
    }

    /// The one thing that was made before, if there is any.
    async fn made_one(&self, write: &mut Write) -> Result<Option<i64>, CatalogError> {
        match self.made(write).await? {
            None => Ok(None),
            Some(ids) => ids.first().copied().map(Some).ok_or(CatalogError::NotFound),
        }
    }

    /// The tenant, if it was made before.
    pub(super) async fn made_tenant(
        &self,
        write: &mut Write,
        tenant: &Tenant,
    ) -> Result<Option<TenantRow>, CatalogError> {
        if self.made(write).await?.is_none() {
            return Ok(None);
        }
        let row = sqlx::query("SELECT name, created_at FROM tenants WHERE name = $1")
            .bind(tenant.as_str())
            .fetch_one(write.on())
            .await;
        tenants::tenant_row(&row.map_err(|error| gone_again(error.into()))?).map(Some)
    }

    /// Fails if an API key was made before: its value is kept nowhere, so that nobody can be answered with it.
    pub(super) async fn made_no_key(&self, write: &mut Write) -> Result<(), CatalogError> {
        match self.made_one(write).await? {
            None => Ok(()),
            Some(id) => Err(CatalogError::Conflict(format!(
                "this idempotency-key made the API key {id}, whose value cannot be shown any more: revoke that key, and ask \
                 for one with another idempotency-key"
            ))),
        }
    }

    /// The target that was made before, and its first secret.
    pub(super) async fn made_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
    ) -> Result<Option<(Target, String)>, CatalogError> {
        let Some(id) = self.made_one(write).await? else {
            return Ok(None);
        };
        let target = expected::hold_target(write, tenant, TargetId(id)).await;
        let target = target.map_err(gone_again)?;
        let secrets = "SELECT sealed FROM target_secrets WHERE target = $1 ORDER BY id LIMIT 1";
        let row = sqlx::query(secrets).bind(id).fetch_one(write.on()).await?;
        let secret = self.shown_secret(row.try_get(0)?)?;
        Ok(Some((target, secret)))
    }

    /// The endpoint that was made before, and its first secret.
    pub(super) async fn made_endpoint(
        &self,
        write: &mut Write,
        tenant: &Tenant,
    ) -> Result<Option<(Endpoint, String)>, CatalogError> {
        match self.made_target(write, tenant).await? {
            None => Ok(None),
            Some((target, secret)) => Ok(Some((endpoints::endpoint(write.on(), target).await?, secret))),
        }
    }

    /// The filter that was made before.
    pub(super) async fn made_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
    ) -> Result<Option<Filter>, CatalogError> {
        let Some(id) = self.made_one(write).await? else {
            return Ok(None);
        };
        let row = expected::held(write, "filters", filters::COLUMNS, tenant, id).await;
        filters::filter_row(&row.map_err(gone_again)?).map(Some)
    }

    /// The subscription that was made before.
    pub(super) async fn made_subscription(
        &self,
        write: &mut Write,
        tenant: &Tenant,
    ) -> Result<Option<Subscription>, CatalogError> {
        let Some(id) = self.made_one(write).await? else {
            return Ok(None);
        };
        let row = expected::held(write, "subscriptions", subscriptions::COLUMNS, tenant, id).await;
        subscriptions::subscription_row(&row.map_err(gone_again)?).map(Some)
    }

    /// The secret that a rotation made before.
    pub(super) async fn made_secret(
        &self,
        write: &mut Write,
        target: TargetId,
    ) -> Result<Option<String>, CatalogError> {
        let Some(id) = self.made_one(write).await? else {
            return Ok(None);
        };
        let row = sqlx::query("SELECT sealed FROM target_secrets WHERE target = $1 AND id = $2")
            .bind(target.0)
            .bind(id)
            .fetch_one(write.on())
            .await;
        let row = row.map_err(|error| gone_again(error.into()))?;
        self.shown_secret(row.try_get(0)?).map(Some)
    }

    /// A secret as it is shown when it is made.
    fn shown_secret(&self, sealed: &[u8]) -> Result<String, CatalogError> {
        let key = SigningKey::from_bytes(std::mem::take(&mut *self.unsealed(sealed)?));
        Ok(encode_secret(&key))
    }

    fn unsealed(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CatalogError> {
        self.sealer
            .open(sealed)
            .map_err(|error| CatalogError::Unavailable(format!("something sealed is {error}")))
    }
}

/// What was made, and deleted before its answer was asked for again.
fn gone_again(error: CatalogError) -> CatalogError {
    match error {
        CatalogError::NotFound => {
            CatalogError::Conflict("what this idempotency-key made was deleted since".to_owned())
        }
        error => error,
    }
}
