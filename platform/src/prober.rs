//! Port: a request to a target that is no delivery: a challenge, or a test. Implemented where targets are
//! sent to, for whoever lets customers ask for one.

use crate::catalog::{Catalog, CatalogError};
use async_trait::async_trait;
use schemas::outcome::AttemptError;
use schemas::target::TargetDetails;
use schemas::verification::NoProof;
use std::time::Duration;

/// Why a target has not proved that it wants deliveries. What it says is told to its owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    /// It did not answer.
    #[error("the challenge had no answer ({0})")]
    NoAnswer(AttemptError),
    /// Its answer is no proof.
    #[error(transparent)]
    NoProof(#[from] NoProof),
}

impl NotProved {
    /// Whether a target that had proved itself before keeps its proof for a while. One that shows another
    /// certificate than its own does not.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer(why) => *why != AttemptError::Tls,
            Self::NoProof(why) => why.may_pass(),
        }
    }
}

/// What a target said to a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// Its status, or why there was no answer.
    pub answer: Result<u16, AttemptError>,
    /// The beginning of its answer's body, as text.
    pub excerpt: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Sends requests that are no deliveries, by the rules of deliveries: the same guard, limits and signature.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Puts a target to its challenge.
    ///
    /// # Errors
    /// Why that is no proof.
    async fn challenge(&self, target: &TargetDetails) -> Result<(), NotProved>;

    /// Sends a target a signed example.
    async fn test(&self, target: &TargetDetails) -> Tested;
}

/// Puts one target to its challenge, and notes what came of it: why it is unverified now, if it is.
///
/// # Errors
/// When the catalog is away.
pub async fn ask(
    catalog: &Catalog,
    prober: &dyn Prober,
    details: &TargetDetails,
) -> Result<Result<(), NotProved>, CatalogError> {
    let said = prober.challenge(details).await;
    let noted = match &said {
        Ok(()) => catalog.proved(details.id, &details.url).await,
        Err(why) => {
            let text = why.to_string();
            catalog
                .not_proved(details.id, &details.url, &text, why.may_pass())
                .await
                .map(|is_unverified| {
                    if is_unverified {
                        tracing::info!(target = %details.id, why = text, "target did not prove itself");
                    }
                })
        }
    };
    match noted {
        // Gone, or another address by now: what was said of the old one counts for nothing.
        Ok(()) | Err(CatalogError::NotFound) => Ok(said),
        Err(error) => Err(error),
    }
}
