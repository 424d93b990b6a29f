//! All targets, filters and subscriptions of a tenant, read at once, and brought in from elsewhere: all or nothing.
//!
//! An entry is the tenant's own of the same id; where there is none, one with the same content; otherwise it is
//! made, by its id if nobody has it. So bringing in the same again changes nothing.

mod alike;

use super::audited::{Action, Entry};
use super::db::Write;
use super::filters::{self, filter_row};
use super::subscriptions::{self, subscription_row};
use super::targets::{self, target_row};
use super::{Catalog, CatalogError, Change, Filter, NewTarget, Subscription, Target};
use alike::{is_same, patch};
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::collections::{HashMap, HashSet};

/// All that a tenant has, as it was at one moment; each in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its targets.
    pub targets: Vec<Target>,
    /// Its filters.
    pub filters: Vec<Filter>,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// What is to be brought in. Ids are each other's references, unique for each kind.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Targets.
    pub targets: Vec<ImportTarget>,
    /// Filters.
    pub filters: Vec<ImportFilter>,
    /// Subscriptions.
    pub subscriptions: Vec<ImportSubscription>,
}

/// A target to bring in.
#[derive(Clone, Debug)]
pub struct ImportTarget {
    /// The id it has elsewhere.
    pub id: TargetId,
    /// What it is, checked. The state counts only where it is made.
    pub target: NewTarget,
    /// Whether it has a client certificate whose key did not come with it: only one that is there as it is has the key.
    pub lacks_key: bool,
}

/// A filter to bring in.
#[derive(Clone, Debug)]
pub struct ImportFilter {
    /// The id it has elsewhere.
    pub id: FilterId,
    /// See [`Filter::name`].
    pub name: String,
    /// See [`Filter::events`]; checked, without repeats.
    pub events: Vec<String>,
}

/// A subscription to bring in: its target and filter come with it.
#[derive(Clone, Debug)]
pub struct ImportSubscription {
    /// The id it has elsewhere.
    pub id: SubscriptionId,
    /// The target, by its id elsewhere.
    pub target: TargetId,
    /// The filter, by its id elsewhere.
    pub filter: FilterId,
    /// See [`Subscription::active`].
    pub active: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was not there.
    Made,
    /// It was there, otherwise.
    Changed,
    /// It was there as it is.
    Same,
}

/// What became of all entries, in their order: the id each has here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Targets.
    pub targets: Vec<(TargetId, Settled)>,
    /// Filters.
    pub filters: Vec<(FilterId, Settled)>,
    /// Subscriptions.
    pub subscriptions: Vec<(SubscriptionId, Settled)>,
}

impl Imported {
    fn changes_nothing(&self) -> bool {
        let same = |settled: Settled| settled == Settled::Same;
        self.targets.iter().all(|(_, settled)| same(*settled))
            && self.filters.iter().all(|(_, settled)| same(*settled))
            && self.subscriptions.iter().all(|(_, settled)| same(*settled))
    }
}

/// Why nothing was brought in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// There is no such tenant, or the database is away.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A target that has to be made, or gets another certificate, comes without the certificate's key: its place
    /// among the targets.
    #[error("target {0} comes without the key of its client certificate")]
    NoKey(usize),
    /// A subscription refers to something that does not come with it: its place among the subscriptions, and the field.
    #[error("subscription {0}: {1} is not in what is brought in")]
    Dangling(usize, &'static str),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl Catalog {
    /// All that a tenant has, as it is at one moment.
    ///
    /// # Errors
    /// `NotFound` when there is no such tenant.
    pub async fn whole(&self, tenant: &Tenant) -> Result<Whole, CatalogError> {
        self.get_tenant(tenant).await?;
        let mut reading = self.db.moment_of(tenant).await?;
        whole(&mut reading, tenant).await
    }

    /// Brings targets, filters and subscriptions in, all or none of them; with `dry_run` none, but says what
    /// would become of each.
    ///
    /// # Errors
    /// [`ImportError`]; nothing was changed.
    pub async fn import(
        &self,
        tenant: &Tenant,
        import: Import,
        dry_run: bool,
    ) -> Result<Imported, ImportError> {
        let mut write = self.db.begin_of(tenant).await?;
        // Of two imports at once the second sees what the first has made. Others need not wait.
        let there = sqlx::query("UPDATE tenants SET created_at = created_at WHERE name = $1")
            .bind(tenant.as_str())
            .execute(write.on())
            .await?
            .rows_affected();
        if there == 0 {
            return Err(CatalogError::NotFound.into());
        }
        let here = whole(write.on(), tenant).await?;
        let mut done = Imported {
            targets: self
                .import_targets(&mut write, tenant, here.targets, &import.targets)
                .await?,
            filters: self
                .import_filters(&mut write, tenant, here.filters, &import.filters)
                .await?,
            subscriptions: Vec::new(),
        };
        let ids = Ids {
            targets: import
                .targets
                .iter()
                .map(|one| one.id)
                .zip(done.targets.iter().map(|(id, _)| *id))
                .collect(),
            filters: import
                .filters
                .iter()
                .map(|one| one.id)
                .zip(done.filters.iter().map(|(id, _)| *id))
                .collect(),
        };
        done.subscriptions = self
            .import_subscriptions(
                &mut write,
                tenant,
                here.subscriptions,
                &import.subscriptions,
                &ids,
            )
            .await?;
        if dry_run || done.changes_nothing() {
            return Ok(done);
        }
        // Last, and one after the other: until the commit nobody else can add a change.
        for (id, settled) in &done.targets {
            if *settled != Settled::Same {
                write.changed(tenant, Some(*id)).await?;
            }
        }
        write.changed(tenant, None).await?;
        self.commit(write).await?;
        Ok(done)
    }

    async fn import_targets(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        here: Vec<Target>,
        given: &[ImportTarget],
    ) -> Result<Vec<(TargetId, Settled)>, ImportError> {
        let here: HashMap<TargetId, Target> = here.into_iter().map(|target| (target.id, target)).collect();
        let named: HashSet<TargetId> = given.iter().map(|one| one.id).collect();
        let mut alike: HashMap<&str, Vec<&Target>> = HashMap::new();
        let mut ids: Vec<&TargetId> = here.keys().filter(|id| !named.contains(id)).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        for id in ids {
            alike.entry(&here[id].url).or_default().push(&here[id]);
        }
        let mut done = Vec::with_capacity(given.len());
        for (n, one) in given.iter().enumerate() {
            if let Some(old) = here.get(&one.id) {
                let settled = if is_same(old, &one.target) {
                    Settled::Same
                } else {
                    if one.lacks_key && old.request.tls != one.target.request.tls {
                        return Err(ImportError::NoKey(n));
                    }
                    let patch = patch(old, one.target.clone());
                    self.update_target(write, tenant, one.id, patch).await?;
                    Settled::Changed
                };
                done.push((one.id, settled));
                continue;
            }
            let others = alike.entry(&one.target.url).or_default();
            // The oldest first: as they were made.
            if let Some(at) = others.iter().rposition(|old| is_same(old, &one.target)) {
                done.push((others.remove(at).id, Settled::Same));
                continue;
            }
            if one.lacks_key {
                return Err(ImportError::NoKey(n));
            }
            let new = one.target.clone();
            let made = self.insert_bare_target(write, tenant, new, Some(one.id)).await?;
            let (_, key) = crate::secrets::new_whsec();
            self.insert_secret(write, made.id, &key).await?;
            self.add_pairs(write, &made).await?;
            done.push((made.id, Settled::Made));
        }
        Ok(done)
    }

    async fn import_filters(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        here: Vec<Filter>,
        given: &[ImportFilter],
    ) -> Result<Vec<(FilterId, Settled)>, ImportError> {
        let here: HashMap<FilterId, Filter> = here.into_iter().map(|filter| (filter.id, filter)).collect();
        let named: HashSet<FilterId> = given.iter().map(|one| one.id).collect();
        let mut alike: HashMap<(&str, &[String]), Vec<FilterId>> = HashMap::new();
        for filter in here.values().filter(|filter| !named.contains(&filter.id)) {
            alike
                .entry((filter.name.as_str(), filter.events.as_slice()))
                .or_default()
                .push(filter.id);
        }
        alike
            .values_mut()
            .for_each(|ids| ids.sort_unstable_by(|a, b| b.cmp(a)));
        let mut done = Vec::with_capacity(given.len());
        for one in given {
            if let Some(old) = here.get(&one.id) {
                let mut settled = Settled::Same;
                if (&old.name, &old.events) != (&one.name, &one.events) {
                    let (name, events) = (Change::Set(one.name.clone()), Change::Set(one.events.clone()));
                    self.update_filter(write, tenant, one.id, name, events).await?;
                    settled = Settled::Changed;
                }
                done.push((one.id, settled));
            } else if let Some(id) = alike
                .get_mut(&(one.name.as_str(), one.events.as_slice()))
                .and_then(Vec::pop)
            {
                done.push((id, Settled::Same));
            } else {
                let (name, events) = (one.name.clone(), one.events.clone());
                let made = self
                    .insert_filter(write, tenant, name, events, Some(one.id))
                    .await?;
                done.push((made.id, Settled::Made));
            }
        }
        Ok(done)
    }

    async fn import_subscriptions(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        here: Vec<Subscription>,
        given: &[ImportSubscription],
        ids: &Ids,
    ) -> Result<Vec<(SubscriptionId, Settled)>, ImportError> {
        // A target and a filter are together once at most: that is what a subscription is known by.
        let pairs: HashMap<(TargetId, FilterId), Subscription> = here
            .into_iter()
            .map(|one| ((one.target, one.filter), one))
            .collect();
        let mut done = Vec::with_capacity(given.len());
        for (n, one) in given.iter().enumerate() {
            let target = ids
                .targets
                .get(&one.target)
                .ok_or(ImportError::Dangling(n, "targetId"))?;
            let filter = ids
                .filters
                .get(&one.filter)
                .ok_or(ImportError::Dangling(n, "filterId"))?;
            let pair = (*target, *filter);
            match pairs.get(&pair) {
                Some(old) if old.active == one.active => done.push((old.id, Settled::Same)),
                Some(old) => {
                    let new = Subscription {
                        active: one.active,
                        updated_at: self.clock.now(),
                        ..old.clone()
                    };
                    sqlx::query("UPDATE subscriptions SET active = $1, updated_at = $2 WHERE id = $3")
                        .bind(i64::from(new.active))
                        .bind(new.updated_at.0)
                        .bind(new.id.0)
                        .execute(write.on())
                        .await?;
                    let entry = Entry::changed(Action::Update, old, &new);
                    self.note(write, tenant, entry).await?;
                    done.push((old.id, Settled::Changed));
                }
                None => {
                    let made = self
                        .insert_subscription(write, tenant, pair, one.active, Some(one.id))
                        .await?;
                    done.push((made.id, Settled::Made));
                }
            }
        }
        Ok(done)
    }
}

/// The ids that targets and filters have here, by those they have elsewhere.
struct Ids {
    targets: HashMap<TargetId, TargetId>,
    filters: HashMap<FilterId, FilterId>,
}

async fn whole(connection: &mut AnyConnection, tenant: &Tenant) -> Result<Whole, CatalogError> {
    Ok(Whole {
        targets: all(connection, tenant, targets::COLUMNS, "targets", target_row).await?,
        filters: all(connection, tenant, filters::COLUMNS, "filters", filter_row).await?,
        subscriptions: all(
            connection,
            tenant,
            subscriptions::COLUMNS,
            "subscriptions",
            subscription_row,
        )
        .await?,
    })
}

/// All of a tenant's rows of a table.
async fn all<T>(
    connection: &mut AnyConnection,
    tenant: &Tenant,
    columns: &str,
    table: &str,
    read: impl Fn(&AnyRow) -> Result<T, CatalogError>,
) -> Result<Vec<T>, CatalogError> {
    let sql = format!("SELECT {columns} FROM {table} WHERE tenant = $1 ORDER BY id");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}
