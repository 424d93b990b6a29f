//! What targets may be, and how they are reached.

use super::error::ConfigError;
use super::keys::Config;
use ipnet::{IpNet, Ipv6Net};
use schemas::egress::EgressRules;
use schemas::verification::Verification;
use std::net::Ipv6Addr;

/// IPv4 addresses as IPv6 has them.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// Whether it is a name as a host may have, with letters, digits, dots and hyphens.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl Config {
    /// What may be dialled.
    #[must_use]
    pub fn egress_rules(&self) -> EgressRules {
        EgressRules {
            allow_http: self.delivery.allow_http,
            allow_networks: self.delivery.allow_networks.clone(),
            allow_hosts: self.delivery.allow_hosts.clone(),
            deny_networks: self.delivery.deny_networks.clone(),
        }
    }

    /// Host and port of the proxy that targets are reached through, if there is one.
    ///
    /// # Errors
    /// When `delivery.proxy` is not the address of one.
    pub fn proxy(&self) -> Result<Option<(String, u16)>, ConfigError> {
        let Some(address) = &self.delivery.proxy else {
            return Ok(None);
        };
        let place = address.parse::<axum::http::Uri>().ok().and_then(|uri| {
            let authority = uri
                .authority()
                .filter(|authority| !authority.as_str().contains('@'))?;
            let is_bare = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            is_bare.then_some((host.to_owned(), authority.port_u16()?))
        });
        // Not shown: it may hold a password.
        let message = "is not an address such as \"http://127.0.0.1:4750\", with its port and without a user";
        place
            .map(Some)
            .ok_or_else(|| ConfigError::new("delivery.proxy", message))
    }

    fn check_origin(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError::new("delivery.origin", message));
        match &self.delivery.origin {
            None if self.api.verification == Verification::CloudEvents => fail(
                "is needed where api.verification is \"cloudevents\": a DNS name of ours, such as \"hooks.example.com\""
                    .to_owned(),
            ),
            Some(origin) if !is_dns_name(origin) => {
                fail(format!("\"{origin}\" is not a DNS name such as \"hooks.example.com\""))
            }
            None | Some(_) => Ok(()),
        }
    }

    pub(super) fn check_egress(&self) -> Result<(), ConfigError> {
        self.proxy()?;
        self.check_origin()?;
        let lists = [
            ("delivery.allow_networks", &self.delivery.allow_networks),
            ("delivery.deny_networks", &self.delivery.deny_networks),
        ];
        for (key, networks) in lists {
            for network in networks {
                if let IpNet::V6(v6) = network
                    && MAPPED.contains(v6)
                {
                    let message = format!(
                        "{network} is of mapped addresses, which are judged as IPv4: write the IPv4 network"
                    );
                    return Err(ConfigError::new(key, message));
                }
            }
        }
        Ok(())
    }

    /// What is opened, and should be known to be.
    pub(super) fn egress_warnings(&self) -> Vec<ConfigError> {
        let rules = self.egress_rules();
        let opened = rules.opened_metadata().map(|network| {
            let message = format!(
                "{network} is a metadata or link-local address: targets may read what is told to this machine"
            );
            ConfigError::new("delivery.allow_networks", message)
        });
        opened.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_and_closes_networks_is_checked() {
        let load = |flags: &str| Config::load(None, "", flags).map_err(|error| error.to_string());
        let table = [
            (
                "delivery.allow_networks = [\"::ffff:10.0.0.0/104\"]",
                "delivery.allow_networks: ::ffff:10.0.0.0/104 is of mapped addresses",
            ),
            ("delivery.allow_hosts = [\"10.0.0.1\"]", "delivery.allow_hosts"),
            (
                "delivery.proxy = \"https://p:1\"",
                "delivery.proxy: is not an address such as",
            ),
            (
                "delivery.proxy = \"http://p\"",
                "delivery.proxy: is not an address such as",
            ),
            (
                "delivery.proxy = \"http://p:1/x\"",
                "delivery.proxy: is not an address such as",
            ),
            (
                "delivery.proxy = \"http://u:hush@p:1\"",
                "delivery.proxy: is not an address such as",
            ),
        ];
        for (flags, message) in table {
            let error = load(flags).unwrap_err();
            assert!(
                error.contains(message) && !error.contains("hush"),
                "{flags}: {error}"
            );
        }
        let config = load(
            "delivery = { allow_hosts = [\"*.Corp.internal\"], deny_networks = [\"8.8.8.0/24\"], proxy = \"http://[::1]:3128\" }",
        )
        .unwrap();
        assert!(config.egress_rules().allows_host("a.corp.internal"));
        assert!(!config.egress_rules().allows_address("8.8.8.8".parse().unwrap()));
        assert_eq!(config.proxy().unwrap(), Some(("::1".to_owned(), 3128)));
        assert_eq!(load("").unwrap().proxy().unwrap(), None);
        assert!(
            config
                .warnings()
                .iter()
                .all(|warning| warning.key != "delivery.allow_networks")
        );
        let open = load("delivery.allow_networks = [\"169.254.169.254/32\"]").unwrap();
        assert!(
            open.warnings()
                .iter()
                .any(|warning| warning.key == "delivery.allow_networks")
        );
    }
}
