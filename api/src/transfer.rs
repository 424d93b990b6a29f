//! A tenant's targets, filters and subscriptions as one JSON document: written, and brought in again.
//!
//! Entries have the fields of the API and pass its checks. Secrets are not in it: a target that is made gets a
//! new one, which `POST /webhooks/targets/{id}/secret` shows.

use crate::Config;
use crate::filters::NewFilterBody;
use crate::json::{parse, parse_or_explain};
use crate::problem::{FieldError, Problem};
use crate::target_fields::{NewTargetBody, TargetBody};
use platform::catalog::{
    Catalog, CatalogError, Import, ImportError, ImportFilter, ImportSubscription, ImportTarget, Imported,
    Whole,
};
use schemas::ids::{FilterId, MAX_NUMERIC_ID, SubscriptionId, TargetId, Tenant};
use schemas::target::TargetState;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The version of the document that is written, and the only one that is read.
const VERSION: u64 = 1;
/// A document has at most so many entries of each kind: all are brought in in one transaction.
pub const MAX_ENTRIES: usize = 20_000;
/// What a target tells of itself, and nobody can set.
const READ_ONLY: [&str; 6] = [
    "state",
    "disabledReason",
    "verifiedAt",
    "notProved",
    "createdAt",
    "updatedAt",
];

/// Why a document was not brought in. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// These entries, or the document itself, are not right.
    #[error("{} of the document are not right", .0.len())]
    Document(Vec<FieldError>),
    /// There is no such tenant, or the database is away.
    #[error(transparent)]
    Catalog(CatalogError),
}

/// A document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "version")]
    _version: u64,
    /// Whose it was: for people.
    #[serde(rename = "tenant")]
    _tenant: Option<String>,
    #[serde(default)]
    targets: Vec<Map<String, Value>>,
    #[serde(default)]
    filters: Vec<Map<String, Value>>,
    #[serde(default)]
    subscriptions: Vec<SubscriptionEntry>,
}

/// A subscription; target and filter are in the same document.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubscriptionEntry {
    id: i64,
    target_id: i64,
    filter_id: i64,
    #[serde(default = "yes")]
    active: bool,
}

fn yes() -> bool {
    true
}

/// All that a tenant has, as a document.
///
/// # Errors
/// `NotFound` when there is no such tenant.
pub async fn export(catalog: &Catalog, tenant: &Tenant) -> Result<Value, CatalogError> {
    let Whole {
        targets,
        filters,
        subscriptions,
    } = catalog.whole(tenant).await?;
    let target = |target| {
        let body = TargetBody::from(target);
        // Unwrap safety: a struct with text keys, which always serialises to an object.
        let Value::Object(mut entry) = serde_json::to_value(body).expect("a target serialises") else {
            unreachable!("a struct is an object");
        };
        if entry.get("state") == Some(&json!(TargetState::Disabled.as_str())) {
            entry.insert("disabled".to_owned(), Value::Bool(true));
        }
        entry.retain(|field, value| !value.is_null() && !READ_ONLY.contains(&field.as_str()));
        entry
    };
    let subscription = |one: platform::catalog::Subscription| SubscriptionEntry {
        id: one.id.0,
        target_id: one.target.0,
        filter_id: one.filter.0,
        active: one.active,
    };
    let filter =
        |one: platform::catalog::Filter| json!({"id": one.id.0, "name": one.name, "events": one.events});
    Ok(json!({
        "version": VERSION,
        "tenant": tenant.as_str(),
        "targets": targets.into_iter().map(target).collect::<Vec<_>>(),
        "filters": filters.into_iter().map(filter).collect::<Vec<_>>(),
        "subscriptions": subscriptions.into_iter().map(subscription).collect::<Vec<_>>(),
    }))
}

/// Brings a document in; with `dry_run` says what it would do, and does nothing.
///
/// # Errors
/// [`TransferError`] names the entries and their fields.
pub async fn import(
    catalog: &Catalog,
    config: &Config,
    tenant: &Tenant,
    document: &[u8],
    dry_run: bool,
) -> Result<Imported, TransferError> {
    let import = read(document, config).map_err(TransferError::Document)?;
    let imported = catalog.import(tenant, import, dry_run).await;
    imported.map_err(|error| match error {
        ImportError::Catalog(error) => TransferError::Catalog(error),
        ImportError::NoKey(n) => TransferError::Document(vec![FieldError::new(
            format!("targets[{n}].tls.clientKey"),
            "is missing: keys are not exported; write it in, in PEM",
        )]),
        ImportError::Dangling(n, field) => TransferError::Document(vec![FieldError::new(
            format!("subscriptions[{n}].{field}"),
            "is not the id of an entry of this document",
        )]),
    })
}

/// Reads a document; what is wrong with it otherwise.
fn read(document: &[u8], config: &Config) -> Result<Import, Vec<FieldError>> {
    let all: Map<String, Value> = parse_or_explain(document).map_err(|(_, error)| vec![error])?;
    if all.get("version") != Some(&json!(VERSION)) {
        let found = all.get("version").map_or("nothing".to_owned(), Value::to_string);
        let message = format!("is {found}; this version of hookwright reads {VERSION}");
        return Err(vec![FieldError::new("version", message)]);
    }
    let document: Document = parse_or_explain(document).map_err(|(_, error)| vec![error])?;
    let mut errors = Vec::new();
    for (kind, count) in [
        ("targets", document.targets.len()),
        ("filters", document.filters.len()),
        ("subscriptions", document.subscriptions.len()),
    ] {
        if count > MAX_ENTRIES {
            let message = format!("has {count} entries; at most {MAX_ENTRIES} fit: split it");
            errors.push(FieldError::new(kind, message));
        }
    }
    let mut import = Import::default();
    let mut seen = HashSet::new();
    for (n, entry) in document.targets.into_iter().enumerate() {
        match target(entry, config, &mut seen) {
            Ok(one) => import.targets.push(one),
            Err(wrong) => errors.extend(within(&format!("targets[{n}]"), wrong)),
        }
    }
    seen.clear();
    for (n, entry) in document.filters.into_iter().enumerate() {
        match filter(entry, &mut seen) {
            Ok(one) => import.filters.push(one),
            Err(wrong) => errors.extend(within(&format!("filters[{n}]"), wrong)),
        }
    }
    seen.clear();
    let mut pairs = HashSet::new();
    for (n, entry) in document.subscriptions.into_iter().enumerate() {
        let id = new_id(Some(&json!(entry.id)), &mut seen);
        if !pairs.insert((entry.target_id, entry.filter_id)) {
            let message = "is together with this target in an entry before";
            errors.push(FieldError::new(format!("subscriptions[{n}].filterId"), message));
        }
        match id {
            Ok(id) => import.subscriptions.push(ImportSubscription {
                id: SubscriptionId(id),
                target: TargetId(entry.target_id),
                filter: FilterId(entry.filter_id),
                active: entry.active,
            }),
            Err(wrong) => errors.extend(within(&format!("subscriptions[{n}]"), vec![wrong])),
        }
    }
    if errors.is_empty() {
        Ok(import)
    } else {
        Err(errors)
    }
}

/// Errors of an entry, with its place before their fields.
fn within(place: &str, errors: Vec<FieldError>) -> impl Iterator<Item = FieldError> {
    errors.into_iter().map(move |error| match error.field.as_str() {
        "body" => FieldError::new(place, error.message),
        field => FieldError::new(format!("{place}.{field}"), error.message),
    })
}

/// An entry's id, which none before it has.
fn new_id(given: Option<&Value>, seen: &mut HashSet<i64>) -> Result<i64, FieldError> {
    let id = given
        .and_then(Value::as_i64)
        .filter(|id| (1..=MAX_NUMERIC_ID).contains(id));
    match id {
        None => Err(FieldError::new("id", "must be a number from 1 to 2^53 - 1")),
        Some(id) if !seen.insert(id) => Err(FieldError::new("id", "is that of an entry before")),
        Some(id) => Ok(id),
    }
}

fn target(
    mut entry: Map<String, Value>,
    config: &Config,
    seen: &mut HashSet<i64>,
) -> Result<ImportTarget, Vec<FieldError>> {
    let id = new_id(entry.remove("id").as_ref(), seen).map_err(|error| vec![error]);
    let disabled = match entry.remove("disabled") {
        None | Some(Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(_) => Err(vec![FieldError::new("disabled", "must be true or false")]),
    };
    let mut body: NewTargetBody = parse_entry(entry)?;
    // Checked apart from its key it would be refused; it need not be, where the target is there with both.
    let bare = body.take_bare_certificate();
    let mut target = body.check(config).map_err(Problem::into_errors)?;
    let lacks_key = bare.is_some();
    if let Some(tls) = &mut target.request.tls {
        tls.client_certificate = tls.client_certificate.take().or(bare);
    }
    if disabled? {
        target.state = TargetState::Disabled;
    }
    Ok(ImportTarget {
        id: TargetId(id?),
        target,
        lacks_key,
    })
}

fn filter(mut entry: Map<String, Value>, seen: &mut HashSet<i64>) -> Result<ImportFilter, Vec<FieldError>> {
    let id = new_id(entry.remove("id").as_ref(), seen).map_err(|error| vec![error]);
    let (name, events) = parse_entry::<NewFilterBody>(entry)?
        .check()
        .map_err(Problem::into_errors)?;
    Ok(ImportFilter {
        id: FilterId(id?),
        name,
        events,
    })
}

/// Reads an entry as the body of a request that makes it.
fn parse_entry<T: serde::de::DeserializeOwned>(entry: Map<String, Value>) -> Result<T, Vec<FieldError>> {
    let body = Value::Object(entry).to_string();
    parse(body.as_bytes()).map_err(|problem| {
        let mut errors = problem.into_errors();
        // A place in the entry as it was written anew says nothing of the document.
        for error in &mut errors {
            if let Some((message, _)) = error.message.rsplit_once(" at line ") {
                error.message = message.to_owned();
            }
        }
        errors
    })
}
