//! The OpenAPI document: whole, and as the router is.

use crate::world::{ADMIN_KEY, Answer, World, config};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// All routes, as the contract has them.
const ROUTES: [(&str, &[&str]); 31] = [
    ("/", &["get"]),
    ("/v1", &["get"]),
    ("/v1/admin/audit", &["get"]),
    ("/v1/admin/tenants", &["get", "post"]),
    ("/v1/admin/tenants/{tenant}", &["delete", "get"]),
    ("/v1/admin/tenants/{tenant}/keys", &["get", "post"]),
    ("/v1/admin/tenants/{tenant}/keys/{id}", &["delete"]),
    ("/v1/docs", &["get"]),
    ("/v1/openapi.json", &["get"]),
    ("/v1/webhooks/audit", &["get"]),
    ("/v1/webhooks/deliveries", &["get"]),
    ("/v1/webhooks/dead-letters", &["get"]),
    ("/v1/webhooks/dead-letters/redrive", &["post"]),
    ("/v1/webhooks/deliveries/{id}", &["get"]),
    ("/v1/webhooks/deliveries/{id}/resend", &["post"]),
    ("/v1/webhooks/endpoints", &["get", "post"]),
    ("/v1/webhooks/endpoints/{id}", &["delete", "get", "patch"]),
    ("/v1/webhooks/events", &["get", "post"]),
    ("/v1/webhooks/events/{id}", &["get"]),
    ("/v1/webhooks/filters", &["get", "post"]),
    ("/v1/webhooks/filters/{id}", &["delete", "get", "patch"]),
    ("/v1/webhooks/replays", &["get", "post"]),
    ("/v1/webhooks/replays/{id}", &["delete", "get"]),
    ("/v1/webhooks/stats", &["get"]),
    ("/v1/webhooks/subscriptions", &["get", "post"]),
    ("/v1/webhooks/subscriptions/{id}", &["delete", "get", "patch"]),
    ("/v1/webhooks/targets", &["get", "post"]),
    ("/v1/webhooks/targets/{id}", &["delete", "get", "patch"]),
    ("/v1/webhooks/targets/{id}/public-keys", &["get"]),
    ("/v1/webhooks/targets/{id}/secret", &["post"]),
    ("/v1/webhooks/targets/{id}/{verb}", &["post"]),
];

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document() -> Value {
    serde_json::to_value(api::openapi(&config())).unwrap()
}

/// Path, method and description of every operation.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(METHODS.contains(&method.as_str()), "{path}: {method}");
            operations.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn the_document_lists_exactly_the_contracts_routes() {
    let mut expected = BTreeSet::new();
    for (path, methods) in ROUTES {
        for method in methods {
            for verb in ["enable", "disable", "verify", "test"] {
                expected.insert((path.replace("{verb}", verb), (*method).to_owned()));
            }
        }
    }
    let listed: BTreeSet<_> = operations(&document())
        .into_iter()
        .map(|(path, method, _)| (path, method))
        .collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn every_listed_operation_is_routed_and_no_other_method_is() {
    let world = World::start().await;
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let listed = item.get(method).is_some();
            // Ids of nothing: what is routed to a resource is told apart from what is not routed by
            // the key it asks for.
            let uri = format!(
                "{}{}",
                world.root,
                path.replace("{id}", "1").replace("{tenant}", "nobody")
            );
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = Request::builder()
                .method(method.clone())
                .uri(uri)
                .body(Full::default())
                .unwrap();
            let status = world.send(request).await.status.as_u16();
            let open = item
                .get("get")
                .is_some_and(|operation| operation["tags"][0] == "docs");
            let expected = match (listed, open) {
                (true, true) => 200,
                (true, false) => 401,
                (false, _) => 405,
            };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
    world.stop().await;
}

#[test]
fn every_operation_is_described_with_examples_and_its_errors() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        for field in ["summary", "description", "operationId"] {
            assert!(
                !operation[field].as_str().unwrap_or("").is_empty(),
                "{name}: {field}"
            );
        }
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{name}: operationId is not unique"
        );

        let body = operation.get("requestBody");
        for content in body
            .into_iter()
            .flat_map(|body| body["content"].as_object().unwrap().values())
        {
            assert!(!content["example"].is_null(), "{name}: no example of its body");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            for field in ["description", "example"] {
                assert!(
                    !parameter[field].is_null(),
                    "{name}: {}: {field}",
                    parameter["name"]
                );
            }
        }

        let answers = operation["responses"].as_object().unwrap();
        let mut expected = BTreeSet::new();
        if operation["tags"][0] == "docs" {
            assert_eq!(operation["security"], json!([]), "{name}");
        } else {
            let scheme = if path.starts_with("/v1/admin") {
                "adminKey"
            } else {
                "apiKey"
            };
            assert!(
                operation["security"][0].get(scheme).is_some(),
                "{name}: {}",
                operation["security"]
            );
            expected.extend(["401", "403", "503"]);
            expected.extend((scheme == "apiKey").then_some("429"));
        }
        if body.is_some() {
            expected.extend(["400", "413", "415", "422"]);
        }
        if path.contains('{') {
            expected.insert("404");
        }
        for status in &expected {
            assert!(answers.contains_key(*status), "{name}: no {status}");
        }
        assert_eq!(
            answers.keys().filter(|status| status.starts_with('2')).count(),
            1,
            "{name}"
        );
        for (status, answer) in answers {
            assert!(
                !answer["description"].as_str().unwrap().is_empty(),
                "{name}: {status}"
            );
            match answer["content"].as_object() {
                None => assert!(
                    ["204", "304"].contains(&status.as_str()),
                    "{name}: {status} has no content"
                ),
                Some(content) => {
                    for (media_type, content) in content {
                        assert!(!content["example"].is_null(), "{name}: {status} has no example");
                        let problem = media_type == "application/problem+json";
                        assert_eq!(problem, !status.starts_with('2'), "{name}: {status} {media_type}");
                    }
                }
            }
        }
    }
}

/// All `$ref`s, and all parts with properties.
fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| walk(value, visit)),
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_property_is_described() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["servers"][0]["url"], "/");
    walk(&document, &mut |value| {
        if let Some(path) = value["$ref"].as_str() {
            let name = path.strip_prefix("#/components/schemas/").unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{path}");
        }
    });
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if let Some(item) = name.strip_prefix("List_") {
            let shared = json!({"$ref": format!("#/components/schemas/{item}")});
            assert_eq!(schema["properties"]["items"]["items"], shared, "{name}");
        }
        assert!(
            schema["description"].is_string() || name.starts_with("List_"),
            "{name}"
        );
        walk(schema, &mut |part| {
            for (property, schema) in part["properties"].as_object().into_iter().flatten() {
                // Where null is possible, the description stands with the other choice.
                let choices = schema["oneOf"].as_array().into_iter().flatten();
                let described = choices
                    .chain([schema])
                    .any(|part| part["description"].is_string());
                assert!(described, "{name}.{property} has no description");
            }
        });
    }
}

/// Sends a request with this body to an operation, under the key it takes. Its ids are of nothing.
async fn ask(world: &World, method: &str, path: &str, media_type: &str, body: String) -> Answer {
    let key = if path.starts_with("/v1/admin") {
        ADMIN_KEY
    } else {
        world.key.as_str()
    };
    let path = path.replace("{id}", "1").replace("{tenant}", "nobody");
    let request = Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(format!("{}{path}", world.root))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", media_type);
    world.send(request.body(Full::new(body.into())).unwrap()).await
}

#[tokio::test]
async fn examples_of_bodies_are_taken_as_they_stand() {
    let world = World::start().await;
    let document = document();
    for (path, method, operation) in operations(&document) {
        let Some(body) = operation.get("requestBody") else {
            continue;
        };
        for (media_type, content) in body["content"].as_object().unwrap() {
            let example = &content["example"];
            let text = example
                .as_str()
                .map_or_else(|| example.to_string(), str::to_owned);
            let answer = ask(&world, &method, &path, media_type, text.clone()).await;
            // Its fields are right; what it refers to may not be there.
            let named =
                answer.status == 422 && answer.json()["errors"][0]["message"] == "there is no such target";
            let taken = answer.status.is_success() || [404, 409].contains(&answer.status.as_u16()) || named;
            assert!(
                taken,
                "{method} {path} {text}: {} {:?}",
                answer.status, answer.body
            );
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_body_may_be_left_out_where_the_document_says_so() {
    let world = World::start().await;
    for (path, method, operation) in operations(&document()) {
        let Some(body) = operation.get("requestBody") else {
            continue;
        };
        let answer = ask(&world, &method, &path, "application/json", String::new()).await;
        let refused = [400, 422].contains(&answer.status.as_u16());
        let required = body["required"].as_bool().unwrap();
        assert_eq!(
            refused, required,
            "{method} {path}: {} {:?}",
            answer.status, answer.body
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn the_pages_need_nothing_from_elsewhere_and_no_key() {
    let world = World::start().await;
    let get = async |path: &str| {
        let request = Request::get(format!("{}{path}", world.root));
        world.send(request.body(Full::default()).unwrap()).await
    };
    let served = get("/v1/openapi.json").await;
    assert_eq!(served.headers["content-type"], "application/json");
    assert_eq!(served.json(), document());
    for path in ["/", "/v1/docs"] {
        let page = get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert!(
            page.headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(!text.contains("://"), "{path}");
    }
    assert_eq!(get("/v1").await.expect(200)["docs"], "/v1/docs");
    assert_eq!(get("/").await.status, 200);
    world.stop().await;
}
