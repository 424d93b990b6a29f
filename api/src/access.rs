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
use http::HeaderMap;
use http::request::Parts;
use platform::catalog::Scope;
use std::sync::Arc;

/// A caller who may look things up: scope `read`.
pub struct Reads(pub Arc<Caller>);

/// A caller who may publish events: scope `publish`.
pub struct Publishes(pub Arc<Caller>);

/// A caller who may change things, and send again: scope `manage`.
pub struct Manages(pub Arc<Caller>);

/// Whose key a request brought, whatever that key may do.
///
/// # Errors
/// Those of [`Keys::caller`](crate::auth::Keys::caller).
pub async fn whose(server: &Server, headers: &HeaderMap) -> Result<Arc<Caller>, Problem> {
    let database = server.outages.of(Dependency::Database);
    server.keys.caller(&server.parts.catalog, database, headers).await
}

async fn caller(parts: &mut Parts, server: &Shared, scope: Scope) -> Result<Arc<Caller>, Problem> {
    let caller = whose(server, &parts.headers).await?;
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
