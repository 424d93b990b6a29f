//! What is remembered of a target, ready to send.

use crate::request;
use http::{HeaderMap, Uri};
use platform::catalog::CatalogError;
use platform::follow::{Follower, Remembered};
use schemas::ids::TargetId;
use schemas::target::TargetDetails;
use std::sync::Arc;

/// A target, its address and own headers parsed once.
pub struct ReadyTarget {
    /// As the catalog has it.
    pub details: TargetDetails,
    /// Its address; `None` if it is not one, which registration prevents.
    pub uri: Option<Uri>,
    /// Its own headers.
    pub headers: HeaderMap,
}

/// The targets of the catalog, remembered.
pub struct Targets {
    catalog: Arc<Follower>,
    /// A deleted target is remembered as `None`.
    targets: Remembered<TargetId, Option<Arc<ReadyTarget>>>,
}

/// Targets remembered at once; about 1 KiB each.
const REMEMBERED: u64 = 20_000;

impl Targets {
    /// The targets of a catalog.
    #[must_use]
    pub fn new(catalog: Arc<Follower>) -> Self {
        Self {
            catalog,
            targets: Remembered::new(REMEMBERED, |_, _| 1),
        }
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Follower {
        &self.catalog
    }

    /// A target, or `None` if it was deleted.
    ///
    /// # Errors
    /// When it is not remembered and the catalog is away.
    pub async fn get(&self, id: TargetId) -> Result<Option<Arc<ReadyTarget>>, CatalogError> {
        self.catalog.catch_up().await;
        let changed = || self.catalog.target_changed(id);
        let load = async {
            let details = self.catalog.catalog().target_details(id).await?;
            Ok(details.map(|details| {
                let uri = details.url.parse().ok();
                let headers = request::own_headers(&details.headers);
                Arc::new(ReadyTarget {
                    details,
                    uri,
                    headers,
                })
            }))
        };
        self.targets.get(&id, changed, load).await
    }
}
