//! `/webhooks/audit` and `/admin/audit`: who changed what.

use crate::Shared;
use crate::access::Manages;
use crate::admin;
use crate::auth::Admin;
use crate::history_query::range;
use crate::json::{Checks, Json};
use crate::page::{Cursor, Limit, List, Params, Scope, Scoped, by_id, limit};
use crate::problem::Problem;
use crate::text::Time;
use axum::extract::State;
use platform::catalog::{Actor, AuditKind, AuditQuery, AuditRow};
use schemas::ids::Tenant;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_audit))
        .routes(routes!(list_audit_of_all))
}

/// A change: who did what with which thing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry, example = json!({
    "at": "2026-01-31T23:59:59.123Z", "tenant": "acme",
    "actor": {"type": "key", "keyId": 186_243_735_552_004_i64, "keyPrefix": "hk_live_Ab3d"},
    "action": "update", "kind": "filter", "id": "186243735552002",
    "before": {"name": "orders", "events": ["core.orders.*"]}, "after": {"name": "orders", "events": ["*"]}
}))]
struct EntryBody {
    /// When.
    at: Time,
    /// Whose thing it is.
    tenant: String,
    /// By whom.
    actor: ActorBody,
    /// `create`, `update`, `delete`; of a target also `rotate` (its secret), `enable`, `disable`, `verify` and
    /// `unverify`; `stop` of a replay.
    action: String,
    /// `tenant`, `key`, `target`, `filter`, `subscription` or `replay`. An endpoint's changes are those of its three
    /// parts; resends and redrives are replays.
    kind: String,
    /// The id of the thing, as text; a tenant's name.
    id: String,
    /// What it was; null where there was nothing. Values of a target's own headers are left out.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What it is; null where there is nothing any more.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

/// Who changed something.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Actor, example = json!({"type": "key", "keyId": 186_243_735_552_004_i64, "keyPrefix": "hk_live_Ab3d"}))]
struct ActorBody {
    /// `key`: an API key; `admin`: the admin key or the command line; `system`: hookwright itself, as when a target
    /// answers 410.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The key's id.
    key_id: Option<i64>,
    /// The key's first characters.
    key_prefix: Option<String>,
}

impl From<Actor> for ActorBody {
    fn from(actor: Actor) -> Self {
        let (kind, key_id, key_prefix) = match actor {
            Actor::System => ("system", None, None),
            Actor::Admin => ("admin", None, None),
            Actor::Key { id, prefix } => ("key", Some(id), Some(prefix)),
        };
        Self {
            kind,
            key_id,
            key_prefix,
        }
    }
}

impl From<AuditRow> for EntryBody {
    fn from(row: AuditRow) -> Self {
        Self {
            at: Time(row.at),
            tenant: row.tenant.as_str().to_owned(),
            actor: row.actor.into(),
            action: row.action,
            kind: row.kind,
            id: row.thing,
            before: row.before,
            after: row.after,
        }
    }
}

/// Which changes to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditParams {
    /// Only of this kind of thing: `tenant`, `key`, `target`, `filter`, `subscription` or `replay`.
    #[param(example = "target")]
    kind: Option<String>,
    /// Only of the thing with this id; a tenant's name.
    #[param(example = "186243735552001")]
    id: Option<String>,
    /// Only changes at or after this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Only changes before this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    #[param(example = "q22w0dPYnxI0Mg")]
    cursor: Option<String>,
    #[serde(skip)]
    scope: Scope,
}

/// Which changes of which tenant to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AdminAuditParams {
    /// Only changes of this tenant's things, and of earlier tenants' of this name.
    #[param(example = "acme")]
    tenant: Option<String>,
    /// Only of this kind of thing: `tenant`, `key`, `target`, `filter`, `subscription` or `replay`.
    #[param(example = "target")]
    kind: Option<String>,
    /// Only of the thing with this id; a tenant's name.
    #[param(example = "186243735552001")]
    id: Option<String>,
    /// Only changes at or after this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Only changes before this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    #[param(example = "q22w0dPYnxI0Mg")]
    cursor: Option<String>,
    #[serde(skip)]
    scope: Scope,
}

impl Scoped for AuditParams {
    fn scoped(&mut self, scope: Scope) {
        self.scope = scope;
    }
}

impl Scoped for AdminAuditParams {
    fn scoped(&mut self, scope: Scope) {
        self.scope = scope;
    }
}

impl AuditParams {
    fn check(self, checks: &mut Checks) -> (Limit, AuditQuery) {
        let limit = limit(checks, self.scope, self.limit.as_deref());
        let (from, to) = range(checks, self.from.as_deref(), self.to.as_deref());
        if let Some(kind) = &self.kind
            && !AuditKind::ALL.iter().any(|known| known.as_str() == kind)
        {
            checks.fail(
                "kind",
                format!("{kind:?} is none of tenant, key, target, filter, subscription and replay"),
            );
        }
        if let Some(id) = &self.id
            && (id.len() > 63 || !id.bytes().all(|b| b.is_ascii_graphic()))
        {
            checks.fail("id", "is neither a number nor a tenant's name");
        }
        let query = AuditQuery {
            kind: self.kind,
            thing: self.id,
            from,
            to,
            page: by_id(checks, limit, self.cursor.as_deref()),
        };
        (limit, query)
    }
}

/// List changes
///
/// Who changed what of the tenant's keys, targets, filters and subscriptions, and sent what again; newest first, as
/// far back as the audit log is kept. An entry is written with the change it tells of, or not at all.
#[utoipa::path(get, path = "/webhooks/audit", tag = "audit", params(AuditParams), security(("apiKey" = ["manage"])),
    responses((status = 200, description = "One page of changes.", body = List<EntryBody>)))]
async fn list_audit(
    State(server): State<Shared>,
    Manages(caller): Manages,
    Params(params): Params<AuditParams>,
) -> Result<Json<List<EntryBody>>, Problem> {
    let mut checks = Checks::default();
    let (limit, query) = params.check(&mut checks);
    checks.finish()?;
    let rows = server.parts.catalog.audit(&caller.tenant, &query).await?;
    Ok(Json(List::of(rows, limit, |row| Cursor::Id(row.id))))
}

/// List changes of all tenants
///
/// Also those of tenants that are gone; newest first, as far back as the audit log is kept.
#[utoipa::path(get, path = "/admin/audit", tag = admin::TAG, params(AdminAuditParams),
    responses((status = 200, description = "One page of changes.", body = List<EntryBody>)))]
async fn list_audit_of_all(
    State(server): State<Shared>,
    _: Admin,
    Params(params): Params<AdminAuditParams>,
) -> Result<Json<List<EntryBody>>, Problem> {
    let mut checks = Checks::default();
    let tenant = params
        .tenant
        .map(|name| checks.take("tenant", Tenant::new(&name).map(Some)));
    let params = AuditParams {
        kind: params.kind,
        id: params.id,
        from: params.from,
        to: params.to,
        limit: params.limit,
        cursor: params.cursor,
        scope: params.scope,
    };
    let (limit, query) = params.check(&mut checks);
    checks.finish()?;
    let catalog = &server.parts.catalog;
    let rows = catalog.audit_of_all(tenant.flatten().as_ref(), &query).await?;
    Ok(Json(List::of(rows, limit, |row| Cursor::Id(row.id))))
}
