//! The list of known bypasses, and the tables of the documentation.

use super::hosts::SPECIAL;
use super::ranges::{RANGES, Reach};
use super::tests::rules;
use super::url::DENIED_PORTS;
use super::*;
use std::fmt::Write as _;

const BYPASSES: &str = include_str!("../../testdata/bypasses.txt");

fn bypasses() -> Vec<&'static str> {
    BYPASSES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn no_known_bypass_can_be_registered() {
    let all = bypasses();
    assert!(all.len() > 250, "{}", all.len());
    let let_through: Vec<&str> = all
        .into_iter()
        .filter(|url| check_url(url, &EgressRules::default()).is_ok())
        .collect();
    assert_eq!(let_through, Vec::<&str>::new());
}

#[test]
fn with_http_allowed_none_of_them_is_anything_but_plain_http_to_a_public_host() {
    let rules = rules(true, &[]);
    let let_through: Vec<&str> = bypasses()
        .into_iter()
        .filter(|url| check_url(url, &rules).is_ok())
        .collect();
    assert_eq!(let_through, ["http://example.com/", "HTTP://example.com/"]);
}

#[test]
fn with_a_private_network_opened_none_of_the_others_opens_with_it() {
    let rules = rules(false, &["10.0.0.0/8"]);
    let let_through: Vec<String> = bypasses()
        .into_iter()
        .filter_map(|url| check_url(url, &rules).ok())
        .collect();
    let expected = [
        "https://10.0.0.1/", // ::ffff:10.0.0.1 comes back as it was given
        "https://10.255.255.255/",
        "https://[::ffff:a00:1]/",
    ];
    let mut seen = let_through.clone();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, expected);
}

/// Compares what stands between `<!-- name -->` and `<!-- /name -->` in docs/egress.md with a table made
/// here; with `UPDATE_DOCS` set, writes it there.
fn assert_documented(name: &str, table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/egress.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap();
    let (documented, after) = rest.split_once(&close).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{open}{table}{close}{after}")).unwrap();
    } else {
        assert_eq!(
            documented, table,
            "docs/egress.md is out of date: run this test with UPDATE_DOCS=1"
        );
    }
}

#[test]
fn the_documentation_has_every_range_name_and_port() {
    let mut table = String::from("| range | what | opened by |\n|---|---|---|\n");
    for range in &RANGES {
        let (network, what) = (range.network, range.what);
        writeln!(table, "| `{network}` | {what} | {} |", range.reach.opened_by()).unwrap();
    }
    assert_documented("ranges", &table);
    let mut table = String::from("| name | by |\n|---|---|\n");
    for (name, by) in SPECIAL {
        writeln!(table, "| `{name}` | {by} |").unwrap();
    }
    assert_documented("names", &table);
    let ports: Vec<String> = DENIED_PORTS.iter().map(u16::to_string).collect();
    assert_documented("ports", &format!("{}\n", ports.join(", ")));
}

#[test]
fn no_range_stands_twice_and_each_counts() {
    for (n, range) in RANGES.iter().enumerate() {
        assert!(
            RANGES[..n].iter().all(|other| other.network != range.network),
            "{}",
            range.network
        );
        assert_eq!(range.network.trunc(), range.network);
        let is_all = range.network.prefix_len() == 0;
        // A mapped address is in its IPv4 range.
        if !is_all && range.network.addr().to_canonical() == range.network.addr() {
            let inside: Vec<_> = [range.network.network(), range.network.broadcast()].into();
            assert!(
                inside
                    .into_iter()
                    .any(|address| ranges::range_of(address) == range),
                "{}",
                range.network
            );
        }
    }
}

#[test]
fn no_network_opens_metadata_on_the_way() {
    let all = rules(
        false,
        &[
            "0.0.0.0/0",
            "::/0",
            "169.254.0.0/16",
            "169.254.169.254/31",
            "fd00:ec2::254/127",
        ],
    );
    let hosts = EgressRules {
        allow_hosts: vec!["*.example.com".to_owned().try_into().unwrap()],
        ..EgressRules::default()
    };
    for range in RANGES.iter().filter(|range| range.reach == Reach::Metadata) {
        for address in [range.network.network(), range.network.broadcast()] {
            assert!(!all.allows_address(address), "{address}");
            assert!(!hosts.allows_address_of("a.example.com", address), "{address}");
        }
    }
    assert_eq!(all.opened_metadata().count(), 0);
    let named = rules(false, &["169.254.169.254/32", "10.0.0.1/32", "fd00:ec2::254/128"]);
    for (address, allowed) in [
        ("169.254.169.254", true),
        ("::ffff:169.254.169.254", true),
        ("fd00:ec2::254", true),
        ("169.254.169.253", false),
        ("fd00:ec2::23", false),
    ] {
        assert_eq!(
            named.allows_address(address.parse().unwrap()),
            allowed,
            "{address}"
        );
    }
    let opened: Vec<String> = named.opened_metadata().map(IpNet::to_string).collect();
    assert_eq!(opened, ["169.254.169.254/32", "fd00:ec2::254/128"]);
}

#[test]
fn a_host_opens_private_addresses_of_its_own_and_neither_this_machine_nor_metadata() {
    let rules = EgressRules {
        allow_hosts: ["hooks.corp.internal", "*.svc.cluster.local", "receiver"]
            .map(|host| host.to_owned().try_into().unwrap())
            .into(),
        ..EgressRules::default()
    };
    for (host, address, allowed) in [
        ("hooks.corp.internal", "10.0.0.1", true),
        ("hooks.corp.internal", "fd00::1", true),
        ("hooks.corp.internal", "8.8.8.8", true),
        ("hooks.corp.internal", "127.0.0.1", false),
        ("hooks.corp.internal", "0.0.0.0", false),
        ("hooks.corp.internal", "::1", false),
        ("hooks.corp.internal", "169.254.169.254", false),
        ("hooks.corp.internal", "100.100.100.200", false),
        ("hooks.corp.internal", "64:ff9b::7f00:1", false),
        ("a.b.svc.cluster.local", "10.0.0.1", true),
        ("receiver", "172.17.0.2", true),
        ("svc.cluster.local", "10.0.0.1", false),
        ("evilsvc.cluster.local", "10.0.0.1", false),
        ("hooks.corp.internal.evil.example", "10.0.0.1", false),
        ("xhooks.corp.internal", "10.0.0.1", false),
        ("10.0.0.1", "10.0.0.1", false),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(
            rules.allows_address_of(host, address),
            allowed,
            "{host} {address}"
        );
        assert_eq!(rules.allows_address(address), is_public(address));
    }
    for (url, expected) in [
        (
            "https://hooks.corp.internal/x",
            Ok("https://hooks.corp.internal/x"),
        ),
        (
            "https://HOOKS.Corp.Internal:81/x",
            Ok("https://hooks.corp.internal:81/x"),
        ),
        ("https://a.svc.cluster.local/", Ok("https://a.svc.cluster.local/")),
        ("https://receiver/", Ok("https://receiver/")),
        ("https://svc.cluster.local/", Err(UrlError::Address)),
        ("https://hooks.corp.internal./", Err(UrlError::Address)),
        ("https://other.corp.internal/", Err(UrlError::Address)),
        ("https://receiver.localhost/", Err(UrlError::Address)),
        ("http://receiver/", Err(UrlError::SchemeNotHttps)),
    ] {
        assert_eq!(
            check_url(url, &rules).as_deref(),
            expected.as_ref().copied(),
            "{url}"
        );
    }
}

#[test]
fn a_denied_network_is_denied_whatever_else_is_said() {
    let rules = EgressRules {
        deny_networks: vec!["198.41.0.0/24".parse().unwrap(), "10.0.0.0/16".parse().unwrap()],
        allow_networks: vec!["10.0.0.0/8".parse().unwrap(), "64:ff9b::/96".parse().unwrap()],
        allow_hosts: vec!["a.example".to_owned().try_into().unwrap()],
        ..EgressRules::default()
    };
    for (address, allowed) in [
        ("198.41.0.4", false),
        ("::ffff:198.41.0.4", false),
        ("64:ff9b::198.41.0.4", false),
        ("10.0.0.1", false),
        ("10.1.0.1", true),
        ("64:ff9b::10.1.0.1", true),
        ("64:ff9b::10.0.0.1", false),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(
            rules.allows_address_of("a.example", address),
            allowed,
            "{address}"
        );
    }
    assert_eq!(check_url("https://198.41.0.4/", &rules), Err(UrlError::Address));
}

#[test]
fn what_an_address_carries_is_judged_too_where_its_form_is_opened() {
    let rules = rules(
        false,
        &[
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "::/96",
            "::ffff:0:0:0/96",
            "2002::/16",
            "2001::/32",
        ],
    );
    for (address, allowed) in [
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::169.254.169.254", false),
        ("64:ff9b:1::8.8.8.8", true),
        ("64:ff9b:1::127.0.0.1", false),
        // RFC 6052, 2.2: 10.0.0.1 behind prefixes of 48, 56 and 64 bits
        ("64:ff9b:1:a00::100:0:0", false),
        ("64:ff9b:1:a:0:1::", false),
        ("64:ff9b:1:0:a:0:100:0", false),
        ("::8.8.8.8", true),
        ("::10.0.0.1", false),
        ("::ffff:0:8.8.8.8", true),
        ("::ffff:0:10.0.0.1", false),
        ("2002:808:808::1", true),
        ("2002:7f00:1::1", false),
        ("2002:a9fe:a9fe::1", false),
        // Teredo: the server, and the client with all its bits turned
        ("2001:0:808:808::f7f7:f7f7", true),
        ("2001:0:7f00:1::f7f7:f7f7", false),
        ("2001:0:808:808::80ff:fffe", false),
    ] {
        assert_eq!(
            rules.allows_address(address.parse().unwrap()),
            allowed,
            "{address}"
        );
    }
}

#[test]
fn only_hosts_are_patterns_of_hosts() {
    for (text, shown) in [
        ("Hooks.Example.COM", Some("hooks.example.com")),
        ("*.Example.com", Some("*.example.com")),
        ("receiver", Some("receiver")),
        ("münchen.example", Some("xn--mnchen-3ya.example")),
        ("", None),
        ("*", None),
        ("*.", None),
        ("*.*.example.com", None),
        ("a.*.com", None),
        ("127.0.0.1", None),
        ("*.127.0.0.1", None),
        ("2130706433", None),
        ("[::1]", None),
        ("example.com.", None),
        ("example.com:443", None),
        ("https://example.com", None),
        ("a b", None),
    ] {
        let pattern = hosts::HostPattern::try_from(text.to_owned());
        assert_eq!(
            pattern.ok().map(|it| it.to_string()).as_deref(),
            shown,
            "{text:?}"
        );
    }
}
