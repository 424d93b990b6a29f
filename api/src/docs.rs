//! `/openapi.json`, `/docs` and the pages that point to them.

use crate::Shared;
use crate::json::Json;
use axum::extract::State;
use axum::response::{Html, IntoResponse};
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The tag of the routes that take no key.
pub(crate) const TAG: &str = "docs";

/// Reads `/openapi.json` and shows it; nothing is fetched from elsewhere.
const PAGE: &str = include_str!("docs.html");

/// What the pages may do: run what stands in them, and ask this server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(openapi_document))
        .routes(routes!(docs_page))
}

/// The page at `/`.
pub(crate) fn landing() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(landing_page))
}

/// The index under the base path.
pub(crate) fn index() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(api_index))
}

/// The OpenAPI document
///
/// Describes this API as it is, in OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = TAG,
    responses((status = 200, description = "The document.", content_type = "application/json", body = Object,
        example = json!({"openapi": "3.1.0", "info": {"title": "hookwright"}, "paths": {}}))))]
async fn openapi_document(State(server): State<Shared>) -> impl IntoResponse {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], server.document.clone())
}

/// The documentation page
///
/// The OpenAPI document for people, with examples and curl lines. Works without the internet.
#[utoipa::path(get, path = "/docs", tag = TAG,
    responses((status = 200, description = "The page.", content_type = "text/html", body = String,
        example = json!("<!doctype html>"))))]
async fn docs_page() -> impl IntoResponse {
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE))
}

/// Where to read on.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "name": "hookwright", "version": "0.1.0", "docs": "/v1/docs", "openapi": "/v1/openapi.json"
}))]
struct Index {
    /// `hookwright`.
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// The path of the documentation page.
    docs: String,
    /// The path of the OpenAPI document.
    openapi: String,
}

/// The index
///
/// Names the version and where the documentation is.
#[utoipa::path(get, path = "/", tag = TAG,
    responses((status = 200, description = "The index.", body = Index)))]
async fn api_index(State(server): State<Shared>) -> Json<Index> {
    let base = &server.config.base_path;
    Json(Index {
        name: "hookwright",
        version: env!("CARGO_PKG_VERSION"),
        docs: format!("{base}/docs"),
        openapi: format!("{base}/openapi.json"),
    })
}

/// The landing page
///
/// Says what this server is and links to the documentation.
#[utoipa::path(get, path = "/", tag = TAG,
    responses((status = 200, description = "The page.", content_type = "text/html", body = String,
        example = json!("<!doctype html>"))))]
async fn landing_page(State(server): State<Shared>) -> impl IntoResponse {
    let base = &server.config.base_path;
    let version = env!("CARGO_PKG_VERSION");
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>hookwright</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:4rem auto;max-width:40rem;padding:0 1rem}}</style>\
         <h1>hookwright</h1><p>Webhook delivery {version}: events in, signed POSTs out, at least once.\
         <ul><li><a href=\"{base}/docs\">API documentation</a>\
         <li><a href=\"{base}/openapi.json\">OpenAPI document</a></ul></html>"
    );
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(page))
}
