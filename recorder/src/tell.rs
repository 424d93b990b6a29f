//! Telling owners of targets: operational events, and mail to a target's contact.
//!
//! What is to be told lies in the database since it happened, and goes when it is told: killed between,
//! it is told twice. Nothing waits for it. An event is put into the log first, and stays to be told until
//! the log has it. Mail comes once an hour for each target, with all its news; while the mail server is
//! away it is tried again for six hours, and then dropped and counted.

use crate::mail::{MailError, Mailer};
use platform::announce::Announcer;
use platform::catalog::{Catalog, CatalogError, News, NoticeKind, TargetNews};
use platform::clock::Clock;
use platform::telemetry::{Outage, names};
use schemas::ids::TargetId;
use schemas::notice::Notice;
use schemas::time::Millis;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often news of other processes are looked for.
const LOOK: Duration = Duration::from_secs(10);
/// Targets told of in one go.
const AT_ONCE: u32 = 50;
/// How long a claim lasts: longer than an append and a mail take.
const LEASE: Duration = Duration::from_secs(120);
/// How long an append may take.
const APPEND: Duration = Duration::from_secs(30);
/// A target's contact is not written to more often.
const MAIL_PAUSE: Duration = Duration::from_secs(3600);
/// How long what could not be told waits.
const AGAIN: Duration = Duration::from_secs(60);
/// How long a mail is tried after the last of its news.
const MAIL_PATIENCE: Duration = Duration::from_secs(6 * 3600);

static NEWS: Outage = Outage::new("catalog (news of targets)");
static EVENTS: Outage = Outage::new("event log (operational events)");
static MAIL: Outage = Outage::new("mail server");

/// Tells.
pub struct Teller {
    /// Where news lie.
    pub catalog: Catalog,
    /// Where events go, if there is a topic that takes them.
    pub announcer: Option<Announcer>,
    /// Who sends mail, if anybody.
    pub mailer: Option<Mailer>,
    /// The time.
    pub clock: Clock,
}

/// What to do about mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mail {
    /// Nobody to write to, or nobody to write.
    Nobody,
    /// Not before then.
    Not(Millis),
    /// Now.
    Now,
}

impl Teller {
    /// Tells until `shutdown`; looks at once when woken.
    pub async fn run(self, wake: Arc<Notify>, shutdown: CancellationToken) {
        loop {
            // What is left half-way is claimed for a while, and told again after that.
            tokio::select! {
                () = shutdown.cancelled() => return,
                told = self.round() => match told {
                    Ok(()) => NEWS.works(),
                    Err(error) => NEWS.failed(&error),
                },
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Tells what is due.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn round(&self) -> Result<(), CatalogError> {
        // Once away, it is away for all of this round.
        let mut server_away = false;
        loop {
            let due = self.catalog.due_news(AT_ONCE).await?;
            for target in &due {
                self.target(*target, &mut server_away).await?;
            }
            if due.len() < AT_ONCE as usize {
                return Ok(());
            }
        }
    }

    async fn target(&self, target: TargetId, server_away: &mut bool) -> Result<(), CatalogError> {
        let Some(claimed) = self.catalog.claim_news(target, LEASE).await? else {
            return Ok(());
        };
        if !self.publish(&claimed).await? {
            return self
                .catalog
                .postpone_news(target, self.clock.now().plus(AGAIN))
                .await;
        }
        let now = self.clock.now();
        let (mailer, contact) = match (mail(&claimed, self.mailer.is_some(), now), &self.mailer) {
            (Mail::Now, Some(mailer)) => (mailer, claimed.contact.as_deref().unwrap_or_default()),
            (Mail::Not(until), _) => return self.catalog.postpone_news(target, until).await,
            (Mail::Nobody | Mail::Now, _) => return self.catalog.news_done(&claimed, None).await,
        };
        let sent = if *server_away {
            Err(MailError::Away("the mail server was away just now".to_owned()))
        } else {
            mailer.send(contact, &claimed).await
        };
        match sent {
            Ok(()) => {
                MAIL.works();
                metrics::counter!(names::MAILS, "outcome" => "sent").increment(1);
                self.catalog.news_done(&claimed, Some(now)).await
            }
            Err(MailError::Away(why)) if !is_old(&claimed, now) => {
                *server_away = true;
                MAIL.failed(&why);
                self.catalog.postpone_news(target, now.plus(AGAIN)).await
            }
            // One mail that is not taken keeps none of the others back.
            Err(MailError::Later(_)) if !is_old(&claimed, now) => {
                self.catalog.postpone_news(target, now.plus(AGAIN)).await
            }
            Err(MailError::Away(why) | MailError::Later(why) | MailError::Refused(why)) => {
                tracing::warn!(%target, %why, "mail to the target's contact dropped");
                metrics::counter!(names::MAILS, "outcome" => "dropped").increment(1);
                self.catalog.news_done(&claimed, None).await
            }
        }
    }

    /// Publishes what is not published yet. Answers whether all is.
    async fn publish(&self, claimed: &TargetNews) -> Result<bool, CatalogError> {
        for news in claimed.news.iter().filter(|news| !news.published) {
            let (Some(announcer), Some(notice)) = (&self.announcer, notice(claimed.target, news)) else {
                continue;
            };
            let published = tokio::time::timeout(APPEND, announcer.publish(&claimed.tenant, &notice)).await;
            match published {
                Ok(Ok(())) => EVENTS.works(),
                Ok(Err(error)) => {
                    EVENTS.failed(&error);
                    return Ok(false);
                }
                Err(_) => {
                    EVENTS.failed(&format!("no answer within {APPEND:?}"));
                    return Ok(false);
                }
            }
            self.catalog.news_published(claimed.target, news).await?;
        }
        Ok(true)
    }
}

/// The operational event of news; those of deliveries given up are published by who gave up.
fn notice(target: TargetId, news: &News) -> Option<Notice> {
    let reason = news.reason.clone();
    match news.kind {
        NoticeKind::Exhausted => None,
        NoticeKind::Failing => Some(Notice::Failing {
            target,
            since: news.first_at,
            reason,
        }),
        NoticeKind::Disabled => Some(Notice::Disabled {
            target,
            at: news.first_at,
            reason,
        }),
    }
}

fn mail(claimed: &TargetNews, there_is_a_mailer: bool, now: Millis) -> Mail {
    if !there_is_a_mailer || claimed.contact.is_none() {
        return Mail::Nobody;
    }
    match claimed.mailed_at.map(|at| at.plus(MAIL_PAUSE)) {
        Some(next) if next > now => Mail::Not(next),
        Some(_) | None => Mail::Now,
    }
}

/// Whether the last of these news is too old to be written of any more.
fn is_old(claimed: &TargetNews, now: Millis) -> bool {
    let last = claimed.news.iter().map(|news| news.last_at).max();
    last.is_none_or(|last| now.since(last) > MAIL_PATIENCE)
}

#[cfg(test)]
mod tests;
