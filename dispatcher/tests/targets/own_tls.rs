//! Targets with authorities and client certificates of their own.

use crate::certificates::{Authority, Fault, NAME};
use crate::names::Always;
use crate::sink::{Sink, request};
use crate::{config, open};
use dispatcher::client::HttpClient;
use dispatcher::targets::OwnTls;
use http::Request;
use http_body_util::Full;
use rustls::RootCertStore;
use schemas::outcome::AttemptError;
use schemas::target::{SecretText, TlsOptions};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Answers every request, and keeps which certificate its connection has shown.
async fn sink(acceptor: TlsAcceptor, shown: Arc<Mutex<Vec<Vec<u8>>>>) -> Sink {
    Sink::start("127.0.0.1", move |stream| {
        let (acceptor, shown) = (acceptor.clone(), shown.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let of = stream.get_ref().1.peer_certificates();
            let certificate = of.map_or_else(Vec::new, |all| all[0].to_vec());
            while !request(&mut stream).await.is_empty() {
                shown.lock().unwrap().push(certificate.clone());
                drop(stream.write_all(OK).await);
            }
        }
    })
    .await
}

/// A client that trusts nobody by itself.
fn client() -> HttpClient {
    let names = Arc::new(Always("127.0.0.1".parse().unwrap()));
    HttpClient::with(&config(open(&["127.0.0.0/8"])), RootCertStore::empty(), names)
}

async fn post(client: &HttpClient, sink: &Sink, tls: Option<&OwnTls>) -> Result<u16, AttemptError> {
    let url = format!("https://{NAME}:{}/", sink.address.port());
    let request = Request::post(url).body(Full::default()).unwrap();
    let answer = client.post(request, tls, Duration::from_secs(20)).await;
    answer.map(|answer| answer.status)
}

fn own(id: &str, ca: Option<&Authority>, client: Option<(String, String)>) -> OwnTls {
    let (client_certificate, key) = client.unzip();
    OwnTls {
        id: id.to_owned(),
        options: TlsOptions {
            ca: ca.map(Authority::pem),
            client_certificate,
        },
        client_key: key.map(SecretText::new),
    }
}

#[tokio::test]
async fn an_authority_of_its_own_is_trusted_for_that_target_alone() {
    let (authority, other) = (Authority::new(), Authority::new());
    let shown = Arc::default();
    let sink = sink(authority.acceptor(Fault::None, &[b"http/1.1"]), shown).await;
    let client = client();
    assert_eq!(post(&client, &sink, None).await, Err(AttemptError::Tls));
    let trusting = own("1", Some(&authority), None);
    assert_eq!(post(&client, &sink, Some(&trusting)).await, Ok(200));
    assert_eq!(
        post(&client, &sink, Some(&own("2", Some(&other), None))).await,
        Err(AttemptError::Tls)
    );
    // Its open connection is nobody else's.
    assert_eq!(post(&client, &sink, None).await, Err(AttemptError::Tls));
    assert_eq!(post(&client, &sink, Some(&trusting)).await, Ok(200));
    assert_eq!(
        sink.accepted(),
        4,
        "the second request of the first target used its connection"
    );
    // The authority changes nothing else: names and dates are checked.
    for fault in [Fault::OtherName, Fault::Expired] {
        let sink = self::sink(authority.acceptor(fault, &[b"http/1.1"]), Arc::default()).await;
        assert_eq!(
            post(&client, &sink, Some(&trusting)).await,
            Err(AttemptError::Tls)
        );
    }
}

#[tokio::test]
async fn each_target_shows_its_own_certificate_on_connections_of_its_own() {
    let authority = Authority::new();
    let shown: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let sink = sink(authority.asking_acceptor(), shown.clone()).await;
    let client = client();
    let one = own("1", Some(&authority), Some(authority.client("one.example")));
    let two = own("2", Some(&authority), Some(authority.client("two.example")));
    for tls in [&one, &two, &one, &two] {
        assert_eq!(post(&client, &sink, Some(tls)).await, Ok(200));
    }
    {
        let shown = shown.lock().unwrap();
        assert_eq!(shown.len(), 4);
        assert!(!shown[0].is_empty() && shown[0] != shown[1]);
        assert_eq!((&shown[0], &shown[1]), (&shown[2], &shown[3]));
    }
    assert_eq!(sink.accepted(), 2, "each has a connection, and uses it again");
    // Without a certificate, or with one of somebody else, the target hangs up.
    let none = own("3", Some(&authority), None);
    assert!(post(&client, &sink, Some(&none)).await.is_err());
    let stranger = own(
        "4",
        Some(&authority),
        Some(Authority::new().client("one.example")),
    );
    assert!(post(&client, &sink, Some(&stranger)).await.is_err());
    assert_eq!(shown.lock().unwrap().len(), 4);
}
