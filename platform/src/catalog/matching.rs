//! What the delivery path asks: which targets want an event, and how to reach one.

use super::audited::{Action, Entry};
use super::db::{self, Sql, bounded, from_json};
use super::notices::add_notice;
use super::rates::rate;
use super::targets::{duration, state};
use super::{AuditKind, Catalog, CatalogError, NoticeKind};
use schemas::ids::{TargetId, Tenant};
use schemas::signature::v1a::SigningPair;
use schemas::target::{LiveKey, SecretText, SigningKey, TargetDetails, TargetState};
use schemas::time::Millis;
use serde_json::json;
use sqlx::Row;
use sqlx::any::AnyRow;

impl Catalog {
    /// The active targets with an active subscription whose filter wants this event type: each
    /// once, in ascending order.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn match_targets(
        &self,
        tenant: &Tenant,
        event_type: &str,
    ) -> Result<Vec<TargetId>, CatalogError> {
        let sql = matching("", tenant, event_type);
        bounded(async {
            let rows = sql.query().fetch_all(self.db.of(tenant).await?.on()).await?;
            rows.iter().map(|row| Ok(TargetId(row.try_get(0)?))).collect()
        })
        .await
    }

    /// How the database looks a match up: its plan, a step a line.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_match(
        &self,
        tenant: &Tenant,
        event_type: &str,
    ) -> Result<Vec<String>, CatalogError> {
        bounded(
            self.db
                .explain(Some(tenant), |head| matching(head, tenant, event_type)),
        )
        .await
    }

    /// All that one attempt needs: address, headers, the secrets that sign now (the newest first).
    /// `None` when the target is gone.
    ///
    /// # Errors
    /// `Unavailable`; also when a secret was sealed with another key than the configured one.
    pub async fn target_details(&self, id: TargetId) -> Result<Option<TargetDetails>, CatalogError> {
        let rows = bounded(async {
            let rows = sqlx::query(
                "SELECT t.tenant, t.url, t.headers, t.contact, t.state, t.retry, t.timeout_ms, k.sealed, \
                 k.expires_at, k.sealed_seed, t.request, t.client_key, t.rate_limit, t.rate_limit_minute \
                 FROM targets t \
                 LEFT JOIN target_secrets k ON k.target = t.id AND (k.expires_at IS NULL OR k.expires_at > $1) \
                 WHERE t.id = $2 ORDER BY k.id DESC",
            )
            .bind(self.clock.now().0)
            .bind(id.0)
            .fetch_all(self.db.of_all())
            .await?;
            Ok(rows)
        })
        .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let opened = |row: &AnyRow, column: usize| {
            let sealed = row.try_get::<Option<&[u8]>, _>(column)?;
            let opened = sealed.map(|sealed| self.sealer.open(sealed)).transpose();
            opened.map_err(|e| CatalogError::Unavailable(format!("a secret of target {id} is {e}")))
        };
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(mut key) = opened(row, 7)? {
                keys.push(LiveKey {
                    key: SigningKey::from_bytes(std::mem::take(&mut *key)),
                    pair: opened(row, 9)?.and_then(|seed| SigningPair::from_seed(&seed)),
                    until: row.try_get::<Option<i64>, _>(8)?.map(Millis),
                });
            }
        }
        let client_key =
            opened(row, 11)?.and_then(|mut pem| String::from_utf8(std::mem::take(&mut *pem)).ok());
        Ok(Some(TargetDetails {
            id,
            tenant: db::tenant(row, 0)?,
            url: row.try_get(1)?,
            headers: from_json(row, 2)?.unwrap_or_default(),
            contact: row.try_get(3)?,
            state: state(row, 4)?,
            keys,
            rate_limit: rate(row, 12)?,
            retry: from_json(row, 5)?,
            timeout: duration(row, 6)?,
            request: from_json(row, 10)?.unwrap_or_default(),
            client_key: client_key.map(SecretText::new),
        }))
    }

    /// Disables an active target, for a short reason that is kept and that its owner is to be told; true if
    /// it was active.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn disable_target(&self, id: TargetId, reason: &str) -> Result<bool, CatalogError> {
        bounded(async {
            let now = self.clock.now();
            let mut write = self.db.begin_of_all().await?;
            let row = sqlx::query(
                "UPDATE targets SET state = 'disabled', disabled_reason = $1, updated_at = $2 \
                 WHERE id = $3 AND state = 'active' RETURNING tenant",
            )
            .bind(reason)
            .bind(now.0)
            .bind(id.0)
            .fetch_optional(write.on())
            .await?;
            let Some(row) = row else {
                return Ok(false);
            };
            add_notice(&mut write, id, NoticeKind::Disabled, 1, (now, now), reason, now).await?;
            let tenant = db::tenant(&row, 0)?;
            let entry = Entry {
                action: Action::Disable,
                kind: AuditKind::Target,
                thing: id.to_string(),
                before: Some(json!({"state": TargetState::Active})),
                after: Some(json!({"state": TargetState::Disabled, "disabledReason": reason})),
            };
            self.note(&mut write, &tenant, entry).await?;
            write.changed(&tenant, Some(id)).await?;
            self.commit(write).await?;
            Ok(true)
        })
        .await
    }
}

/// The one query of a match, behind `prefix`: an index finds the filters that have one of the patterns,
/// another their subscriptions, and the primary key each target.
fn matching(prefix: &str, tenant: &Tenant, event_type: &str) -> Sql {
    let mut sql = Sql::new(prefix);
    sql.push(
        "SELECT DISTINCT s.target FROM filter_events e \
         JOIN subscriptions s ON s.filter = e.filter AND s.active = 1 \
         JOIN targets t ON t.id = s.target AND t.state = 'active' \
         WHERE e.tenant = ",
    );
    sql.bind(tenant.as_str()).push(" AND e.pattern IN (");
    for (n, pattern) in schemas::pattern::candidates(event_type).into_iter().enumerate() {
        if n > 0 {
            sql.push(", ");
        }
        sql.bind(pattern);
    }
    sql.push(") ORDER BY s.target");
    sql
}
