//! Headers against what could be smuggled into a request.

use super::*;

#[test]
fn a_target_may_set_headers_of_its_own() {
    let long = "x".repeat(MAX_HEADER_VALUE);
    for (name, value) in [
        ("authorization", "Bearer abc.def"),
        ("X-Api-Key", "k!~"),
        ("x-tenant", ""),
        ("x_y.z", "a b"),
        ("x-long", &long),
        (&"n".repeat(MAX_HEADER_NAME), "v"),
    ] {
        assert_eq!(check_header(name, value), Ok(()), "{name}");
    }
}

#[test]
fn headers_of_ours_and_of_the_connection_are_refused_in_any_case() {
    for name in [
        "host",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "Proxy-Connection",
        "webhook-id",
        "Webhook-Signature",
        "x-amz-date",
        "forwarded",
        "X-Forwarded-For",
        "content-type",
        "user-agent",
        "traceparent",
    ] {
        let message = check_header(name, "v").unwrap_err();
        assert!(message.contains(&name.to_ascii_lowercase()), "{message}");
    }
}

#[test]
fn nothing_can_be_smuggled_into_a_header() {
    for name in [
        "",
        " ",
        "a b",
        "a:",
        "a\r\nb",
        "é",
        "a\0",
        ":path",
        &"n".repeat(MAX_HEADER_NAME + 1),
    ] {
        assert!(check_header(name, "v").is_err(), "{name:?}");
    }
    let long = "x".repeat(MAX_HEADER_VALUE + 1);
    for value in [
        "a\r\nb", "a\nb", "a\rb", "a\0b", "a\tb", "\u{7f}", "é", " a", "a ", &long,
    ] {
        let message = check_header("x-own", value).unwrap_err();
        // The same whatever the value: it may be a secret.
        assert!(
            message.starts_with("the value of the header x-own must be"),
            "{message}"
        );
        assert_eq!(message, check_header("x-own", "\u{1}").unwrap_err());
    }
}
