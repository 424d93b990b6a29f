//! `/admin/tenants/{tenant}/keys`: the API keys of tenants, for the admin key only.

use crate::Shared;
use crate::admin::{TAG, named};
use crate::auth::Admin;
use crate::idempotency::Once;
use crate::json::{Checks, Json};
use crate::page::{Cursor, List, Name, PageParams, Params, numeric_id};
use crate::problem::Problem;
use crate::text::{Time, name};
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::LOCATION;
use platform::catalog::{KeyRow, NewKey, Scope, Scopes};
use schemas::time::Millis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
}

/// An API key, without its value.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key, example = json!({
    "id": 186_243_735_552_004_i64, "name": "order service", "prefix": "hk_live_Ab3d", "scopes": ["publish", "read"],
    "expiresAt": null, "lastUsedAt": "2026-02-01T08:30:00.000Z", "createdAt": "2026-01-31T23:59:59.123Z"
}))]
struct KeyBody {
    /// Its id: a number below 2^53.
    id: i64,
    /// What it is for.
    name: String,
    /// The first characters of its value, to recognise it by.
    prefix: String,
    /// What it may be used for.
    #[schema(value_type = Vec<ScopeWord>)]
    scopes: Vec<&'static str>,
    /// When it ends; null for never.
    expires_at: Option<Time>,
    /// When it was last used, to the minute; null for never.
    last_used_at: Option<Time>,
    /// When it was made.
    created_at: Time,
}

/// What an API key may be used for.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", as = Scope)]
#[allow(dead_code, reason = "describes platform::catalog::Scope")]
enum ScopeWord {
    /// Change targets, filters and subscriptions and their secrets, send again, and read the audit log.
    Manage,
    /// Publish events.
    Publish,
    /// Look things up: every GET but that of the audit log.
    Read,
}

impl From<KeyRow> for KeyBody {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            scopes: row.scopes.iter().map(Scope::as_str).collect(),
            expires_at: row.expires_at.map(Time),
            last_used_at: row.last_used_at.map(Time),
            created_at: Time(row.created_at),
        }
    }
}

/// A new API key.
#[derive(Serialize, ToSchema)]
#[schema(as = NewKey)]
struct KeyWithValue {
    #[serde(flatten)]
    row: KeyBody,
    /// Its value, to send as `authorization: Bearer …`. Shown this once.
    #[schema(example = "hk_live_Ab3dEf…")]
    key: String,
}

/// An API key to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = KeyToMake, example = json!({"name": "order service", "scopes": ["publish"]}))]
struct NewKeyBody {
    /// What it is for: 1 to 200 characters.
    #[schema(value_type = String, required = true)]
    name: Option<String>,
    /// What it may be used for, at least one; all there are when left out.
    #[schema(value_type = Option<Vec<ScopeWord>>, min_items = 1)]
    scopes: Option<Vec<String>>,
    /// When it ends, in the future; never when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
}

impl NewKeyBody {
    fn check(self, now: Millis) -> Result<NewKey, Problem> {
        let mut checks = Checks::default();
        let name = checks.required("name", self.name, name);
        let scopes = self.scopes.map(|words| scopes(&mut checks, &words));
        let expires_at = self.expires_at.and_then(|text| {
            let end = Millis::parse_rfc3339(&text).and_then(|end| {
                let ahead = end > now;
                ahead
                    .then_some(Some(end))
                    .ok_or_else(|| format!("{text:?} is not in the future"))
            });
            checks.take("expiresAt", end)
        });
        checks.finish()?;
        Ok(NewKey {
            name,
            scopes: scopes.unwrap_or(Scopes::ALL),
            expires_at,
        })
    }
}

fn scopes(checks: &mut Checks, words: &[String]) -> Scopes {
    if words.is_empty() {
        checks.fail(
            "scopes",
            "is empty; name some of manage, publish and read, or leave it out for all",
        );
    }
    let scopes = words.iter().enumerate().filter_map(|(index, word)| {
        let scope = Scope::from_word(word);
        scope
            .map_err(|error| checks.fail(format!("scopes[{index}]"), error))
            .ok()
    });
    scopes.collect()
}

/// List a tenant's API keys
///
/// Newest first, without their values, which are stored hashed.
#[utoipa::path(get, path = "/admin/tenants/{tenant}/keys", tag = TAG,
    params(("tenant" = String, Path, description = "The tenant's name.", example = "acme"), PageParams),
    responses((status = 200, description = "One page of API keys.", body = List<KeyBody>)))]
async fn list_keys(
    State(server): State<Shared>,
    _: Admin,
    Name(tenant): Name,
    Params(params): Params<PageParams>,
) -> Result<Json<List<KeyBody>>, Problem> {
    let tenant = named(&tenant)?;
    let (limit, page) = params.by_id()?;
    server.parts.catalog.get_tenant(&tenant).await?;
    let rows = server.parts.catalog.list_keys(&tenant, page).await?;
    Ok(Json(List::of(rows, limit, |row| Cursor::Id(row.id))))
}

/// Create an API key
///
/// The answer carries the key's value, the only time it is shown. Give a key no more scopes than its holder needs: a
/// producer of events needs `publish` alone. A request that lacks the scope answers 403, one with a key whose time is
/// over 401.
///
/// With an `idempotency-key`, the same request sent again is answered with the same key and value for 24 h, for which
/// the answer is kept sealed. If the server died before it could keep it, the answer is 409 and names the key that was
/// made: revoke it, and ask for another with another `idempotency-key`.
#[utoipa::path(post, path = "/admin/tenants/{tenant}/keys", tag = TAG, request_body = NewKeyBody,
    params(("tenant" = String, Path, description = "The tenant's name.", example = "acme")),
    responses((status = 201, description = "The API key, with its value.", body = KeyWithValue,
        headers(("location" = String, description = "The key's path."))),
        (status = 409, description = "A request with this `idempotency-key` is being worked on, or has made a key whose \
            value cannot be shown any more; `detail` says which.")))]
async fn create_key(
    State(server): State<Shared>,
    admin: Admin,
    once: Once,
    Name(tenant): Name,
    Json(body): Json<NewKeyBody>,
) -> Result<impl IntoResponse, Problem> {
    let tenant = named(&tenant)?;
    let new = body.check(server.parts.clock.now())?;
    let catalog = server.by_admin(admin).under(once.claim());
    let (row, key) = catalog.create_key(&tenant, new).await?;
    let location = format!(
        "{}/admin/tenants/{tenant}/keys/{}",
        server.config.base_path, row.id
    );
    let row = row.into();
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        Json(KeyWithValue { row, key }),
    ))
}

/// Revoke an API key
///
/// Requests that bring it are refused at once by this process, and within 2 seconds by all others.
#[utoipa::path(delete, path = "/admin/tenants/{tenant}/keys/{id}", tag = TAG,
    params(("tenant" = String, Path, description = "The tenant's name.", example = "acme"),
        ("id" = i64, Path, description = "The key's id.", example = 186_243_735_552_004_i64)),
    responses((status = 204, description = "It is revoked.")))]
async fn revoke_key(
    State(server): State<Shared>,
    admin: Admin,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((tenant, id)) = path.map_err(|_| Problem::not_found())?;
    let tenant = named(&tenant)?;
    let id = numeric_id(&id).ok_or_else(Problem::not_found)?;
    server.by_admin(admin).revoke_key(&tenant, id).await?;
    server.keys.forget();
    Ok(StatusCode::NO_CONTENT)
}
