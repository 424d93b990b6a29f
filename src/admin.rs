//! `hookwright tenants` and `hookwright keys`: administration without the API.

use crate::cli::{KeysCommand, TenantsCommand};
use crate::dev;
use crate::failure::Failure;
use crate::terminal::{complain, say};
use platform::catalog::{Actor, Catalog, CatalogError, KeyRow, NewKey, Page, Scopes};
use platform::clock::Clock;
use platform::config::Config;
use platform::ports::Opener;
use platform::telemetry;
use schemas::ids::Tenant;
use schemas::time::Millis;
use std::path::Path;

/// Tenants.
pub async fn tenants(command: TenantsCommand, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    match command {
        TenantsCommand::Create { name } => {
            let tenant = Tenant::new(&name).map_err(|error| Failure::usage(error.to_string()))?;
            open(file, flags)
                .await?
                .create_tenant(&tenant)
                .await
                .map_err(|error| failed(&error))?;
            say(&format!(
                "tenant {tenant} created; give it a key: hookwright keys create --tenant {tenant}"
            ));
            Ok(())
        }
    }
}

/// API keys.
pub async fn keys(command: KeysCommand, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let named =
        |tenant: &str| Tenant::new(tenant).map_err(|error| Failure::usage(format!("--tenant: {error}")));
    match command {
        KeysCommand::Create {
            tenant,
            name,
            scope,
            expires_in,
        } => {
            let tenant = named(&tenant)?;
            let new = NewKey {
                name,
                scopes: match scope.is_empty() {
                    true => Scopes::ALL,
                    false => scope.into_iter().collect(),
                },
                expires_at: expires_in.map(|span| Clock::system().now().plus(span)),
            };
            let catalog = open(file, flags).await?;
            let created = catalog.create_key(&tenant, new).await;
            let (_, key) = created.map_err(|error| failed_for(&tenant, &error))?;
            say(&key);
            Ok(())
        }
        KeysCommand::List { tenant } => {
            let tenant = named(&tenant)?;
            let catalog = open(file, flags).await?;
            let there = catalog.get_tenant(&tenant).await;
            there.map_err(|error| failed_for(&tenant, &error))?;
            let mut page = Page {
                limit: 250,
                before: None,
            };
            loop {
                let keys = catalog.list_keys(&tenant, page).await;
                let keys = keys.map_err(|error| failed(&error))?;
                let Some(last) = keys.last() else {
                    return Ok(());
                };
                page.before = Some(last.id);
                keys.iter().for_each(show);
            }
        }
        KeysCommand::Revoke { tenant, id } => {
            let tenant = named(&tenant)?;
            let catalog = open(file, flags).await?;
            catalog
                .revoke_key(&tenant, id)
                .await
                .map_err(|error| match error {
                    CatalogError::NotFound => Failure::usage(format!("tenant {tenant} has no key {id}")),
                    error => failed(&error),
                })?;
            say(&format!("key {id} revoked"));
            Ok(())
        }
    }
}

/// A key on one line, with tabs between.
fn show(key: &KeyRow) {
    let time = |time: Option<Millis>| time.map_or_else(|| "never".to_owned(), Millis::to_rfc3339);
    let scopes = key.scopes.to_string().replace(' ', ",");
    let (made, ends) = (time(Some(key.created_at)), time(key.expires_at));
    let used = time(key.last_used_at);
    let (id, prefix, name) = (key.id, &key.prefix, &key.name);
    say(&format!(
        "{id}\t{prefix}…\t{scopes}\tmade {made}\tends {ends}\tused {used}\t{name}"
    ));
}

/// The configuration of a command that opens the catalog: where nothing names a key that seals, nor a database, and
/// `hookwright dev` has made its own in the data folder, that of `dev`. A line on stderr then says so.
///
/// # Errors
/// When the configuration is not valid, or there is no key.
pub fn config(file: Option<&Path>, flags: &str) -> Result<Config, Failure> {
    let config = Config::load(file, "", flags)?;
    let Err(no_key) = config.check_sealing() else {
        return Ok(config);
    };
    // The key of `dev` is that of the database beside it.
    let presets = match config.store.url {
        None => dev::presets_of(&config.data)?,
        Some(_) => None,
    };
    let Some(presets) = presets else {
        return Err(Failure::usage(format!(
            "{no_key}\n  what `hookwright dev` keeps is found where it was started, or with HOOKWRIGHT_DATA=DIR, its --data"
        )));
    };
    complain(&format!(
        "no configuration names a database: using what `hookwright dev` keeps in {}",
        config.data.display()
    ));
    Ok(Config::load(file, &presets, flags)?)
}

/// The catalog, migrated.
pub async fn open(file: Option<&Path>, flags: &str) -> Result<Catalog, Failure> {
    open_with(&config(file, flags)?).await
}

/// The catalog of a configuration, migrated.
pub async fn open_with(config: &Config) -> Result<Catalog, Failure> {
    telemetry::start_logs(&config.log)?;
    let catalog = Opener::new(config, Clock::system()).catalog().await?;
    catalog
        .check()
        .await
        .map_err(|error| Failure::away("store.url", &error))?;
    Ok(catalog.by(Actor::Admin))
}

/// The failure of a call for a tenant, which may not be there.
pub fn failed_for(tenant: &Tenant, error: &CatalogError) -> Failure {
    match error {
        CatalogError::NotFound => Failure::usage(format!(
            "--tenant: there is no tenant {tenant}; create it: hookwright tenants create {tenant}"
        )),
        error => failed(error),
    }
}

fn failed(error: &CatalogError) -> Failure {
    match error {
        CatalogError::Unavailable(_) => Failure::away("store.url", error),
        CatalogError::NotFound
        | CatalogError::Conflict(_)
        | CatalogError::Changed
        | CatalogError::InUse(_)
        | CatalogError::Dangling { .. } => Failure::usage(error.to_string()),
    }
}
