//! Pages that ask from a browser.

use crate::world::{Answer, World, config};
use http::{Method, Request};
use http_body_util::Full;

const HERE: &str = "https://console.example.com";
const THERE: &str = "https://console.example.com.evil.test";

async fn world(origins: &[&str]) -> World {
    World::start_with(api::Config {
        cors_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        ..config()
    })
    .await
}

async fn ask(world: &World, method: Method, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}/v1/webhooks/targets", world.root));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Full::default()).unwrap()).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

async fn preflight(world: &World, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "authorization,if-match"),
    ];
    ask(world, Method::OPTIONS, &headers).await
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_ask_and_no_other() {
    let world = world(&["http://localhost:3000", HERE]).await;
    let asked = preflight(&world, HERE).await;
    assert_eq!(asked.status, 204, "without a key");
    assert_eq!(header(&asked, "access-control-allow-origin"), Some(HERE));
    assert!(
        header(&asked, "access-control-allow-methods")
            .unwrap()
            .contains("PATCH")
    );
    let taken = header(&asked, "access-control-allow-headers").unwrap();
    for name in [
        "authorization",
        "content-type",
        "idempotency-key",
        "if-match",
        "if-none-match",
    ] {
        assert!(taken.contains(name), "{taken}");
    }
    let key = format!("Bearer {}", world.key);
    let answer = ask(&world, Method::GET, &[("origin", HERE), ("authorization", &key)]).await;
    assert_eq!(header(&answer, "access-control-allow-origin"), Some(HERE));
    let shown = header(&answer, "access-control-expose-headers").unwrap();
    for name in ["etag", "retry-after", "idempotent-replayed"] {
        assert!(shown.contains(name), "{shown}");
    }
    answer.expect(200);
    // Errors can be read too.
    let answer = ask(&world, Method::GET, &[("origin", HERE)]).await;
    assert_eq!(header(&answer, "access-control-allow-origin"), Some(HERE));
    answer.problem(401);

    for origin in [
        THERE,
        "null",
        "http://console.example.com",
        "https://console.example.com:8443",
    ] {
        let asked = preflight(&world, origin).await;
        assert_eq!(header(&asked, "access-control-allow-origin"), None, "{origin}");
        assert_eq!(header(&asked, "vary"), Some("origin"));
        asked.problem(405);
    }
    for headers in [&[][..], &[("origin", HERE)], &[("origin", THERE)]] {
        let answer = ask(&world, Method::GET, headers).await;
        assert_eq!(header(&answer, "vary"), Some("origin"), "{headers:?}");
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
    world.stop().await;
}

#[tokio::test]
async fn any_page_may_ask_where_all_may_but_none_with_credentials() {
    let world = world(&["*"]).await;
    let asked = preflight(&world, THERE).await;
    assert_eq!(asked.status, 204);
    for answer in [asked, ask(&world, Method::GET, &[]).await] {
        assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
    world.stop().await;
}

#[tokio::test]
async fn unless_configured_no_page_may_ask() {
    let world = world(&[]).await;
    let asked = preflight(&world, HERE).await;
    assert_eq!(header(&asked, "access-control-allow-origin"), None);
    asked.problem(405);
    let answer = ask(&world, Method::GET, &[("origin", HERE)]).await;
    assert_eq!(
        (
            header(&answer, "vary"),
            header(&answer, "access-control-allow-origin")
        ),
        (None, None)
    );
    world.stop().await;
}
