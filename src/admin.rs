//! `hookwright tenants` and `hookwright keys`: administration without the API.

use crate::cli::{KeysCommand, TenantsCommand};
use crate::failure::Failure;
use crate::terminal::say;
use platform::catalog::{Catalog, CatalogError};
use platform::clock::Clock;
use platform::config::Config;
use platform::ports::Opener;
use platform::telemetry;
use schemas::ids::Tenant;
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
    match command {
        KeysCommand::Create { tenant, name } => {
            let tenant =
                Tenant::new(&tenant).map_err(|error| Failure::usage(format!("--tenant: {error}")))?;
            let catalog = open(file, flags).await?;
            let created = catalog.create_key(&tenant, &name).await;
            let (_, key) = created.map_err(|error| match error {
                CatalogError::NotFound => Failure::usage(format!(
                    "--tenant: there is no tenant {tenant}; create it: hookwright tenants create {tenant}"
                )),
                error => failed(&error),
            })?;
            say(&key);
            Ok(())
        }
    }
}

async fn open(file: Option<&Path>, flags: &str) -> Result<Catalog, Failure> {
    let config = Config::load(file, "", flags)?;
    telemetry::start_logs(&config.log)?;
    let catalog = Opener::new(&config, Clock::system()).catalog().await?;
    catalog
        .check()
        .await
        .map_err(|error| Failure::away("store.url", &error))?;
    Ok(catalog)
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
