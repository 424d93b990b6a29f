//! Addresses against the known ways around the guard.

use super::*;
use proptest::prelude::*;

/// Rules with these networks opened.
pub(super) fn rules(allow_http: bool, networks: &[&str]) -> EgressRules {
    EgressRules {
        allow_http,
        allow_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..EgressRules::default()
    }
}

#[test]
fn each_special_network_is_denied_from_end_to_end_and_no_more() {
    // First and last address of a network, and the public ones beside it where there are any.
    let table = [
        ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
        (
            "10.0.0.0",
            "10.255.255.255",
            Some("9.255.255.255"),
            Some("11.0.0.0"),
        ),
        (
            "100.64.0.0",
            "100.127.255.255",
            Some("100.63.255.255"),
            Some("100.128.0.0"),
        ),
        (
            "127.0.0.0",
            "127.255.255.255",
            Some("126.255.255.255"),
            Some("128.0.0.0"),
        ),
        (
            "169.254.0.0",
            "169.254.255.255",
            Some("169.253.255.255"),
            Some("169.255.0.0"),
        ),
        (
            "172.16.0.0",
            "172.31.255.255",
            Some("172.15.255.255"),
            Some("172.32.0.0"),
        ),
        (
            "192.0.0.0",
            "192.0.0.255",
            Some("191.255.255.255"),
            Some("192.0.1.0"),
        ),
        ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
        (
            "192.88.99.0",
            "192.88.99.255",
            Some("192.88.98.255"),
            Some("192.88.100.0"),
        ),
        (
            "192.168.0.0",
            "192.168.255.255",
            Some("192.167.255.255"),
            Some("192.169.0.0"),
        ),
        (
            "198.18.0.0",
            "198.19.255.255",
            Some("198.17.255.255"),
            Some("198.20.0.0"),
        ),
        (
            "198.51.100.0",
            "198.51.100.255",
            Some("198.51.99.255"),
            Some("198.51.101.0"),
        ),
        (
            "203.0.113.0",
            "203.0.113.255",
            Some("203.0.112.255"),
            Some("203.0.114.0"),
        ),
        ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
        (
            "168.63.129.16",
            "168.63.129.16",
            Some("168.63.129.15"),
            Some("168.63.129.17"),
        ),
        (
            "::",
            "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            None,
            Some("2000::"),
        ),
        (
            "2001::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("2000:ffff::"),
            Some("2001:200::"),
        ),
        (
            "2001:db8::",
            "2001:db8:ffff::ffff",
            Some("2001:db7:ffff::"),
            Some("2001:db9::"),
        ),
        ("2002::", "2002:ffff::ffff", Some("2001:ffff::"), Some("2003::")),
        (
            "3fff::",
            "3fff:fff::ffff",
            Some("3ffe:ffff::"),
            Some("3fff:1000::"),
        ),
        (
            "4000::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            Some("3fff:ffff::"),
            None,
        ),
    ];
    for (first, last, before, after) in table {
        for denied in [first, last] {
            assert!(!is_public(denied.parse().unwrap()), "{denied}");
        }
        for public in [before, after].into_iter().flatten() {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}

#[test]
fn addresses_worth_an_attack_are_denied_and_those_of_the_internet_are_not() {
    let denied = [
        "169.254.169.254", // metadata of AWS, Azure, GCP and others
        "169.254.169.253", // AWS's name service
        "169.254.170.2",   // credentials of ECS tasks
        "169.254.170.23",  // credentials of EKS pods
        "100.100.100.200", // Alibaba's metadata
        "168.63.129.16",   // Azure's wire server
        "192.0.0.192",     // Oracle's metadata
        "fd00:ec2::254",   // AWS's metadata
        "fd00:ec2::23",    // credentials of EKS pods
        "fd20:ce::254",    // GCP's metadata
        "::1",
        "::",
        "::ffff:127.0.0.1", // mapped
        "::ffff:169.254.169.254",
        "::7f00:1",          // IPv4-compatible
        "::ffff:0:7f00:1",   // translated, SIIT
        "64:ff9b::7f00:1",   // NAT64
        "64:ff9b:1::7f00:1", // local NAT64
        "100::1",            // discard
        "5f00::1",           // segment routing
        "2001::1",           // Teredo
        "2001:2::1",         // benchmarks
        "2001:20::1",        // ORCHIDv2
        "2002:7f00:1::",     // 6to4
        "fc00::1",
        "fe80::1",
        "fec0::1", // site-local
        "ff02::1", // multicast
        "255.255.255.255",
    ];
    for address in denied {
        assert!(!is_public(address.parse().unwrap()), "{address}");
        assert!(
            !EgressRules::default().allows_address(address.parse().unwrap()),
            "{address}"
        );
    }
    let public = [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "::ffff:8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80e::200e",
    ];
    for address in public {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn an_operator_may_opt_in_to_a_network_and_to_nothing_beside_it() {
    let rules = rules(false, &["10.1.0.0/16", "fd00:1::/32"]);
    for (address, allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("fd00:1::5", true),
        ("8.8.8.8", true),
        ("10.2.0.1", false),
        ("127.0.0.1", false),
        ("fd00:2::5", false),
    ] {
        assert_eq!(
            rules.allows_address(address.parse().unwrap()),
            allowed,
            "{address}"
        );
    }
}

proptest! {
    #[test]
    fn a_mapped_address_is_judged_as_the_address_it_maps(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        prop_assert_eq!(is_public(address.to_ipv6_mapped().into()), is_public(address.into()));
        prop_assert!(!is_public(address.to_ipv6_compatible().into()));
    }
}
