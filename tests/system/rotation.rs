//! The key that seals is changed under a running product, and what a tenant has is taken out and brought in: by the
//! commands that operators use.

use crate::product::{Product, Setup};
use crate::secs;
use crate::sink::Sink;
use serde_json::{Value, json};

/// base64 of 32 bytes each.
const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// The same with other keys.
fn with_keys(setup: Setup, seals: &str, opens: &[&str]) -> Setup {
    setup
        .unset("secrets.key")
        .unset("secrets.old_keys")
        .set("secrets.key", seals)
        .set("secrets.old_keys", &json!(opens).to_string())
}

/// An event that comes to these paths, signed with their secrets.
async fn delivered(product: &Product, sink: &Sink, paths: &[&str]) {
    let event = product.publish("core.orders.created.v1", json!(1)).await;
    for path in paths {
        let like = |one: &crate::sink::Delivery| one.id == event && one.path == *path && one.accepted();
        let come = sink.wait(secs(20), "it is delivered", like).await;
        assert_eq!(come.verified, Some(true), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_while_everything_runs_and_the_old_one_goes() {
    let sink = Sink::start().await;
    let setup = Setup::new()
        .set("delivery.allow_http", "true")
        .set("delivery.allow_networks", "[\"127.0.0.0/8\"]");
    let setup = with_keys(setup, OLD, &[NEW]);
    setup.run(&["tenants", "create", "default"]).await.ok();
    let key = setup.run(&["keys", "create", "--tenant", "default"]).await.ok();
    let key = key.trim().to_owned();
    let mut product = setup.start(&["all"]).await;
    product.key.clone_from(&key);
    product.endpoint(&sink, "/a", &["*"]).await;
    delivered(&product, &sink, &["/a"]).await;

    let setup = with_keys(setup, NEW, &[OLD]);
    let said = setup.run(&["secrets", "rotate"]).await.ok();
    assert!(
        said.contains("2 values sealed anew") && said.contains("nothing needs an old key"),
        "{said}"
    );
    // What the product makes now is sealed with the key it has, the old one.
    product.endpoint(&sink, "/b", &["*"]).await;
    delivered(&product, &sink, &["/a", "/b"]).await;
    product.stop().await;

    let said = setup.run(&["check"]).await.ok();
    assert!(
        said.contains("an old key (id ") && said.contains("for 1 value: run"),
        "{said}"
    );
    // Without it not all would open: said before anything starts.
    let setup = with_keys(setup, NEW, &[]);
    let ended = setup.run(&["check"]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(
        ended.stdout.contains("not configured") && ended.stderr.contains("secrets"),
        "{ended:?}"
    );
    let setup = with_keys(setup, NEW, &[OLD]);
    setup.run(&["secrets", "rotate"]).await.ok();
    let said = setup.run(&["check"]).await.ok();
    assert!(
        said.contains("secrets    ok") && !said.contains("old key"),
        "{said}"
    );

    let setup = with_keys(setup, NEW, &[]);
    let mut product = setup.start(&["all"]).await;
    product.key = key;
    delivered(&product, &sink, &["/a", "/b"]).await;
    product.stop().await;
    let setup = with_keys(setup, OLD, &[]);
    let ended = setup.run(&["secrets", "rotate"]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(
        ended.stderr.contains("another key") && !ended.stderr.contains(OLD),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tenant_has_is_taken_out_and_brought_in() {
    let (setup, sink) = (Setup::new().set("secrets.key", OLD), Sink::start().await);
    let setup = setup
        .set("delivery.allow_http", "true")
        .set("delivery.allow_networks", "[\"127.0.0.0/8\"]");
    for tenant in ["here", "there"] {
        setup.run(&["tenants", "create", tenant]).await.ok();
    }
    let document = json!({
        "version": 1,
        "targets": [{"id": 7, "url": sink.url("/a"), "headers": {"x-a": "b"}}],
        "filters": [{"id": 8, "name": "all", "events": ["*"]}],
        "subscriptions": [{"id": 9, "targetId": 7, "filterId": 8}],
    });
    let here = ["import", "--tenant", "here", "-"];
    let said = setup.run_with(&here, &document.to_string()).await.ok();
    assert!(
        said.contains("targets[0]  7  made") && said.contains("filters: 1 made"),
        "{said}"
    );
    let said = setup.run_with(&here, &document.to_string()).await.ok();
    assert!(
        said.contains("subscriptions: 0 made, 0 changed, 1 as they were"),
        "{said}"
    );

    setup.run(&["export", "--tenant", "here", "here.json"]).await.ok();
    let file = setup.folder().join("here.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let written: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!(written["filters"], document["filters"]);
    let there = ["import", "--tenant", "there", "here.json"];
    let said = setup.run(&[&there[..], &["--dry-run"]].concat()).await.ok();
    assert!(
        said.contains("targets: 1 made, 0 changed, 0 as they were (dry run)"),
        "{said}"
    );
    let empty = setup.run(&["export", "--tenant", "there"]).await.ok();
    assert_eq!(
        serde_json::from_str::<Value>(&empty).expect("JSON")["targets"],
        json!([])
    );
    setup.run(&there).await.ok();

    let ended = setup
        .run_with(&here, "{\"version\": 1, \"filters\": [{\"id\": 1}]}")
        .await;
    assert_eq!(ended.code, Some(64));
    assert!(
        ended
            .stderr
            .contains("nothing was imported\n  filters[0].name: is missing"),
        "{ended:?}"
    );
    let ended = setup
        .run_with(&["import", "--tenant", "nobody"], &document.to_string())
        .await;
    assert!(
        ended.code == Some(64) && ended.stderr.contains("there is no tenant nobody"),
        "{ended:?}"
    );
}
