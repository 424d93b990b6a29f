//! `/admin/tenants`: tenants, for the admin key only.

use crate::Shared;
use crate::auth::Admin;
use crate::idempotency::Once;
use crate::json::Json;
use crate::page::{Cursor, List, Name, PageParams, Params};
use crate::problem::{FieldError, Problem};
use crate::text::Time;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::LOCATION;
use platform::catalog::TenantRow;
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

/// The tenant of a path. What cannot be a tenant's name names no tenant: 404.
pub(crate) fn named(text: &str) -> Result<Tenant, Problem> {
    Tenant::new(text).map_err(|_| Problem::not_found())
}

/// The tenant that a POST of an administrator's is about: of its path (below the base path), or of its body where it
/// is to be made. `None` where there can be none, which the route says in its own words.
pub(crate) fn about(path: &str, body: &[u8]) -> Option<Tenant> {
    match path.strip_prefix("/admin/tenants")? {
        "" => {
            let body: NewTenantBody = serde_json::from_slice(body).ok()?;
            Tenant::new(&body.name?).ok()
        }
        below => {
            let name = below.strip_prefix('/')?.split('/').next()?;
            Tenant::new(name).ok()
        }
    }
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
        (status = 409, description = "There is a tenant of this name, or a request with this `idempotency-key` is being worked on.")))]
async fn create_tenant(
    State(server): State<Shared>,
    admin: Admin,
    once: Once,
    Json(body): Json<NewTenantBody>,
) -> Result<impl IntoResponse, Problem> {
    let tenant = match body.name {
        Some(name) => Tenant::new(&name).map_err(|error| error.to_string()),
        None => Err("is missing".to_owned()),
    }
    .map_err(|message| Problem::invalid(vec![FieldError::new("name", message)]))?;
    let catalog = server.by_admin(admin).under(once.claim());
    let row = catalog.create_tenant(&tenant).await?;
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
    admin: Admin,
    Name(tenant): Name,
) -> Result<StatusCode, Problem> {
    server.by_admin(admin).delete_tenant(&named(&tenant)?).await?;
    server.keys.forget();
    Ok(StatusCode::NO_CONTENT)
}
