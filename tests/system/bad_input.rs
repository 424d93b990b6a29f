//! Starts that cannot be: the exit code of the contract, and a message a person can act on.

use crate::answer::Ended;
use crate::product::Setup;
use std::net::TcpListener;

/// base64 of 32 bytes.
const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Checks the code, that stderr holds each of `parts`, and that nothing looks like a crash.
#[track_caller]
fn refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:#?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part:?} is missing: {ended:#?}");
    }
    for noise in [
        "panicked",
        "RUST_BACKTRACE",
        "stack backtrace",
        "Os {",
        "thread '",
        "unwrap",
        "os error",
        "unavailable: ",
    ] {
        assert!(!ended.stderr.contains(noise), "{noise:?}: {ended:#?}");
    }
    assert_eq!(ended.stdout, "", "complaints belong on stderr: {ended:#?}");
}

/// What `make test` says of the real services it started.
fn world(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run `make test`, which brings the world up"))
}

/// A setup with this `hookwright.toml`.
fn with_file(text: &str) -> Setup {
    let setup = Setup::new();
    std::fs::write(setup.folder().join("hookwright.toml"), text).expect("a file");
    setup
}

/// A setup with all keys that `all` needs.
fn complete() -> Setup {
    Setup::new().set("secrets.key", SEAL).set("data", "data")
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_named_with_its_line() {
    let setup = with_file("[delivery]\n# a comment\ntimeuot = \"15s\"\n");
    let ended = setup.run(&["dev"]).await;
    refused(
        &ended,
        64,
        &[
            "delivery.timeuot",
            "no such key",
            "timeout",
            "hookwright.toml line 3",
        ],
    );

    let setup = with_file("[dilevery]\ntimeout = \"15s\"\n");
    refused(
        &setup.run(&["dev"]).await,
        64,
        &["dilevery", "no such key", "delivery", "hookwright.toml line 1"],
    );

    let setup = Setup::new().set("kafka.borkers", "127.0.0.1:9092");
    refused(
        &setup.run(&["dev"]).await,
        64,
        &["kafka.borkers", "brokers", "HOOKWRIGHT_KAFKA__BORKERS"],
    );
}

#[tokio::test]
async fn a_value_that_is_wrong_is_named_with_what_would_be_right() {
    let table = [
        (
            "[delivery]\ntimeout = \"15\"",
            "delivery.timeout: \"15\" has no unit; write \"15s\"",
            2,
        ),
        (
            "[delivery]\ntimeout = 15",
            "delivery.timeout: \"15\" has no unit; write \"15s\"",
            2,
        ),
        (
            "delivery.timeout = \"2m\"",
            "delivery.timeout: must be between",
            1,
        ),
        (
            "[payloads]\ninline_limit = \"256\"",
            "payloads.inline_limit: \"256\" has no unit; write \"256KiB\"",
            2,
        ),
        (
            "[events]\nlog = \"kafak\"",
            "events.log: \"kafak\" is not one of embedded, kafka",
            2,
        ),
        (
            "[delivery]\nconcurrency = \"many\"",
            "delivery.concurrency: found string \"many\", which is not a whole number",
            2,
        ),
        (
            "[delivery]\nconcurrency = 0",
            "delivery.concurrency: must be at least 1",
            2,
        ),
        (
            "[events]\nmatch_memory = \"0B\"",
            "events.match_memory: must be at least 1",
            2,
        ),
        (
            "[store]\nhistory = \"30 parsecs\"",
            "store.history: \"30 parsecs\" is not a duration",
            2,
        ),
        ("[log]\nlevel = \"inof\"", "log.level: \"inof\" is not a level", 2),
        (
            "[api]\nbase_path = \"v1\"",
            "api.base_path: \"v1\" must begin with /",
            2,
        ),
        (
            "[kafka]\nprotocol = \"consumer\"\nproperties = { \"session.timeout.ms\" = \"9000\" }",
            "kafka.properties: \"session.timeout.ms\" = \"9000\": is not taken",
            3,
        ),
        ("[secrets]\nkey = \"short\"", "error: secrets.key: not base64", 2),
        (
            "[delivery]\nallow_networks = [\"10.0.0.0/33\"]",
            "delivery.allow_networks",
            2,
        ),
        (
            "[log]\nlevel = \"loud=verbose\"",
            "log.level: \"loud=verbose\" is not a level",
            2,
        ),
    ];
    for (text, message, line) in table {
        let ended = with_file(text).run(&["dev"]).await;
        refused(
            &ended,
            64,
            &["error: ", message, &format!("hookwright.toml line {line}")],
        );
    }
    let ended = Setup::new().set("api.listen", "localhost").run(&["dev"]).await;
    refused(&ended, 64, &["api.listen: ", "HOOKWRIGHT_API__LISTEN"]);
    // The environment is named where it is at fault.
    let ended = Setup::new().set("delivery.timeout", "15").run(&["dev"]).await;
    refused(
        &ended,
        64,
        &[
            "delivery.timeout: \"15\" has no unit",
            "HOOKWRIGHT_DELIVERY__TIMEOUT",
        ],
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let setup = with_file("[delivery]\ntimeout = \n");
    refused(&setup.run(&["dev"]).await, 64, &["hookwright.toml", "line 2"]);

    let setup = Setup::new();
    refused(
        &setup.run(&["dev", "--config", "prod.toml"]).await,
        64,
        &["prod.toml", "no such file"],
    );
    let folder = setup.folder().to_str().expect("UTF-8").to_owned();
    refused(
        &setup.run(&["check", "--config", &folder]).await,
        64,
        &[folder.as_str()],
    );
    std::fs::write(setup.folder().join("bytes.toml"), [0xff, 0xfe]).expect("a file");
    refused(
        &setup.run(&["check", "--config", "bytes.toml"]).await,
        64,
        &["bytes.toml"],
    );
}

#[tokio::test]
async fn usage_that_is_wrong_is_explained() {
    let setup = Setup::new();
    let table: [(&[&str], &str); 8] = [
        (&["dispacher"], "'dispatcher'"),
        (&[], "Usage"),
        (&["dev", "--dta", "x"], "--data"),
        (&["dev", "--listen", "8080"], "--listen"),
        (&["--log", "xml", "dev"], "json"),
        (&["listen", "--status", "42"], "--status"),
        (&["listen", "--delay", "2"], "has no unit"),
        (&["listen", "--secret", "secret"], "whsec_"),
    ];
    for (arguments, part) in table {
        refused(&setup.run(arguments).await, 64, &[part]);
    }
    // What is asked for is an answer, on stdout.
    for arguments in [["--help"], ["--version"]] {
        assert!(setup.run(&arguments).await.ok().contains("hookwright"));
    }
}

#[tokio::test]
async fn outside_dev_the_master_key_is_needed() {
    let setup = Setup::new();
    let commands: [&[&str]; 6] = [
        &["all"],
        &["dispatcher"],
        &["api"],
        &["check"],
        &["provision"],
        &["tenants", "create", "acme"],
    ];
    for command in commands {
        let ended = setup.run(command).await;
        refused(&ended, 64, &["secrets.key", "head -c 32 /dev/urandom | base64"]);
        assert!(!setup.folder().join("hookwright-data").exists(), "{command:?}");
    }
    let setup = Setup::new().set("secrets.key", "c2hvcnQ=");
    let ended = setup.run(&["all"]).await;
    refused(&ended, 64, &["secrets.key"]);
    assert!(!ended.stderr.contains("c2hvcnQ="), "{ended:#?}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_no_file_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for key in ["api.listen", "ops.listen"] {
        let setup = complete().set(key, &address);
        let message = format!("{key}: cannot listen on {address}");
        refused(
            &setup.run(&["all"]).await,
            69,
            &[&message, "taken by another program"],
        );
        assert!(!setup.data().exists(), "{key}");
    }
    let setup = Setup::new();
    let ended = setup.run(&["dev", "--listen", &address]).await;
    refused(&ended, 69, &["api.listen", &address, "taken by another program"]);
    let ended = setup.run(&["listen", "--addr", &address]).await;
    refused(&ended, 69, &["--addr", &address]);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_with_its_key() {
    // A port that was free a moment ago and that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address")
        .to_string();
    let setup = complete()
        .set("events.log", "kafka")
        .set("kafka.brokers", &closed);
    for command in ["all", "provision"] {
        refused(&setup.run(&[command]).await, 69, &["kafka.brokers", &closed]);
    }
    let ended = setup.run(&["check"]).await;
    assert_eq!(ended.code, Some(69), "{ended:#?}");
    assert!(
        ended.stdout.contains("kafka.brokers") && ended.stdout.contains(&closed),
        "{ended:#?}"
    );
    assert!(ended.stderr.contains("not usable: event log"), "{ended:#?}");
    let ended = setup.run_with(&["produce", "--type", "a.b", "-"], "{}").await;
    refused(&ended, 69, &["kafka.brokers", &closed]);

    let setup = complete().set("store.url", &format!("postgres://nobody@{closed}/nothing"));
    let message = format!("store.url: cannot reach {closed} (connection refused)");
    refused(&setup.run(&["all"]).await, 69, &[&message]);

    let setup = complete()
        .set("queue.kind", "sqs")
        .env("AWS_ENDPOINT_URL_SQS", &format!("http://{closed}"));
    let setup = setup
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b")
        .env("AWS_REGION", "us-east-1");
    let message = format!("queue: cannot reach http://{closed} (connection refused)");
    refused(&setup.run(&["all"]).await, 69, &[&message]);
}

#[tokio::test]
async fn what_is_away_is_told_with_its_place_and_what_to_do() {
    let setup = with_file(&format!(
        "[secrets]\nkey = \"{SEAL}\"\n[events]\nlog = \"kafka\"\n[kafka]\nbrokers = \"127.0.0.1:1\"\n"
    ));
    let file = "--config hookwright.toml";
    let ended = setup.run(&["all", "--config", "hookwright.toml"]).await;
    let message = format!(
        "error: kafka.brokers: cannot reach 127.0.0.1:1 (connection refused after 5 s)\n  \
         set in hookwright.toml line 6; `hookwright check {file}` tests every dependency\n"
    );
    refused(&ended, 69, &[&message]);
}

#[tokio::test]
async fn what_is_not_provisioned_is_named() {
    let endpoint = world("WORLD_SQS_ENDPOINT");
    let setup = || {
        complete()
            .set("aws.endpoint", &endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1")
    };
    let queue = setup().set("queue.kind", "sqs").set("queue.prefix", "never-made");
    let message =
        format!("queue: queue never-made-dispatch does not exist at {endpoint}; run hookwright provision");
    refused(&queue.run(&["all"]).await, 69, &[&message]);

    let bucket = setup()
        .set("payloads.kind", "s3")
        .set("payloads.bucket", "never-made");
    let message =
        format!("payloads: bucket never-made does not exist at {endpoint}; run hookwright provision");
    refused(
        &bucket.run(&["all"]).await,
        69,
        &[&message, "set in HOOKWRIGHT_PAYLOADS__BUCKET"],
    );

    let topics = complete()
        .set("events.log", "kafka")
        .set("kafka.brokers", &world("WORLD_KAFKA_BROKERS"))
        .set("events.topics", "[{name=\"never-made\"}]");
    let message = "kafka.brokers: topic never-made does not exist; run hookwright provision";
    refused(&topics.run(&["all"]).await, 69, &[message]);
}

#[tokio::test]
async fn a_database_that_does_not_let_us_in_is_named_without_its_password() {
    let url = world("WORLD_POSTGRES_URL");
    let place = url.rsplit('@').next().expect("a part");
    let address = place.split('/').next().expect("a part");
    let setup = complete().set("store.url", &format!("postgres://nobody:hunter2@{place}"));
    let ended = setup.run(&["all"]).await;
    let message =
        format!("store.url: cannot open {address}: password authentication failed for user \"nobody\"");
    refused(&ended, 69, &[&message, "set in HOOKWRIGHT_STORE__URL"]);
    assert!(!ended.stderr.contains("hunter2"), "{ended:#?}");

    for url in ["mysql://root:hunter2@localhost/x", "sqlite:", "hunter2"] {
        let setup = complete().set("store.url", url);
        let ended = setup.run(&["check"]).await;
        refused(&ended, 64, &["store.url: ", "sqlite:", "HOOKWRIGHT_STORE__URL"]);
        assert!(!ended.stderr.contains("hunter2"), "{ended:#?}");
        assert!(!setup.data().exists(), "{url}");
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_is_named() {
    let setup = Setup::new();
    let file = setup.folder().join("file");
    std::fs::write(&file, b"").expect("a file");
    let below = file.join("data");
    let below = below.to_str().expect("UTF-8");
    refused(
        &setup.run(&["dev", "--data", below]).await,
        69,
        &["data: ", below, "not a folder"],
    );
    let setup = complete().set("data", below);
    refused(&setup.run(&["all"]).await, 69, &["data: ", below, "not a folder"]);
    // Nobody may make a folder there, not even root.
    let message = "data: /sys/hookwright cannot be written by this user";
    let setup = complete().set("data", "/sys/hookwright");
    refused(
        &setup.run(&["all"]).await,
        69,
        &[message, "set in HOOKWRIGHT_DATA"],
    );
    let ended = setup.run(&["dev", "--data", "/sys/hookwright"]).await;
    refused(&ended, 69, &[message, "set in --data"]);
}

#[tokio::test]
async fn a_data_folder_has_one_hookwright() {
    let setup = Setup::new();
    let running = setup.dev().await;
    let data = setup.data();
    let data = data.to_str().expect("UTF-8");
    let second = setup
        .run(&["dev", "--data", data, "--listen", "127.0.0.1:0"])
        .await;
    refused(&second, 69, &["data: ", data, "in use by another hookwright"]);
    running.stop().await;
}

#[tokio::test]
async fn commands_check_their_arguments_before_they_do_anything() {
    let setup = complete();
    let table: [(&[&str], &[&str]); 8] = [
        (&["produce", "--type", "core orders", "-"], &["--type"]),
        (&["produce", "--type", "a.*", "-"], &["--type"]),
        (
            &["produce", "--type", "a.b", "--tenant", "ACME", "-"],
            &["--tenant", "ACME"],
        ),
        (
            &["produce", "--type", "a.b", "--id", "a.b", "-"],
            &["--id", "a.b"],
        ),
        (
            &["produce", "--type", "a.b", "--topic", "nowhere", "-"],
            &["--topic", "webhook-events"],
        ),
        (&["produce", "--type", "a.b", "missing.json"], &["missing.json"]),
        (
            &["keys", "create", "--tenant", "nobody"],
            &["--tenant", "nobody", "hookwright tenants create nobody"],
        ),
        (&["tenants", "create", "Not A Name"], &["Not A Name"]),
    ];
    for (arguments, parts) in table {
        refused(&setup.run(arguments).await, 64, parts);
    }
    setup.run(&["tenants", "create", "acme"]).await.ok();
    refused(&setup.run(&["tenants", "create", "acme"]).await, 64, &["acme"]);
    let key = setup.run(&["keys", "create", "--tenant", "acme"]).await.ok();
    assert!(key.starts_with("hk_live_") && key.lines().count() == 1, "{key}");
    let said = setup
        .run_with(&["produce", "--type", "a.b", "--tenant", "acme"], "{\"n\":1}\n")
        .await
        .ok();
    assert_eq!(said, "1 event written to webhook-events\n");
}
