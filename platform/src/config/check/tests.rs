use super::*;

#[test]
fn a_retry_window_is_shorter_than_what_payloads_are_kept_for() {
    let hours = |flags: &str| {
        let config = Config::load(None, "", flags).unwrap();
        config.longest_window().as_secs() / 3600
    };
    assert_eq!(hours(""), 71, "embedded.retention is 3 days");
    assert_eq!(hours("embedded.retention = \"30d\""), 7 * 24);
    assert_eq!(
        hours("embedded.retention = \"25h\""),
        24,
        "that of the server is always allowed"
    );
    assert_eq!(hours("queue.kind = \"sqs\""), 7 * 24);
}

#[test]
fn limits_and_breakers_say_what_they_may_be() {
    let table = [
        (
            "delivery.per_target_start = 0",
            "delivery.per_target_start: must be at least 1",
        ),
        (
            "delivery.dispatchers = 0",
            "delivery.dispatchers: must be at least 1",
        ),
        (
            "delivery.tenant_share = 0.0",
            "delivery.tenant_share: 0 is not a share",
        ),
        ("breaker.share = 1.5", "breaker.share: 1.5 is not a share"),
        ("store.audit = \"1h\"", "store.audit: must be at least 1d"),
        (
            "store.row_level_security = true",
            "store.row_level_security: true needs Postgres",
        ),
        (
            "store.row_level_security = true\nstore.url = \"sqlite:x.db\"",
            "store.row_level_security: true needs Postgres",
        ),
        ("breaker.share = nan", "breaker.share: NaN is not a share"),
        (
            "breaker.min_attempts = 0",
            "breaker.min_attempts: must be at least 1",
        ),
        (
            "breaker.window = \"1ms\"",
            "breaker.window: must be between 1s and 1d",
        ),
        (
            "breaker.open_max = \"4s\"",
            "breaker.open_max: must be between 5s and 1d",
        ),
    ];
    for (flags, message) in table {
        let error = Config::load(None, "", flags).unwrap_err().to_string();
        assert!(error.contains(message), "{flags}: {error}");
    }
}

#[test]
fn payloads_go_by_cost_only_where_requests_have_a_price() {
    let load = |flags: &str| Config::load(None, "", flags).map_err(|error| error.to_string());
    let priced = "queue.kind = \"sqs\"\npayloads.kind = \"s3\"\npayloads.spill = \"cost\"\n";
    assert!(load(priced).is_ok());
    for (flags, message) in [
        (
            "payloads.spill = \"cost\"",
            "payloads.spill: \"cost\" needs queue.kind",
        ),
        (
            "payloads.prices.put = -1.0",
            "payloads.prices.put: -1 is not a price",
        ),
        (
            "payloads.prices.storage = nan",
            "payloads.prices.storage: NaN is not a price",
        ),
    ] {
        let error = load(flags).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn what_says_where_the_registry_is_is_checked_and_shows_no_password() {
    let load = |flags: &str| Config::load(None, "", flags).map_err(|error| error.to_string());
    let table = [
        (
            "kafka.schema_registry = \"https://me:hush@host\"",
            "kafka.schema_registry: must not hold a user",
        ),
        (
            "kafka.schema_registry = \"host:80\"",
            "kafka.schema_registry: \"host:80\" is not an address",
        ),
        (
            "kafka.schema_registry_user = \"me\"",
            "kafka.schema_registry_user: needs both",
        ),
        (
            "kafka.schema_registry_password = \"hush\"",
            "kafka.schema_registry_user: needs both",
        ),
    ];
    for (flags, message) in table {
        let error = load(flags).unwrap_err();
        assert!(
            error.starts_with(message) && !error.contains("hush"),
            "{flags}: {error}"
        );
    }
    let config = load(
            "kafka = { schema_registry = \"https://host/path\", schema_registry_user = \"me\", schema_registry_password = \"hush\", \
             properties = { \"sasl.password\" = \"hush\" } }",
        )
        .unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    let confluent = "events = { log = \"kafka\", topics = [{ name = \"a\", framing = \"confluent\" }] }";
    assert!(
        load(confluent)
            .unwrap_err()
            .starts_with("kafka.schema_registry: is needed: topic a")
    );
}
