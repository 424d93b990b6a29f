//! Targets as they are out there: those that may not be dialled, and those that behave oddly.

mod certificates;
mod guard;
mod h2_targets;
mod http1_targets;
mod names;
mod odd;
mod own_tls;
mod pool;
mod sink;
mod through;
mod tls_targets;

use dispatcher::Config;
use dispatcher::gate::breaker::BreakerPolicy;
use dispatcher::gate::limit::Bounds;
use schemas::egress::EgressRules;
use schemas::schedule::RetryPolicy;
use std::time::Duration;

/// Rules under which plain http to these networks is allowed.
pub fn open(networks: &[&str]) -> EgressRules {
    EgressRules {
        allow_http: true,
        allow_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..EgressRules::default()
    }
}

/// A dispatcher's settings with these rules.
pub fn config(rules: EgressRules) -> Config {
    Config {
        timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(5),
        concurrency: 8,
        per_target: Bounds::new(1, 8, 8),
        tenant_share: 1.0,
        breaker: BreakerPolicy {
            min_attempts: 10,
            share: 0.7,
            window: Duration::from_secs(300),
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
        },
        dispatchers: 1,
        origin: None,
        response_limit: 16 * 1024,
        retry_after_cap: Duration::from_secs(3600),
        packs: false,
        retry: RetryPolicy::default(),
        rules,
        proxy: None,
    }
}
