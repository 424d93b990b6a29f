//! Which addresses may be dialled, and which URLs and headers a target may have.
//!
//! A target's URL is checked when it is set and again at each attempt; the address that its name
//! resolves to is checked when it is dialled, since the name's owner may change it at any time.
//!
//! | module | holds |
//! |---|---|
//! | [`ranges`] | every special range of addresses, and what opens it |
//! | [`hosts`] | names that never leave a machine or a network, and those an operator allows |
//! | `url` | what a target's URL may be |
//! | `headers` | what a target's own headers may be |

mod headers;
pub mod hosts;
pub mod ranges;
mod url;

pub use self::headers::{MAX_HEADER_NAME, MAX_HEADER_VALUE, check_header};
pub use self::url::{MAX_URL, UrlError, check_url};

use self::hosts::HostPattern;
use self::ranges::{Reach, carried, range_of};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one of the public internet. An IPv4 address mapped into IPv6 is judged as
/// the IPv4 address.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    range_of(address).reach == Reach::Public
}

/// What an operator permits beyond the public internet and HTTPS, and what not even there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Whether `http` is permitted beside `https`.
    pub allow_http: bool,
    /// Networks whose addresses are permitted though they are not public. Metadata is opened by its own
    /// address only: see [`Reach::Metadata`].
    pub allow_networks: Vec<IpNet>,
    /// Hosts whose addresses are permitted though they are private. Opens neither this machine nor metadata.
    pub allow_hosts: Vec<HostPattern>,
    /// Networks that are not dialled whatever else is said, such as our own ingress.
    pub deny_networks: Vec<IpNet>,
}

impl EgressRules {
    /// Whether this address may be dialled, where the target's URL names it itself.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.allows(address, false)
    }

    /// Whether this address, which is what the host resolved to, may be dialled. The name is as it
    /// stands in the URL.
    #[must_use]
    pub fn allows_address_of(&self, host: &str, address: IpAddr) -> bool {
        self.allows(address, self.allows_host(host))
    }

    /// Whether the operator names this host, in lower case.
    #[must_use]
    pub fn allows_host(&self, host: &str) -> bool {
        self.allow_hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// The networks that open a metadata address, which is worth a warning.
    pub fn opened_metadata(&self) -> impl Iterator<Item = &IpNet> {
        let is_metadata = |network: &&IpNet| range_of(network.addr()).reach == Reach::Metadata;
        self.allow_networks
            .iter()
            .filter(|network| is_single(network))
            .filter(is_metadata)
    }

    /// An address is allowed with all that it carries: a gateway would dial that.
    fn allows(&self, address: IpAddr, by_host: bool) -> bool {
        let address = address.to_canonical();
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(carried(address).map(IpAddr::V4)),
        };
        std::iter::once(address)
            .chain(inner.into_iter().flatten())
            .all(|address| self.allows_one(address, by_host))
    }

    fn allows_one(&self, address: IpAddr, by_host: bool) -> bool {
        if holds(&self.deny_networks, address) {
            return false;
        }
        match range_of(address).reach {
            Reach::Public => true,
            Reach::Private => by_host || self.opts_in(address),
            Reach::Machine => self.opts_in(address),
            Reach::Metadata => self
                .allow_networks
                .iter()
                .any(|network| is_single(network) && network.contains(&address)),
        }
    }

    fn opts_in(&self, address: IpAddr) -> bool {
        holds(&self.allow_networks, address.to_canonical())
    }

    fn opts_in_to_loopback(&self) -> bool {
        self.opts_in(Ipv4Addr::LOCALHOST.into()) || self.opts_in(Ipv6Addr::LOCALHOST.into())
    }
}

fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Whether a network is one address.
fn is_single(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

#[cfg(test)]
mod bypass_tests;
#[cfg(test)]
mod header_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod url_tests;
