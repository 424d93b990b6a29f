//! URLs and names against the known ways around the guard.

use super::tests::rules;
use super::*;
use ::url::{Host, Url};
use proptest::prelude::*;

/// What `hookwright dev` permits.
fn dev() -> EgressRules {
    rules(true, &["127.0.0.0/8", "::1/128"])
}

#[test]
fn a_url_comes_back_in_the_form_that_will_be_dialled() {
    let table = [
        ("https://example.com", "https://example.com/"),
        ("https://EXAMPLE.com:443/a/../b?x=1", "https://example.com/b?x=1"),
        (" https://example.com/\n", "https://example.com/"),
        ("https:\\\\example.com\\hook", "https://example.com/hook"),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
        ("https://example.com:8443/x", "https://example.com:8443/x"),
        ("https://example.com:80/x", "https://example.com:80/x"),
        ("https://example.com:1025/x", "https://example.com:1025/x"),
        // Others see the host 127.0.0.1 in this one: hence only the normalised form is used.
        (
            "https://example.com:80\\@127.0.0.1/",
            "https://example.com:80/@127.0.0.1/",
        ),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://0x08080808/", "https://8.8.8.8/"),
        // Octal here, decimal to others: hence again.
        ("https://0127.0.0.1/", "https://87.0.0.1/"),
        (
            "https://[2606:4700:4700:0:0::1111]/",
            "https://[2606:4700:4700::1111]/",
        ),
        ("https://example.com/a b", "https://example.com/a%20b"),
        ("https://notlocalhost.com/", "https://notlocalhost.com/"),
        ("https://local.example/", "https://local.example/"),
    ];
    for (given, normalised) in table {
        let checked = check_url(given, &EgressRules::default());
        assert_eq!(checked.as_deref(), Ok(normalised), "{given}");
        assert_eq!(
            check_url(normalised, &EgressRules::default()).as_deref(),
            Ok(normalised)
        );
    }
}

#[test]
fn what_parsers_disagree_about_is_refused_or_settled() {
    let table = [
        ("https://[example.com]/", UrlError::Syntax),
        ("https://[::1%25lo]/", UrlError::Syntax),
        ("https://[::1/", UrlError::Syntax),
        ("https://exa mple.com/", UrlError::Syntax),
        ("https://example.com%00.evil.example/", UrlError::Syntax),
        // A host to the standard, but none to the client.
        ("https://a.{b/", UrlError::Syntax),
        ("https://256.256.256.256/", UrlError::Syntax),
        ("https://1.2.3.4.5/", UrlError::Syntax),
        ("https://example.com:65536/", UrlError::Syntax),
        ("https://127.0.0.1:80@example.com/", UrlError::Userinfo),
        ("https://example.com@127.0.0.1/", UrlError::Userinfo),
        ("https://user@example.com/", UrlError::Userinfo),
        ("https://:secret@example.com/", UrlError::Userinfo),
        ("https://example.com/#", UrlError::Fragment),
        ("https://example.com/#a", UrlError::Fragment),
        ("https://example.com#@127.0.0.1/", UrlError::Fragment),
        ("https:///127.0.0.1/", UrlError::Address),
        ("https:127.0.0.1", UrlError::Address),
        ("https://127.0.0.1\t/", UrlError::Address),
        ("https://local\thost/", UrlError::Address),
        ("https://", UrlError::Syntax),
        ("//example.com/", UrlError::Syntax),
        ("example.com", UrlError::Syntax),
        ("", UrlError::Syntax),
        ("http://example.com/", UrlError::SchemeNotHttps),
        ("ftp://example.com/", UrlError::SchemeNotHttps),
        ("file:///etc/passwd", UrlError::SchemeNotHttps),
        ("gopher://127.0.0.1:6379/_x", UrlError::SchemeNotHttps),
        ("unix:///run/docker.sock", UrlError::SchemeNotHttps),
        ("data:,x", UrlError::SchemeNotHttps),
        ("https://example.com:22/", UrlError::Port(22)),
        ("https://example.com:25/", UrlError::Port(25)),
        ("https://example.com:0/", UrlError::Port(0)),
        ("https://example.com:1024/", UrlError::Port(1024)),
        ("https://example.com:6379/", UrlError::Port(6379)),
    ];
    for (url, expected) in table {
        assert_eq!(check_url(url, &EgressRules::default()), Err(expected), "{url}");
    }
}

#[test]
fn a_url_has_at_most_2048_characters_before_and_after() {
    let rules = EgressRules::default();
    let path = |character: &str, count| format!("https://example.com/{}", character.repeat(count));
    assert!(check_url(&path("a", 2028), &rules).is_ok());
    assert_eq!(check_url(&path("a", 2029), &rules), Err(UrlError::TooLong));
    assert_eq!(check_url(&path("é", 1000), &rules), Err(UrlError::TooLong));
}

#[test]
fn development_reaches_this_machine_and_nothing_else_private() {
    let table = [
        ("http://localhost:9/", Ok("http://localhost:9/")),
        ("http://127.0.0.1:22/x", Ok("http://127.0.0.1:22/x")),
        ("http://[::1]:8081/", Ok("http://[::1]:8081/")),
        ("http://a.localhost/", Ok("http://a.localhost/")),
        ("http://receiver:81/", Ok("http://receiver:81/")),
        ("http://example.com/", Ok("http://example.com/")),
        ("http://example.com:22/", Err(UrlError::Port(22))),
        ("http://10.0.0.1/", Err(UrlError::Address)),
        ("http://169.254.169.254/", Err(UrlError::Address)),
        ("http://localhost./", Err(UrlError::Address)),
        ("http://metadata.google.internal/", Err(UrlError::Address)),
        ("ftp://localhost/", Err(UrlError::SchemeNotHttp)),
    ];
    for (url, expected) in table {
        assert_eq!(
            check_url(url, &dev()).as_deref(),
            expected.as_ref().copied(),
            "{url}"
        );
    }
    // Another network opened does not open this machine.
    let inside = rules(false, &["10.0.0.0/8"]);
    assert_eq!(check_url("https://localhost/", &inside), Err(UrlError::Address));
    assert_eq!(
        check_url("https://10.0.0.1:22/", &inside).as_deref(),
        Ok("https://10.0.0.1:22/")
    );
}

#[test]
fn a_refused_address_is_told_without_saying_why() {
    let message = |url| check_url(url, &EgressRules::default()).unwrap_err().to_string();
    assert_eq!(
        message("https://169.254.169.254/"),
        "this address is not allowed as a target"
    );
    assert_eq!(message("https://169.254.169.254/"), message("https://intranet/"));
    // What it would say of the port must not depend on the host's being private.
    assert_eq!(message("https://127.0.0.1:22/"), message("https://127.0.0.1/"));
}

proptest! {
    #[test]
    fn no_text_makes_a_check_panic_or_lets_a_private_address_through(
        url in prop_oneof![any::<String>(), "https?://[0-9a-fx.:@\\[\\]%#/\\\\]{1,30}/?"],
        name in any::<String>(),
        value in any::<String>(),
    ) {
        let _ = check_header(&name, &value);
        if let Ok(normalised) = check_url(&url, &EgressRules::default()) {
            let parsed = Url::parse(&normalised).unwrap();
            prop_assert_eq!(parsed.as_str(), &normalised);
            prop_assert_eq!(parsed.scheme(), "https");
            match parsed.host().unwrap() {
                Host::Ipv4(address) => prop_assert!(is_public(address.into())),
                Host::Ipv6(address) => prop_assert!(is_public(address.into())),
                Host::Domain(name) => prop_assert!(name.contains('.') && name.parse::<IpAddr>().is_err()),
            }
        }
    }
}
