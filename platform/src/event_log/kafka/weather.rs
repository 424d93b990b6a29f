//! librdkafka's log and errors, made fit to read: one warning when the brokers go away, one line
//! when they are back. Everything else it says is for whoever debugs it.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether the brokers can be reached, as far as one client knows.
#[derive(Debug, Default)]
pub(super) struct Weather {
    away: AtomicBool,
    /// Why a connection last failed.
    cause: Mutex<Option<String>>,
}

impl Weather {
    /// Notes that all brokers are away; says so once.
    fn away(&self, reason: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(reason, cause = self.cause(), "kafka brokers are away");
        }
    }

    /// Notes that a broker answered; says so if they were away.
    pub(super) fn back(&self) {
        // Read first: this runs for every batch, and a shared cache line is dear to write.
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("kafka brokers are back");
        }
    }

    /// Why a connection last failed, in a few words such as `connection refused`.
    pub(super) fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_cause(&self, reason: &str) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(core(reason));
    }

    /// An error librdkafka reports outside any call.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.away(reason),
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL,
            ) => {
                self.set_cause(reason);
                tracing::debug!(reason, "kafka connection failed");
            }
            _ => tracing::debug!(%error, reason, "kafka client reports"),
        }
    }

    /// A line of librdkafka's log.
    pub(super) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{line}");
            }
            // A line for each attempt to connect: the warning above says it once.
            RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
            | RDKafkaLogLevel::Notice
            | RDKafkaLogLevel::Info
            | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }
}

/// The heart of a line like `host:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection
/// refused (after 0ms in state CONNECT)`. For people to read only.
fn core(reason: &str) -> String {
    let end = reason.find(" (after").unwrap_or(reason.len());
    let start = reason[..end]
        .rfind("failed: ")
        .map_or(0, |at| at + "failed: ".len());
    let mut heart = reason[start..end].trim().to_owned();
    if let Some(first) = heart.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    heart
}

/// The context of clients that have no callbacks but these.
#[derive(Clone, Debug, Default)]
pub(super) struct Quiet(pub(super) Arc<Weather>);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Weather::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use super::core;

    #[test]
    fn a_failed_connection_is_told_in_a_few_words() {
        let line = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(core(line), "connection refused");
        assert_eq!(core("Something else"), "something else");
        assert_eq!(core(""), "");
    }
}
