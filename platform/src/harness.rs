//! The service harness: signals, drain, health, and who dies with whom.
//!
//! A role is a future that runs until the shutdown token is cancelled and then drains. If one ends
//! before, the process stops: half a pipeline that looks alive is worse than none.

mod at_once;
pub mod backoff;
pub mod ops;

pub use at_once::at_once;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a role ended: whatever it says of itself.
pub type RoleError = Box<dyn std::error::Error + Send + Sync>;

/// A role and the name it goes by in logs and health.
pub struct Role {
    /// Its name, such as `consumer`.
    pub name: &'static str,
    /// Runs until the shutdown token is cancelled, then drains.
    pub task: Pin<Box<dyn Future<Output = Result<(), RoleError>> + Send>>,
}

impl Role {
    /// A role.
    pub fn new<E: Into<RoleError>>(
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        Self {
            name,
            task: Box::pin(async move { task.await.map_err(Into::into) }),
        }
    }
}

/// How a process ended that did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    /// A role ended with an error.
    #[error("{role} stopped: {error}")]
    Failed {
        /// Which.
        role: &'static str,
        /// Why.
        error: RoleError,
    },
    /// A role ended although nobody asked it to.
    #[error("{role} ended by itself")]
    Ended {
        /// Which.
        role: &'static str,
    },
    /// A role panicked.
    #[error("{role} panicked: {message}")]
    Panicked {
        /// Which.
        role: String,
        /// The panic's message.
        message: String,
    },
    /// Running work did not finish in time.
    #[error("not drained within {} (shutdown.grace): {}", humantime::format_duration(*.grace), .roles.join(", "))]
    Late {
        /// How long it had.
        grace: Duration,
        /// Who was still running.
        roles: Vec<&'static str>,
    },
}

/// Runs the roles until the token is cancelled or one of them ends, then lets all drain.
///
/// # Errors
/// [`Died`] when a role failed, ended by itself, panicked, or did not drain within `grace`.
pub async fn supervise(roles: Vec<Role>, shutdown: CancellationToken, grace: Duration) -> Result<(), Died> {
    let mut running = JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for role in roles {
        let handle = running.spawn(role.task);
        names.insert(handle.id(), role.name);
    }
    let mut outcome = Ok(());
    let first = tokio::select! {
        () = shutdown.cancelled() => None,
        first = running.join_next_with_id() => first,
    };
    if let Some(first) = first {
        // Seen first or not: a role that has nothing to drain ends as soon as it is asked to.
        outcome = judge(&mut names, first, shutdown.is_cancelled());
        shutdown.cancel();
    }
    let drained = tokio::time::timeout(grace, async {
        while let Some(ended) = running.join_next_with_id().await {
            let ended = judge(&mut names, ended, true);
            if outcome.is_ok() {
                outcome = ended;
            }
        }
    })
    .await;
    if drained.is_err() && outcome.is_ok() {
        let mut roles: Vec<_> = names.into_values().collect();
        roles.sort_unstable();
        outcome = Err(Died::Late { grace, roles });
    }
    outcome
}

type Ended = Result<(tokio::task::Id, Result<(), RoleError>), tokio::task::JoinError>;

fn judge(
    names: &mut std::collections::HashMap<tokio::task::Id, &'static str>,
    ended: Ended,
    asked: bool,
) -> Result<(), Died> {
    match ended {
        Ok((id, result)) => {
            let role = names.remove(&id).unwrap_or("a role");
            match result {
                Ok(()) if asked => Ok(()),
                Ok(()) => Err(Died::Ended { role }),
                Err(error) => Err(Died::Failed { role, error }),
            }
        }
        Err(error) => {
            let role = names.remove(&error.id()).unwrap_or("a role").to_owned();
            let message = match error.try_into_panic() {
                Ok(panic) => panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default(),
                Err(_) => "cancelled".to_owned(),
            };
            Err(Died::Panicked { role, message })
        }
    }
}

/// Cancels the token at SIGTERM or SIGINT; a second signal ends the process at once.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn stop_on_signals(shutdown: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        shutdown.cancel();
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::warn!("second signal; stopping without draining");
        std::process::exit(130);
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(shutdown: &CancellationToken) -> Role {
        let shutdown = shutdown.clone();
        Role::new("waits", async move {
            shutdown.cancelled().await;
            Ok::<(), RoleError>(())
        })
    }

    #[tokio::test]
    async fn a_clean_stop_drains_every_role() {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { stop.cancel() });
        assert!(
            supervise(
                vec![waits(&shutdown), waits(&shutdown)],
                shutdown,
                Duration::from_secs(5)
            )
            .await
            .is_ok()
        );
    }

    #[tokio::test]
    async fn a_role_that_ends_the_moment_it_is_asked_to_has_not_died() {
        // Which of the two is seen first is left to chance: often enough, both are.
        for _ in 0..100 {
            let shutdown = CancellationToken::new();
            shutdown.cancel();
            let ended = Role::new("quick", async { Ok::<(), RoleError>(()) });
            supervise(vec![ended], shutdown, Duration::from_secs(5))
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn one_roles_death_stops_the_others_and_is_told() {
        let shutdown = CancellationToken::new();
        let dies = Role::new("dies", async { Err::<(), RoleError>("no disk".into()) });
        let died = supervise(vec![waits(&shutdown), dies], shutdown, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(died.to_string(), "dies stopped: no disk");
    }

    #[tokio::test]
    async fn a_role_that_ends_unasked_or_panics_is_a_death() {
        let shutdown = CancellationToken::new();
        let ends = Role::new("ends", async { Ok::<(), RoleError>(()) });
        let died = supervise(vec![waits(&shutdown), ends], shutdown, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(matches!(died, Died::Ended { role: "ends" }));

        let shutdown = CancellationToken::new();
        let panics = Role::new("panics", async {
            if true {
                panic!("boom")
            } else {
                Ok::<(), RoleError>(())
            }
        });
        let died = supervise(vec![waits(&shutdown), panics], shutdown, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(died.to_string(), "panics panicked: boom");
    }

    #[tokio::test]
    async fn who_does_not_drain_in_time_is_named() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let hangs = Role::new("hangs", std::future::pending::<Result<(), RoleError>>());
        let died = supervise(vec![hangs], shutdown, Duration::from_millis(10))
            .await
            .unwrap_err();
        assert_eq!(
            died.to_string(),
            "not drained within 10ms (shutdown.grace): hangs"
        );
    }
}
