//! Which addresses may be dialled, and which URLs and headers a target may have.
//!
//! A target's URL is checked when it is set and again at each attempt; the address that its name
//! resolves to is checked when it is dialled, since the name's owner may change it at any time.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// The longest URL of a target, in characters.
pub const MAX_URL: usize = 2048;

/// The longest name of a target's header, in characters.
pub const MAX_HEADER_NAME: usize = 128;

/// The longest value of a target's header, in characters.
pub const MAX_HEADER_VALUE: usize = 4096;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

/// The IPv4 networks that are not public: IANA's special-purpose registry, the whole of multicast
/// and what is reserved, and the services clouds offer their machines.
const DENIED_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // "this network", RFC 791
    v4(10, 0, 0, 0, 8),       // private, RFC 1918
    v4(100, 64, 0, 0, 10),    // shared by carriers, RFC 6598; Alibaba's metadata at 100.100.100.200
    v4(127, 0, 0, 0, 8),      // loopback, RFC 1122
    v4(169, 254, 0, 0, 16),   // link-local, RFC 3927; metadata and credentials of AWS, Azure, GCP
    v4(172, 16, 0, 0, 12),    // private, RFC 1918
    v4(192, 0, 0, 0, 24),     // protocol assignments, RFC 6890; Oracle's metadata at 192.0.0.192
    v4(192, 0, 2, 0, 24),     // documentation, RFC 5737
    v4(192, 88, 99, 0, 24),   // 6to4 relays, RFC 7526
    v4(192, 168, 0, 0, 16),   // private, RFC 1918
    v4(198, 18, 0, 0, 15),    // benchmarks, RFC 2544
    v4(198, 51, 100, 0, 24),  // documentation, RFC 5737
    v4(203, 0, 113, 0, 24),   // documentation, RFC 5737
    v4(224, 0, 0, 0, 4),      // multicast, RFC 5771
    v4(240, 0, 0, 0, 4),      // reserved, RFC 1112, and broadcast
    v4(168, 63, 129, 16, 32), // Azure's wire server, public by its looks
];

/// The only IPv6 network that is public: global unicast, RFC 4291. Outside of it are loopback,
/// IPv4-compatible and translated addresses, NAT64, unique local (the metadata of AWS at
/// `fd00:ec2::254`), link-local, site-local and multicast.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 3);

/// The parts of it that are not.
const DENIED_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments, RFC 2928: Teredo, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation, RFC 3849
    v6(0x2002, 0, 16),     // 6to4, RFC 3056: carries an IPv4 address
    v6(0x3fff, 0, 20),     // documentation, RFC 9637
];

/// Whether an address is one of the public internet. An IPv4 address mapped into IPv6 is judged as
/// the IPv4 address.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !DENIED_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            PUBLIC_V6.contains(&address) && !DENIED_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// What an operator permits beyond the public internet and HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Whether `http` is permitted beside `https`.
    pub allow_http: bool,
    /// Networks whose addresses are permitted though they are not public.
    pub allow_networks: Vec<IpNet>,
}

impl EgressRules {
    /// Whether this address may be dialled.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        is_public(address) || self.opts_in(address)
    }

    fn opts_in(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow_networks
            .iter()
            .any(|network| network.contains(&address))
    }

    fn opts_in_to_loopback(&self) -> bool {
        self.opts_in(Ipv4Addr::LOCALHOST.into()) || self.opts_in(Ipv6Addr::LOCALHOST.into())
    }
}

/// Why a URL may not be a target's, as its owner is told. Whatever is wrong with an address is told
/// in the same words: the difference would be a map of the network behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("this is not a valid URL such as https://example.com/webhooks")]
    Syntax,
    /// Longer than [`MAX_URL`].
    #[error("the URL is longer than {MAX_URL} characters")]
    TooLong,
    /// Not `https`.
    #[error("the URL's scheme must be https")]
    SchemeNotHttps,
    /// Neither `http` nor `https`, where both are permitted.
    #[error("the URL's scheme must be https or http")]
    SchemeNotHttp,
    /// A user name or password before the host.
    #[error("the URL must not carry a user name or password; set an authorization header instead")]
    Userinfo,
    /// A `#` and what follows it.
    #[error("the URL must not have a fragment (#…): it would not be sent")]
    Fragment,
    /// A port that is not permitted.
    #[error("port {0} is not allowed: use 443, 80, 8443 or a port above 1024")]
    Port(u16),
    /// A host or address that is not permitted.
    #[error("this address is not allowed as a target")]
    Address,
}

/// Checks a target's URL and normalises it, as the WHATWG URL standard says: hosts in lower case
/// and Punycode, IPv4 addresses of any spelling as four numbers, no default port. Only what this
/// returns may be stored and dialled: other parsers may see another host in the original.
///
/// # Errors
/// Says what to change.
pub fn check_url(url: &str, rules: &EgressRules) -> Result<String, UrlError> {
    if url.chars().count() > MAX_URL {
        return Err(UrlError::TooLong);
    }
    let url = Url::parse(url).map_err(|_| UrlError::Syntax)?;
    match url.scheme() {
        "https" => {}
        "http" if rules.allow_http => {}
        _ if rules.allow_http => return Err(UrlError::SchemeNotHttp),
        _ => return Err(UrlError::SchemeNotHttps),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Userinfo);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    let opted_in = match url.host().ok_or(UrlError::Syntax)? {
        Host::Ipv4(address) => check_address(address.into(), rules)?,
        Host::Ipv6(address) => check_address(address.into(), rules)?,
        Host::Domain(name) => check_name(name, rules)?,
    };
    let port = url.port_or_known_default().ok_or(UrlError::Syntax)?;
    if !opted_in && !matches!(port, 80 | 443 | 1025..) {
        return Err(UrlError::Port(port));
    }
    // The client's parser takes fewer hosts than the standard does (not `a.{b`), and must see the same one.
    match url.as_str().parse::<http::Uri>() {
        Ok(dialled) if dialled.host() == url.host_str() => {}
        Ok(_) | Err(_) => return Err(UrlError::Syntax),
    }
    // Escapes may have made it longer.
    if url.as_str().len() > MAX_URL {
        return Err(UrlError::TooLong);
    }
    Ok(url.into())
}

/// Checks an address in a URL; whether it is allowed only because the operator says so.
fn check_address(address: IpAddr, rules: &EgressRules) -> Result<bool, UrlError> {
    if !rules.allows_address(address) {
        return Err(UrlError::Address);
    }
    Ok(rules.opts_in(address))
}

/// Checks a name in a URL, in lower case; whether it is allowed only because the operator says so.
fn check_name(name: &str, rules: &EgressRules) -> Result<bool, UrlError> {
    /// Names that never leave a machine, a network or a cluster (RFC 6762, RFC 8375, ICANN's
    /// `internal`, Kubernetes).
    const PRIVATE: [&str; 5] = [".local", ".internal", ".home.arpa", ".svc", ".cluster.local"];
    // A name with a dot at its end is the same name to a resolver, but not to this list.
    if name.ends_with('.') || PRIVATE.iter().any(|end| name.ends_with(end)) {
        return Err(UrlError::Address);
    }
    let of_this_machine = !name.contains('.') || name.ends_with(".localhost");
    if of_this_machine && !rules.opts_in_to_loopback() {
        return Err(UrlError::Address);
    }
    Ok(of_this_machine)
}

/// Checks a header of a target's own: one line of visible ASCII under a name that is neither ours
/// nor the connection's.
///
/// # Errors
/// Names the header and says what would be right. Never shows the value, which may be a secret.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    /// What the connection needs (RFC 9110, 7.6.1), and what hookwright sets itself.
    const RESERVED: [&str; 13] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "forwarded",
        "content-type",
        "user-agent",
        "traceparent",
    ];
    const RESERVED_PREFIXES: [&str; 4] = ["proxy-", "webhook-", "x-amz-", "x-forwarded-"];

    if name.len() > MAX_HEADER_NAME || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        let shown: String = name.chars().take(MAX_HEADER_NAME).collect();
        return Err(format!(
            "{shown:?} is not a header name: 1 to {MAX_HEADER_NAME} letters, digits and !#$%&'*+-.^_`|~"
        ));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Err(format!(
            "the header {lower} cannot be set: it is set for each request"
        ));
    }
    let is_visible = value.bytes().all(|b| matches!(b, 0x20..=0x7E));
    if value.len() > MAX_HEADER_VALUE || !is_visible || value.trim() != value {
        return Err(format!(
            "the value of the header {lower} must be at most {MAX_HEADER_VALUE} visible ASCII characters, \
             with no space at either end"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod url_tests;
