//! What a mail says, a real server that takes it, and one that does not.

use super::*;
use platform::catalog::News;
use schemas::ids::{TargetId, Tenant};
use schemas::time::Millis;
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

fn one(kind: NoticeKind, times: u32, reason: &str) -> News {
    News {
        kind,
        times,
        first_at: Millis(1_767_225_599_123),
        last_at: Millis(1_767_311_999_123),
        reason: reason.to_owned(),
        published: true,
    }
}

fn news(news: Vec<News>) -> TargetNews {
    TargetNews {
        target: TargetId(42),
        tenant: Tenant::new("acme").unwrap(),
        url: "https://user:pw@example.com/hooks/SECRET?token=SECRET".to_owned(),
        description: Some("the\r\norder desk".to_owned()),
        contact: Some("ops@example.com".to_owned()),
        mailed_at: None,
        news,
    }
}

#[test]
fn one_mail_tells_all_and_nothing_secret() {
    let letter = letter(&news(vec![
        one(NoticeKind::Exhausted, 3, "http_503"),
        one(NoticeKind::Disabled, 1, "the target answered 410 Gone"),
    ]));
    assert_eq!(
        letter.subject,
        "Webhook target 42: is disabled, 3 deliveries given up"
    );
    assert_eq!(
        letter.body,
        "Webhook target 42 (https://example.com), \"the  order desk\":\n\n\
         It was disabled at 2026-01-01T23:59:59.123Z: the target answered 410 Gone.\n\
         It gets no deliveries until it is enabled again; those that wait for it are canceled.\n\n\
         3 deliveries were given up between 2025-12-31T23:59:59.123Z and 2026-01-01T23:59:59.123Z, the last \
         with http_503.\nThey are listed as exhausted.\n\n\
         Tenant acme. You get this because you are the target's contact.\n"
    );
    let letter = super::letter(&news(vec![one(NoticeKind::Failing, 1, "timeout")]));
    assert_eq!(letter.subject, "Webhook target 42: keeps failing");
    assert!(!letter.body.contains("SECRET") && !letter.body.contains("pw"));
}

fn server(port: u16) -> MailServer {
    MailServer {
        host: "127.0.0.1".to_owned(),
        port,
        tls: MailTls::Offered,
        credentials: None,
    }
}

/// The mail in the real server's folder that is to this address.
fn mail_to(address: &str) -> Vec<String> {
    let folder = PathBuf::from(std::env::var("WORLD_SMTP_MAILDIR").unwrap()).join("new");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let all = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    all.filter(|mail| mail.contains(address)).collect()
}

#[tokio::test]
async fn a_real_server_takes_it() {
    let port = std::env::var("WORLD_SMTP_PORT").expect("set by `make test`, which brings the world up");
    let mailer = Mailer::new(&server(port.parse().unwrap()), "webhooks@example.com").unwrap();
    let contact = format!("ops-{}-{:p}@example.com", std::process::id(), &port);
    let letter = news(vec![one(NoticeKind::Exhausted, 1, "http_503")]);
    mailer.send(&contact, &letter).await.unwrap();
    let mail = mail_to(&contact);
    assert_eq!(mail.len(), 1);
    for part in [
        "Subject: Webhook target 42: 1 delivery given up",
        "Auto-Submitted: auto-generated",
        "Message-ID: <",
        "1 delivery was given up between",
    ] {
        assert!(mail[0].contains(part), "{part}: {}", mail[0]);
    }
}

/// A server that answers `RCPT TO` so, once.
async fn answering(rcpt: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let (from, mut to) = socket.into_split();
        to.write_all(b"220 ready\r\n").await.unwrap();
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match line.split(' ').next().unwrap_or_default() {
                "RCPT" => rcpt,
                "QUIT" => return,
                _ => "250 fine",
            };
            if to.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    port
}

#[tokio::test]
async fn what_will_never_be_taken_is_told_from_what_may_be_later() {
    let letter = news(vec![one(NoticeKind::Failing, 1, "timeout")]);
    let send = async |port, contact: &str| {
        let mailer = Mailer::new(&server(port), "webhooks@example.com").unwrap();
        mailer.send(contact, &letter).await.unwrap_err()
    };
    let refused = send(answering("550 no such user").await, "ops@example.com").await;
    assert_eq!(
        refused,
        MailError::Refused("the mail server answered 550".to_owned())
    );
    let later = send(
        answering("451 ops@example.com is greylisted").await,
        "ops@example.com",
    )
    .await;
    assert_eq!(later, MailError::Later("the mail server answered 451".to_owned()));
    let unpaid = send(answering("530 log in first").await, "ops@example.com").await;
    assert_eq!(unpaid, MailError::Away("the mail server answered 530".to_owned()));
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    assert!(matches!(send(port, "ops@example.com").await, MailError::Away(_)));
    let wrong = send(port, "not an address").await;
    assert!(matches!(wrong, MailError::Refused(_)), "{wrong:?}");
}

#[tokio::test]
async fn a_password_is_not_sent_where_it_could_be_read() {
    let port = answering("250 fine").await;
    let mailer = Mailer::new(
        &MailServer {
            tls: MailTls::Required,
            credentials: Some(("me".to_owned(), "hush".to_owned())),
            ..server(port)
        },
        "webhooks@example.com",
    )
    .unwrap();
    let letter = news(vec![one(NoticeKind::Failing, 1, "timeout")]);
    let error = mailer.send("ops@example.com", &letter).await.unwrap_err();
    assert!(matches!(error, MailError::Away(_)), "{error:?}");
}
