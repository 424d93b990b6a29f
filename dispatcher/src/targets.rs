//! What is remembered of a target, ready to send.

use crate::request;
use http::{HeaderMap, Uri};
use platform::catalog::CatalogError;
use platform::follow::{Follower, Remembered};
use schemas::ids::{TargetId, sha256_hex};
use schemas::target::{SecretText, TargetDetails, TlsOptions};
use std::sync::Arc;

/// TLS of a target's own.
pub struct OwnTls {
    /// The same for the same target with the same options and key.
    pub id: String,
    /// Whom to trust, and what to show.
    pub options: TlsOptions,
    /// The key of what is shown.
    pub client_key: Option<SecretText>,
}

impl OwnTls {
    /// That of a target, if it has its own.
    #[must_use]
    pub fn of(details: &TargetDetails) -> Option<Self> {
        let options = details.request.tls.clone()?;
        // Hashed apart, so that no text with the key in it is put together.
        let key = details
            .client_key
            .as_ref()
            .map(|key| sha256_hex(key.reveal().as_bytes()));
        let parts = (details.id.0, &options.ca, &options.client_certificate, key);
        Some(Self {
            id: sha256_hex(format!("{parts:?}").as_bytes()),
            options,
            client_key: details.client_key.clone(),
        })
    }
}

/// A target, its address and own headers parsed once.
pub struct ReadyTarget {
    /// As the catalog has it.
    pub details: TargetDetails,
    /// Its address; `None` if it is not one, which registration prevents.
    pub uri: Option<Uri>,
    /// Its own headers.
    pub headers: HeaderMap,
    /// TLS of its own.
    pub tls: Option<OwnTls>,
}

impl ReadyTarget {
    /// A target as the catalog has it.
    #[must_use]
    pub fn new(details: TargetDetails) -> Self {
        Self {
            uri: details.url.parse().ok(),
            headers: request::own_headers(&details.headers),
            tls: OwnTls::of(&details),
            details,
        }
    }
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
            Ok(details.map(|details| Arc::new(ReadyTarget::new(details))))
        };
        self.targets.get(&id, changed, load).await
    }
}
