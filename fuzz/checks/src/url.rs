//! URLs and headers of targets.

use crate::divided;
use schemas::egress::{EgressRules, MAX_HEADER_VALUE, MAX_URL, check_header, check_url, is_public};
use url::{Host, Url};

/// A URL, and a header's name and value.
pub fn url(data: &[u8]) {
    let (url, header) = divided(data);
    let url = String::from_utf8_lossy(&url);
    let strict = EgressRules::default();
    let lax = EgressRules {
        allow_http: true,
        // Unwrap safety: it is a network.
        allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
        ..EgressRules::default()
    };
    if let Ok(normal) = check_url(&url, &strict) {
        may_be_dialled(&normal);
        assert_eq!(check_url(&normal, &strict).as_ref(), Ok(&normal));
        assert_eq!(
            check_url(&url, &lax),
            Ok(normal),
            "what is allowed more takes nothing away"
        );
    } else if let Ok(normal) = check_url(&url, &lax) {
        assert_eq!(check_url(&normal, &lax), Ok(normal));
    }
    let (name, value) = divided(&header);
    let (name, value) = (String::from_utf8_lossy(&name), String::from_utf8_lossy(&value));
    match check_header(&name, &value) {
        Ok(()) => {
            assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok());
            assert!(http::HeaderValue::from_str(&value).is_ok() && value.len() <= MAX_HEADER_VALUE);
            let name = name.to_ascii_lowercase();
            assert!(!name.starts_with("webhook-") && name != "host" && name != "content-length");
        }
        Err(why) => assert!(why.len() < 2_000),
    }
}

/// By another way than the check's own.
fn may_be_dialled(normal: &str) {
    assert!(normal.is_ascii() && normal.len() <= MAX_URL);
    // Unwrap safety of the check: what is normal parses.
    let url = Url::parse(normal).expect("a URL");
    assert_eq!((url.as_str(), url.scheme()), (normal, "https"));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    let uri: http::Uri = normal.parse().expect("a URI to the client too");
    assert_eq!(uri.host(), url.host_str(), "the client dials what was checked");
    assert_eq!(uri.port_u16(), url.port());
    match url.host() {
        Some(Host::Ipv4(address)) => assert!(is_public(address.into())),
        Some(Host::Ipv6(address)) => assert!(is_public(address.into())),
        Some(Host::Domain(name)) => {
            assert!(name.contains('.') && name.parse::<std::net::IpAddr>().is_err());
            assert!(!name.ends_with(".localhost") && !name.ends_with(".internal"));
        }
        None => panic!("a URL without a host"),
    }
}
