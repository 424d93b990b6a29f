//! The secrets of targets: what signs, and the private keys of client certificates.

use super::audited::{Action, Entry};
use super::db::Write;
use super::{AuditKind, Catalog, CatalogError, Target};
use crate::secrets::{new_whsec, random_bytes};
use schemas::ids::{TargetId, Tenant};
use schemas::signature::v1a::SEED_BYTES;
use schemas::target::{Scheme, SecretText, SigningKey};
use serde_json::json;
use sqlx::Row;
use std::time::Duration;
use zeroize::Zeroizing;

/// How many secrets of one target may sign at the same time: each adds a signature to every
/// request's header.
pub const MAX_LIVE_SECRETS: usize = 10;

impl Catalog {
    /// Adds a secret; its id.
    pub(super) async fn insert_secret(
        &self,
        write: &mut Write,
        target: TargetId,
        key: &SigningKey,
    ) -> Result<i64, CatalogError> {
        let id = self.next_id();
        sqlx::query("INSERT INTO target_secrets (target, id, sealed) VALUES ($1, $2, $3)")
            .bind(target.0)
            .bind(id)
            .bind(self.sealer.seal(key.as_bytes()))
            .execute(write.on())
            .await?;
        Ok(id)
    }

    /// Gives each secret of a target that is to sign by `v1a` the pair that does it, where it has none.
    pub(super) async fn add_pairs(&self, write: &mut Write, target: &Target) -> Result<(), CatalogError> {
        if !target.request.schemes.contains(&Scheme::V1a) {
            return Ok(());
        }
        let rows = sqlx::query("SELECT id FROM target_secrets WHERE target = $1 AND sealed_seed IS NULL")
            .bind(target.id.0)
            .fetch_all(write.on())
            .await?;
        for row in rows {
            sqlx::query("UPDATE target_secrets SET sealed_seed = $1 WHERE target = $2 AND id = $3")
                .bind(self.sealer.seal(&*Zeroizing::new(random_bytes::<SEED_BYTES>())))
                .bind(target.id.0)
                .bind(row.try_get::<i64, _>(0)?)
                .execute(write.on())
                .await?;
        }
        Ok(())
    }

    pub(super) fn sealed_key(&self, key: Option<&SecretText>) -> Option<Vec<u8>> {
        key.map(|key| self.sealer.seal(key.reveal().as_bytes()))
    }

    /// Gives a target a new secret (`whsec_…`), returned this once; the old ones sign too until
    /// `overlap` from now, or until they would have ended anyway.
    ///
    /// # Errors
    /// `Conflict` when 10 would still sign beside it; `NotFound`.
    pub async fn rotate_secret(
        &self,
        tenant: &Tenant,
        id: TargetId,
        overlap: Duration,
    ) -> Result<String, CatalogError> {
        let now = self.clock.now();
        let mut write = self.db.begin_of(tenant).await?;
        let made = self.made_secret(&mut write, id).await?;
        let target = self.lock_target(&mut write, tenant, id).await?;
        if let Some(secret) = made {
            return Ok(secret);
        }
        sqlx::query(
            "UPDATE target_secrets SET expires_at = $1 \
             WHERE target = $2 AND (expires_at IS NULL OR expires_at > $1)",
        )
        .bind(now.plus(overlap).0)
        .bind(id.0)
        .execute(write.on())
        .await?;
        sqlx::query("DELETE FROM target_secrets WHERE target = $1 AND expires_at <= $2")
            .bind(id.0)
            .bind(now.0)
            .execute(write.on())
            .await?;
        let live: i64 = sqlx::query("SELECT COUNT(*) FROM target_secrets WHERE target = $1")
            .bind(id.0)
            .fetch_one(write.on())
            .await?
            .try_get(0)?;
        if live >= MAX_LIVE_SECRETS as i64 {
            return Err(CatalogError::Conflict(format!(
                "{live} secrets of this target sign already, the most there may be: wait until one ends, or \
                 rotate with a shorter overlap"
            )));
        }
        let (secret, key) = new_whsec();
        let made = self.insert_secret(&mut write, id, &key).await?;
        self.making(&mut write, &[made]).await?;
        self.add_pairs(&mut write, &target).await?;
        let entry = Entry {
            action: Action::Rotate,
            kind: AuditKind::Target,
            thing: id.to_string(),
            before: None,
            after: Some(json!({"overlap": humantime::format_duration(overlap).to_string()})),
        };
        self.note(&mut write, tenant, entry).await?;
        write.changed(tenant, Some(id)).await?;
        self.commit(write).await?;
        Ok(secret)
    }
}
