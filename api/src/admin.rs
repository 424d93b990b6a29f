//! `/admin`: tenants and their API keys, for the admin key only.

use crate::Shared;
use crate::auth::Admin;
use crate::json::{Checks, Json};
use crate::page::{Cursor, List, Name, PageParams, Params, numeric_id};
use crate::problem::{FieldError, Problem};
use crate::text::{Time, name};
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::LOCATION;
use platform::catalog::{KeyRow, TenantRow};
use schemas::ids::Tenant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The tag of the routes that take the admin key.
pub(crate) const TAG: &str = "admin";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(list_tenants, create_tenant))
        .routes(routes!(get_tenant, delete_tenant))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
}

/// A tenant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tenant, example = json!({"name": "acme", "createdAt": "2026-01-31T23:59:59.123Z"}))]
struct TenantBody {
    /// Its name.
    name: String,
    /// When it was made.
    created_at: Time,
}

impl From<TenantRow> for TenantBody {
    fn from(row: TenantRow) -> Self {
        Self {
            name: row.name.as_str().to_owned(),
            created_at: Time(row.created_at),
        }
    }
}

/// A tenant to make.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantToMake, example = json!({"name": "acme"}))]
struct NewTenantBody {
    /// 1 to 63 characters of a-z, 0-9, - and _, beginning with a letter or digit.
    #[schema(value_type = String, required = true, pattern = "^[a-z0-9][a-z0-9_-]{0,62}$")]
    name: Option<String>,
}

/// An API key, without its value.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key, example = json!({
    "id": 186_243_735_552_004_i64, "name": "order service", "prefix": "hk_live_Ab3d",
    "createdAt": "2026-01-31T23:59:59.123Z"
}))]
struct KeyBody {
    /// Its id: a number below 2^53.
    id: i64,
    /// What it is for.
    name: String,
    /// The first characters of its value, to recognise it by.
    prefix: String,
    /// When it was made.
    created_at: Time,
}

impl From<KeyRow> for KeyBody {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
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
#[schema(as = KeyToMake, example = json!({"name": "order service"}))]
struct NewKeyBody {
    /// What it is for: 1 to 200 characters.
    #[schema(value_type = String, required = true)]
    name: Option<String>,
}

/// The tenant of a path. What cannot be a tenant's name names no tenant: 404.
fn named(text: &str) -> Result<Tenant, Problem> {
    Tenant::new(text).map_err(|_| Problem::not_found())
}

/// List tenants
///
/// All tenants, newest first.
#[utoipa::path(get, path = "/admin/tenants", tag = TAG, params(PageParams),
    responses((status = 200, description = "One page of tenants.", body = List<TenantBody>)))]
async fn list_tenants(
    State(server): State<Shared>,
    _: Admin,
    Params(params): Params<PageParams>,
) -> Result<Json<List<TenantBody>>, Problem> {
    let (limit, before) = params.by_moment()?;
    let rows = server.parts.catalog.list_tenants(limit.rows(), before).await?;
    Ok(Json(List::of(rows, limit, |row| {
        Cursor::Moment(row.created_at, row.name.as_str().to_owned())
    })))
}

/// Create a tenant
///
/// A tenant is a customer of the platform: its data is never shown or sent to another. It needs an
/// API key before it can do anything.
#[utoipa::path(post, path = "/admin/tenants", tag = TAG, request_body = NewTenantBody,
    responses((status = 201, description = "The tenant.", body = TenantBody,
        headers(("location" = String, description = "The tenant's path."))),
        (status = 409, description = "There is a tenant of this name.")))]
async fn create_tenant(
    State(server): State<Shared>,
    _: Admin,
    Json(body): Json<NewTenantBody>,
) -> Result<impl IntoResponse, Problem> {
    let tenant = match body.name {
        Some(name) => Tenant::new(&name).map_err(|error| error.to_string()),
        None => Err("is missing".to_owned()),
    }
    .map_err(|message| Problem::invalid(vec![FieldError::new("name", message)]))?;
    let row = server.parts.catalog.create_tenant(&tenant).await?;
    let location = format!("{}/admin/tenants/{tenant}", server.config.base_path);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        Json(TenantBody::from(row)),
    ))
}

/// Get a tenant
///
/// Its name and when it was made.
#[utoipa::path(get, path = "/admin/tenants/{tenant}", tag = TAG,
    params(("tenant" = String, Path, description = "The tenant's name.", example = "acme")),
    responses((status = 200, description = "The tenant.", body = TenantBody)))]
async fn get_tenant(
    State(server): State<Shared>,
    _: Admin,
    Name(tenant): Name,
) -> Result<Json<TenantBody>, Problem> {
    let row = server.parts.catalog.get_tenant(&named(&tenant)?).await?;
    Ok(Json(row.into()))
}

/// Delete a tenant
///
/// Its API keys go with it. A tenant that still has targets is kept: delete them first.
#[utoipa::path(delete, path = "/admin/tenants/{tenant}", tag = TAG,
    params(("tenant" = String, Path, description = "The tenant's name.", example = "acme")),
    responses((status = 204, description = "It is gone."),
        (status = 409, description = "It still has targets.")))]
async fn delete_tenant(
    State(server): State<Shared>,
    _: Admin,
    Name(tenant): Name,
) -> Result<StatusCode, Problem> {
    server.parts.catalog.delete_tenant(&named(&tenant)?).await?;
    server.keys.forget();
    Ok(StatusCode::NO_CONTENT)
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
/// The answer carries the key's value, the only time it is shown.
#[utoipa::path(post, path = "/admin/tenants/{tenant}/keys", tag = TAG, request_body = NewKeyBody,
    params(("tenant" = String, Path, description = "The tenant's name.", example = "acme")),
    responses((status = 201, description = "The API key, with its value.", body = KeyWithValue,
        headers(("location" = String, description = "The key's path.")))))]
async fn create_key(
    State(server): State<Shared>,
    _: Admin,
    Name(tenant): Name,
    Json(body): Json<NewKeyBody>,
) -> Result<impl IntoResponse, Problem> {
    let tenant = named(&tenant)?;
    let mut checks = Checks::default();
    let name = checks.required("name", body.name, name);
    checks.finish()?;
    let (row, key) = server.parts.catalog.create_key(&tenant, &name).await?;
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
    _: Admin,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((tenant, id)) = path.map_err(|_| Problem::not_found())?;
    let tenant = named(&tenant)?;
    let id = numeric_id(&id).ok_or_else(Problem::not_found)?;
    server.parts.catalog.revoke_key(&tenant, id).await?;
    server.keys.forget();
    Ok(StatusCode::NO_CONTENT)
}
