//! What a request needs to be let in: the one place where a route says so.
//!
//! A handler that takes [`Reads`], [`Publishes`] or [`Manages`] needs a tenant's key with that scope, and one that
//! takes [`Admin`] the admin key. There is no other way for a handler to the tenant of a request, so no route can be without.
//! They stand before everything else that a handler takes: who may not do a thing is not told what is wrong with it.
//! The OpenAPI document says the same of each operation (`document`), and `tests/rest/tenancy.rs` holds the two
//! together.

use crate::auth::{Admin, Caller};
use crate::outages::Dependency;
use crate::problem::Problem;
use crate::{Server, Shared};
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Extensions, HeaderMap};
use platform::catalog::Scope;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the one who asks is taken from the request itself, once found: long enough for what stands before a
/// handler, and no longer, since a key may be revoked while a body comes. It counts towards the two seconds after
/// which a revoked key must be refused everywhere (see `auth`).
pub const FOUND_FOR: Duration = Duration::from_millis(100);

/// Whose key a request brought, and when that was found.
#[derive(Clone)]
struct Found(Arc<Caller>, Instant);

/// A caller who may look things up: scope `read`.
pub struct Reads(pub Arc<Caller>);

/// A caller who may publish events: scope `publish`.
pub struct Publishes(pub Arc<Caller>);

/// A caller who may change things, and send again: scope `manage`.
pub struct Manages(pub Arc<Caller>);

/// Whose key a request brought, whatever that key may do. Leaves the answer in the request's extensions, for whoever
/// asks next.
///
/// # Errors
/// Those of [`Keys::caller`](crate::auth::Keys::caller).
pub async fn whose(
    server: &Server,
    headers: &HeaderMap,
    extensions: &mut Extensions,
) -> Result<Arc<Caller>, Problem> {
    if let Some(Found(caller, at)) = extensions.get()
        && at.elapsed() < FOUND_FOR
    {
        return Ok(caller.clone());
    }
    let database = server.outages.of(Dependency::Database);
    let caller = server
        .keys
        .caller(&server.parts.catalog, database, headers)
        .await?;
    extensions.insert(Found(caller.clone(), Instant::now()));
    Ok(caller)
}

async fn caller(parts: &mut Parts, server: &Shared, scope: Scope) -> Result<Arc<Caller>, Problem> {
    let caller = whose(server, &parts.headers, &mut parts.extensions).await?;
    if caller.key.scopes.has(scope) {
        // For the cursors of its lists.
        parts.extensions.insert(caller.tenant.clone());
        return Ok(caller);
    }
    let has: Vec<&str> = caller.key.scopes.iter().map(Scope::as_str).collect();
    Err(Problem::forbidden(format!(
        "this needs an API key with scope {scope}; this one has {}",
        has.join(" and ")
    )))
}

impl FromRequestParts<Shared> for Reads {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Shared) -> Result<Self, Problem> {
        caller(parts, server, Scope::Read).await.map(Self)
    }
}

impl FromRequestParts<Shared> for Publishes {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Shared) -> Result<Self, Problem> {
        caller(parts, server, Scope::Publish).await.map(Self)
    }
}

impl FromRequestParts<Shared> for Manages {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Shared) -> Result<Self, Problem> {
        caller(parts, server, Scope::Manage).await.map(Self)
    }
}

impl FromRequestParts<Shared> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Shared) -> Result<Self, Problem> {
        server.keys.admin(&parts.headers)
    }
}
