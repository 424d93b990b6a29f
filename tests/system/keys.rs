//! API keys by the command line, beside the running product.

use crate::eventually;
use crate::product::Setup;
use crate::secs;
use serde_json::json;

#[tokio::test]
async fn a_key_of_the_command_line_does_what_it_is_for_until_it_is_revoked() {
    let running = Setup::new();
    let mut product = running.dev().await;
    let seal = std::fs::read_to_string(running.data().join("secrets-key")).expect("the key");
    let beside = Setup::new()
        .set("data", &running.data().display().to_string())
        .set("secrets.key", seal.trim());

    let create = ["keys", "create", "--tenant", "default", "--name", "orders"];
    let limits = ["--scope", "publish", "--expires-in", "90d"];
    let key = beside.run(&[&create[..], &limits[..]].concat()).await.ok();
    let of_dev = std::mem::replace(&mut product.key, key.trim().to_owned());
    let event = json!({"type": "a.b", "payload": 1});
    product.post("/webhooks/events", event.clone()).await.expect(202);
    product.get("/webhooks/targets").await.expect(403);

    let listed = beside.run(&["keys", "list", "--tenant", "default"]).await.ok();
    let line = listed.lines().next().expect("the newest first");
    let words: Vec<&str> = line.split('\t').collect();
    assert_eq!((words[2], words[6]), ("publish", "orders"), "{line}");
    assert!(!words[4].contains("never"), "{line}");
    assert!(!listed.contains(key.trim()), "its value is shown once");
    assert!(listed.contains("manage,publish,read"), "that of dev: {listed}");

    let revoke = ["keys", "revoke", "--tenant", "default", words[0]];
    beside.run(&revoke).await.ok();
    eventually(secs(3), "the key is refused", async || {
        let answer = product.post("/webhooks/events", event.clone()).await;
        (answer.status == 401).then_some(())
    })
    .await;

    // Who did it is told.
    product.key = of_dev;
    let told = product.get("/webhooks/audit?kind=key&limit=2").await.expect(200);
    let told = told["items"].as_array().expect("entries");
    assert_eq!(
        (&told[0]["action"], &told[0]["actor"]["type"]),
        (&json!("delete"), &json!("admin"))
    );
    assert_eq!(
        (&told[1]["action"], &told[1]["id"]),
        (&json!("create"), &json!(words[0]))
    );
    product.stop().await;

    for (arguments, part) in [
        (&revoke[..], words[0]),
        (
            &["keys", "list", "--tenant", "nobody"],
            "hookwright tenants create nobody",
        ),
        (
            &["keys", "create", "--tenant", "default", "--scope", "write"],
            "manage, publish and read",
        ),
        (
            &["keys", "create", "--tenant", "default", "--expires-in", "90"],
            "90s",
        ),
    ] {
        let refused = beside.run(arguments).await;
        assert_eq!(refused.code, Some(64), "{refused:#?}");
        assert!(refused.stderr.contains(part), "{refused:#?}");
    }
}

/// What a newcomer does: `dev`, and then the other commands in the same folder, with nothing configured.
#[tokio::test]
async fn where_dev_ran_the_commands_find_what_it_keeps() {
    let setup = Setup::new();
    let product = setup.start(&["dev", "--listen", "127.0.0.1:0"]).await;
    let told = "using what `hookwright dev` keeps in ./hookwright-data";

    let made = setup
        .run(&["keys", "create", "--tenant", "default", "--name", "ci"])
        .await;
    assert!(made.stderr.contains(told), "{made:#?}");
    // Its answer alone is on stdout, to be kept in a variable.
    let key = made.ok();
    assert!(
        key.starts_with("hk_live_") && key.trim().lines().count() == 1,
        "{key}"
    );
    let listed = setup.run(&["keys", "list", "--tenant", "default"]).await.ok();
    assert_eq!(listed.lines().count(), 2, "that of dev and this one: {listed}");
    // An address that only `dev` allows is brought in too.
    let document = r#"{"version":1,"targets":[{"id":7,"url":"http://127.0.0.1:9000/"}]}"#;
    let import = ["import", "--tenant", "default", "-"];
    let imported = setup.run_with(&import, document).await.ok();
    assert!(imported.contains("targets: 1 made"), "{imported}");
    let exported = setup.run(&["export", "--tenant", "default"]).await.ok();
    assert!(exported.contains("http://127.0.0.1:9000/"), "{exported}");
    setup.run(&["secrets", "rotate"]).await.ok();
    setup.run(&["tenants", "create", "acme"]).await.ok();
    product.stop().await;

    // What is configured is not second to it.
    let beside = setup.set("data", "other");
    let refused = beside.run(&["keys", "list", "--tenant", "default"]).await;
    assert_eq!(refused.code, Some(64), "{refused:#?}");
    for part in ["secrets.key", "HOOKWRIGHT_DATA=DIR"] {
        assert!(refused.stderr.contains(part), "{refused:#?}");
    }
    assert!(!beside.folder().join("other").exists());
}
