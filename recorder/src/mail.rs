//! Mail to a target's contact.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use platform::catalog::{NoticeKind, TargetNews};
use platform::config::{MailServer, MailTls};
use std::fmt::Write as _;
use std::time::Duration;

/// How long the server may take for each step of taking a mail.
const STEP: Duration = Duration::from_secs(10);
/// How long it may take for all of them.
const WHOLE: Duration = Duration::from_secs(30);

/// Why a mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The server cannot be used now, for any mail.
    #[error("{0}")]
    Away(String),
    /// The server does not take this mail now.
    #[error("{0}")]
    Later(String),
    /// It will never be taken.
    #[error("{0}")]
    Refused(String),
}

/// Sends mail through one server.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
}

impl Mailer {
    /// A mailer. Calls nothing yet.
    ///
    /// # Errors
    /// When `from` is no address, or the system's certificates cannot be read.
    pub fn new(server: &MailServer, from: &str) -> Result<Self, MailError> {
        let from: Address = from
            .parse()
            .map_err(|_| MailError::Refused("mail.from is no address".to_owned()))?;
        let parameters = || {
            TlsParameters::new(server.host.clone())
                .map_err(|_| MailError::Refused("no TLS for the mail server".to_owned()))
        };
        let tls = match server.tls {
            MailTls::Always => Tls::Wrapper(parameters()?),
            MailTls::Required => Tls::Required(parameters()?),
            MailTls::Offered => Tls::Opportunistic(parameters()?),
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .tls(tls)
            .timeout(Some(STEP))
            .hello_name(ClientId::Domain(from.domain().to_owned()));
        let builder = match &server.credentials {
            Some((user, password)) => builder.credentials(Credentials::new(user.clone(), password.clone())),
            None => builder,
        };
        Ok(Self {
            transport: builder.build(),
            from,
        })
    }

    /// Writes to a target's contact; answers once the server has taken the mail.
    ///
    /// # Errors
    /// [`MailError`], without the contact's address.
    pub async fn send(&self, to: &str, news: &TargetNews) -> Result<(), MailError> {
        let refused = |what: &str| MailError::Refused(what.to_owned());
        let to: Address = to
            .parse()
            .map_err(|_| refused("the contact is no address that mail takes"))?;
        let letter = letter(news);
        // RFC 3834: answered by no machine.
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        let message = Message::builder()
            .from(Mailbox::new(Some("hookwright".to_owned()), self.from.clone()))
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .message_id(None)
            .raw_header(automatic)
            .header(ContentType::TEXT_PLAIN)
            .body(letter.body)
            .map_err(|_| refused("the mail cannot be written"))?;
        match tokio::time::timeout(WHOLE, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(sort(&error)),
            Err(_) => Err(MailError::Away(format!("no answer within {WHOLE:?}"))),
        }
    }
}

/// Sorts an error; its text may name the contact, and stays out.
fn sort(error: &lettre::transport::smtp::Error) -> MailError {
    match error.status().map(|status| status.to_string()) {
        Some(status) => {
            let answered = format!("the mail server answered {status}");
            match &*status {
                // It closes, or something is wrong with the user or password, which is mended.
                "421" | "454" | "530" | "534" | "535" | "538" => MailError::Away(answered),
                _ if error.is_permanent() => MailError::Refused(answered),
                _ => MailError::Later(answered),
            }
        }
        None if error.is_tls() => MailError::Away("no TLS session with the mail server".to_owned()),
        None if error.is_client() => {
            MailError::Away("the mail server does not offer what is needed".to_owned())
        }
        None => MailError::Away("the mail server cannot be reached, or broke off".to_owned()),
    }
}

/// What a mail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
}

/// The mail about a target: all its news in one. Of the address only scheme and host: what is behind them
/// may be a secret.
#[must_use]
pub fn letter(news: &TargetNews) -> Letter {
    let target = news.target;
    let told = |kind| news.news.iter().find(|one| one.kind == kind);
    let mut body = format!("Webhook target {target} ({})", place(&news.url));
    if let Some(description) = news.description.as_deref().filter(|text| !text.is_empty()) {
        let _ = write!(body, ", \"{}\"", one_line(description));
    }
    body.push_str(":\n\n");
    let mut subjects = Vec::new();
    if let Some(one) = told(NoticeKind::Disabled) {
        subjects.push("is disabled".to_owned());
        let _ = write!(
            body,
            "It was disabled at {}: {}.\nIt gets no deliveries until it is enabled again; those that wait for \
             it are canceled.\n\n",
            one.last_at.to_rfc3339(),
            one_line(&one.reason)
        );
    }
    if let Some(one) = told(NoticeKind::Failing) {
        subjects.push("keeps failing".to_owned());
        let _ = write!(
            body,
            "Every attempt since {} has failed, the last with {}.\nIf that goes on, it will be disabled.\n\n",
            one.first_at.to_rfc3339(),
            one_line(&one.reason)
        );
    }
    if let Some(one) = told(NoticeKind::Exhausted) {
        let (count, were) = match one.times {
            1 => ("1 delivery".to_owned(), "was"),
            times => (format!("{times} deliveries"), "were"),
        };
        subjects.push(format!("{count} given up"));
        let _ = write!(
            body,
            "{count} {were} given up between {} and {}, the last with {}.\nThey are listed as exhausted.\n\n",
            one.first_at.to_rfc3339(),
            one.last_at.to_rfc3339(),
            one_line(&one.reason)
        );
    }
    let _ = writeln!(
        body,
        "Tenant {}. You get this because you are the target's contact.",
        news.tenant
    );
    Letter {
        subject: format!("Webhook target {target}: {}", subjects.join(", ")),
        body,
    }
}

/// `https://example.com` of `https://example.com/hooks?key=…`.
fn place(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests;
