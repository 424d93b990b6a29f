//! What is asked of a registry, how often, and what its answers mean.

use crate::served::{Answer, Asked, Served, schema};
use consumer::registry::{Registry, RegistryError};
use consumer::writers::{WriterError, Writers};
use futures_util::future::{join, join_all};
use platform::config::SchemaRegistry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use schemas::avro::{Fields, SCHEMA_V1, SCHEMA_V2, SchemaKey};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

fn writers(settings: &SchemaRegistry) -> Writers {
    Writers::new(Some(Registry::new(settings).unwrap()))
}

async fn ask(writers: &Writers, key: SchemaKey) -> Result<(), WriterError> {
    writers.schema(0, &Fields::default(), key).await.map(|_| ())
}

fn not_found() -> Answer {
    Answer::Say(
        404,
        r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned(),
    )
}

#[tokio::test]
async fn a_schema_that_many_want_is_asked_for_once() {
    let served = Served::closed(vec![schema(SCHEMA_V2)]).await;
    let writers = writers(&served.settings());
    let wanted = (0..50).map(|_| ask(&writers, SchemaKey::Id(7)));
    // All fifty wait before the answer may go out.
    let (answers, ()) = join(join_all(wanted), async { served.open() }).await;
    assert!(answers.iter().all(Result::is_ok));
    ask(&writers, SchemaKey::Id(7)).await.unwrap();
    let expected = Asked {
        path: "/schemas/ids/7".to_owned(),
        authorization: None,
    };
    assert_eq!(served.asked(), [expected]);
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_not_asked_for_again_at_once() {
    let served = Served::start(vec![not_found(), schema(SCHEMA_V1)]).await;
    let writers = writers(&served.settings());
    for _ in 0..20 {
        let error = ask(&writers, SchemaKey::Id(9)).await.unwrap_err();
        assert!(
            matches!(error, WriterError::Unusable("unknown_schema", _)),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "schema id 9 is not in the registry");
    }
    assert_eq!(served.asked().len(), 1);
    ask(&writers, SchemaKey::Id(10)).await.unwrap();
}

#[tokio::test]
async fn each_topic_has_its_own_names_for_the_fields_of_one_schema() {
    let served = Served::start(vec![schema(SCHEMA_V2)]).await;
    let writers = writers(&served.settings());
    let by_type = Fields {
        event_type: Some("kind".to_owned()),
        ..Fields::default()
    };
    for _ in 0..2 {
        let error = writers.schema(1, &by_type, SchemaKey::Id(7)).await.unwrap_err();
        assert!(
            matches!(error, WriterError::Unusable("unresolved", _)),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .starts_with("schema id 7: the writer's schema has no field \"kind\" for the event_type"),
            "{error}"
        );
        ask(&writers, SchemaKey::Id(7)).await.unwrap();
    }
    assert_eq!(served.asked().len(), 2);
}

#[tokio::test]
async fn a_guid_has_a_path_of_its_own() {
    let served = Served::start(vec![schema(SCHEMA_V2)]).await;
    ask(&writers(&served.settings()), SchemaKey::Guid([0xAB; 16]))
        .await
        .unwrap();
    assert_eq!(
        served.asked()[0].path,
        "/schemas/guids/abababab-abab-abab-abab-abababababab"
    );
}

#[tokio::test]
async fn the_registry_is_told_user_and_password_and_nobody_else_is() {
    let served = Served::start(vec![Answer::Say(403, String::new()), schema(SCHEMA_V2)]).await;
    let settings = SchemaRegistry {
        credentials: Some(("key".to_owned(), "hush:hush".to_owned())),
        ..served.settings()
    };
    let writers = writers(&settings);
    let refused = ask(&writers, SchemaKey::Id(1)).await.unwrap_err();
    assert!(matches!(refused, WriterError::Unavailable(_)), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "status 403: check kafka.schema_registry_user and kafka.schema_registry_password"
    );
    ask(&writers, SchemaKey::Id(1)).await.unwrap();
    // base64 of "key:hush:hush".
    let expected = Some("Basic a2V5Omh1c2g6aHVzaA==".to_owned());
    assert!(
        served.asked().iter().all(|asked| asked.authorization == expected),
        "{:?}",
        served.asked()
    );
    assert!(!format!("{settings:?}").contains("hush"));
}

#[tokio::test]
async fn what_a_registry_answers_is_lasting_or_passing() {
    let say = |status, body: &str| Answer::Say(status, body.to_owned());
    let passing = [
        say(429, ""),
        say(500, r#"{"error_code":50001}"#),
        say(503, ""),
        say(401, ""),
        say(301, ""),
        // Some other server, or the wrong path.
        say(404, "<html>"),
        Answer::HangUp,
    ];
    let lasting = [
        (not_found(), "is not in the registry"),
        (say(200, "<html>"), "is answered with something else"),
        (
            say(200, r#"{"schema":"{}","schemaType":"PROTOBUF"}"#),
            "is of type PROTOBUF, not AVRO",
        ),
        (
            say(
                200,
                r#"{"schema":"{}","references":[{"name":"com.acme.Money","subject":"money","version":1}]}"#,
            ),
            "refers to the schema com.acme.Money (1 in all)",
        ),
    ];
    for answer in passing {
        let served = Served::start(vec![answer.clone()]).await;
        let registry = Registry::new(&served.settings()).unwrap();
        let error = registry.schema(&SchemaKey::Id(5)).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Unavailable(_)),
            "{answer:?}: {error:?}"
        );
    }
    for (answer, why) in lasting {
        let served = Served::start(vec![answer.clone()]).await;
        let registry = Registry::new(&served.settings()).unwrap();
        let error = registry.schema(&SchemaKey::Id(5)).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Unknown(_)),
            "{answer:?}: {error:?}"
        );
        assert!(
            error.to_string().starts_with(&format!("schema id 5 {why}")),
            "{error}"
        );
    }
}

/// A CA of its own, as PEM, and a server for 127.0.0.1 that it vouches for.
fn own_ca() -> (String, TlsAcceptor) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (pem, TlsAcceptor::from(Arc::new(server)))
}

#[tokio::test]
async fn a_registry_with_a_ca_of_its_own_is_trusted_where_the_configuration_names_it() {
    let (pem, tls) = own_ca();
    let (other_pem, _) = own_ca();
    let served = Served::tls(vec![schema(SCHEMA_V2)], tls).await;
    let folder = tempfile::tempdir().unwrap();
    let with_ca = |text: &str| {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, text).unwrap();
        Registry::new(&SchemaRegistry {
            ca: Some(file),
            ..served.settings()
        })
    };
    with_ca(&pem).unwrap().schema(&SchemaKey::Id(1)).await.unwrap();
    for registry in [
        with_ca(&other_pem).unwrap(),
        Registry::new(&served.settings()).unwrap(),
    ] {
        let error = registry.schema(&SchemaKey::Id(1)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert_eq!(served.asked().len(), 1);
    let why = |text| with_ca(text).err().unwrap();
    assert!(
        why("nothing").starts_with("kafka.schema_registry_ca: "),
        "{}",
        why("nothing")
    );
    assert!(
        why("nothing").ends_with("ca.pem: there is no certificate in it"),
        "{}",
        why("nothing")
    );
}
