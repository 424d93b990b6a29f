//! `[mail]`: the server that takes mail to targets' contacts, and its address as a URL.

use super::error::ConfigError;
use serde::Deserialize;
use std::fmt;
use url::Url;

/// `[mail]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Mail {
    pub smtp: Option<String>,
    pub from: Option<String>,
}

/// When a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// From its beginning.
    Always,
    /// By `STARTTLS`, or it is not used.
    Required,
    /// By `STARTTLS` where the server offers it.
    Offered,
}

/// A mail server.
#[derive(Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether what goes there can be read on the way. A password never can.
    pub tls: MailTls,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

impl Mail {
    /// What must hold beyond each key's own form.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, message: &str| Err(ConfigError::new(key, message.to_owned()));
        if self.smtp.is_some() != self.from.is_some() {
            return fail("mail", "needs both mail.smtp and mail.from, or neither");
        }
        // Not shown: it may hold a password.
        if self.smtp.is_some() && self.server().is_none() {
            return fail(
                "mail.smtp",
                "is not the address of a mail server, such as \"smtp://127.0.0.1:25\" or \"smtps://user:password@host:465\"",
            );
        }
        let is_address = |text: &String| {
            text.split_once('@')
                .is_some_and(|(who, host)| !who.is_empty() && !host.is_empty() && !host.contains('@'))
                && !text.contains(|c: char| c.is_control() || c.is_whitespace() || "<>,;\"".contains(c))
        };
        if !self.from.as_ref().is_none_or(is_address) {
            return fail(
                "mail.from",
                "is not an e-mail address such as \"webhooks@example.com\"",
            );
        }
        Ok(())
    }

    /// The server, if there is one and its address is one.
    #[must_use]
    pub fn server(&self) -> Option<MailServer> {
        let url = Url::parse(self.smtp.as_ref()?).ok()?;
        let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let host = url
            .host_str()
            .filter(|host| !host.is_empty() && plain)?
            .to_owned();
        // An address of version 6 stands in brackets in a URL alone.
        let host = host.trim_matches(['[', ']']).to_owned();
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => Some((decoded(user)?, decoded(password)?)),
            (_, _) => return None,
        };
        let (tls, port) = match (url.scheme(), &credentials) {
            ("smtps", _) => (MailTls::Always, 465),
            ("smtp", Some(_)) => (MailTls::Required, 587),
            ("smtp", None) => (MailTls::Offered, 25),
            (_, _) => return None,
        };
        Some(MailServer {
            host,
            port: url.port().unwrap_or(port),
            tls,
            credentials,
        })
    }
}

/// Text of a URL without its percent signs.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

// What holds a password shows nothing of it.

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn server(smtp: &str) -> Option<MailServer> {
        let mail = Mail {
            smtp: Some(smtp.to_owned()),
            from: None,
        };
        mail.server()
    }

    #[test]
    fn an_address_says_host_port_encryption_and_credentials() {
        let table = [
            ("smtp://mail", "mail", 25, MailTls::Offered, None),
            ("smtp://127.0.0.1:2525", "127.0.0.1", 2525, MailTls::Offered, None),
            ("smtp://[::1]:2525/", "::1", 2525, MailTls::Offered, None),
            ("smtps://mail", "mail", 465, MailTls::Always, None),
            (
                "smtp://me:x@mail",
                "mail",
                587,
                MailTls::Required,
                Some(("me", "x")),
            ),
            (
                "smtps://me%40host:p%2Fa%3As@mail:10465",
                "mail",
                10_465,
                MailTls::Always,
                Some(("me@host", "p/a:s")),
            ),
        ];
        for (address, host, port, tls, credentials) in table {
            let found = server(address).expect(address);
            assert_eq!((found.host.as_str(), found.port, found.tls), (host, port, tls));
            let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(found.credentials, credentials, "{address}");
        }
        for wrong in [
            "mail:25",
            "http://mail",
            "smtp://",
            "smtp://me@mail",
            "smtp://:secret@mail",
            "smtp://mail/path",
            "smtp://mail?tls=none",
            "smtp://a:%zz@mail",
        ] {
            assert_eq!(server(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let load = |flags: &str| Config::load(None, "", flags).map_err(|error| error.to_string());
        let both = "mail = { smtp = \"smtp://me:hush@mail\", from = \"a@example.com\" }";
        let config = load(both).unwrap();
        assert!(!format!("{config:?} {:?}", config.mail.server()).contains("hush"));
        for (flags, message) in [
            ("mail.from = \"a@b\"", "mail: needs both"),
            (
                "mail = { smtp = \"http://me:hush@mail\", from = \"a@b\" }",
                "mail.smtp: is not the address",
            ),
            (
                "mail = { smtp = \"smtp://mail\", from = \"Us <a@b>\" }",
                "mail.from: is not an e-mail address",
            ),
        ] {
            let error = load(flags).unwrap_err();
            assert!(error.starts_with(message) && !error.contains("hush"), "{error}");
        }
    }
}
