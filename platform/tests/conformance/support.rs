//! What all suites use.

use async_trait::async_trait;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

/// Where one case runs.
#[async_trait]
pub trait World: Send + Sync + 'static {
    /// Removes what the case left: topics, queues, buckets, folders. Called also when it failed.
    async fn remove(&self);
}

/// Runs a case in its world, and cleans up whatever happens.
pub async fn run<W: World, F>(world: W, case: impl FnOnce(Arc<W>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let world = Arc::new(world);
    let result = tokio::spawn(case(world.clone())).await;
    world.remove().await;
    if let Err(failed) = result {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// Makes one test of each case.
macro_rules! suite {
    ($world:expr, $suite:path, $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                use $suite as suite;
                $crate::support::run($world, |world| suite::$case(world)).await;
            }
        )+
    };
}

/// How long anything may take: emulators are slow, and so are busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The result of something that must come.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// A number that differs at each call and in each process.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A name nobody else uses, such as `orders-1f0c…`.
pub fn unique(what: &str) -> String {
    format!("{what}-{:016x}", random())
}

/// What `make test` says of the real services it started.
pub fn world(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(value) => value,
        Err(_) => panic!("{variable} is not set: run `make test`, which brings the world up"),
    }
}
