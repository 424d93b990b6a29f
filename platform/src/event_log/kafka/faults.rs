//! librdkafka's errors as ours: what may pass, and what will not.

use super::LogError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error of a call as one of ours; `what` says what was tried.
pub(super) fn sort(what: &str, error: &KafkaError) -> LogError {
    // The error's own text would hold the property's value, which may be a password.
    if let KafkaError::ClientConfig(_, _, key, _) = error {
        return LogError::Refused(format!(
            "kafka.properties: \"{key}\" is unknown to librdkafka, or has a value it does not take"
        ));
    }
    let text = format!("{what}: {error}");
    match code(error) {
        Some(code) if is_refusal(code) => LogError::Refused(text),
        Some(_) | None => LogError::Unavailable(text),
    }
}

/// The code within an error; rdkafka's own accessor knows none for administration.
pub(super) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// Whether repeating the call cannot help.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::InvalidArgument
    )
}
