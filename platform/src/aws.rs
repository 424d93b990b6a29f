//! What SQS and S3 share: credentials, region, endpoint, HTTP client, and their errors in words.
//!
//! The configuration is loaded once per process, since only clients of one `SdkConfig` share its
//! credentials cache.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use std::error::Error;
use std::time::Duration;

/// The region used with an endpoint of one's own when none is named: emulators do not care.
const EMULATOR_REGION: &str = "us-east-1";

/// How long an error's text from outside may be in ours, in characters.
const DETAIL_LIMIT: usize = 300;

/// What the configuration says about AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// An endpoint other than AWS's, such as `http://127.0.0.1:4566`; wins over `AWS_ENDPOINT_URL`,
    /// `AWS_ENDPOINT_URL_SQS` and `AWS_ENDPOINT_URL_S3`.
    pub endpoint: Option<String>,
    /// The region; wins over `AWS_REGION` and the profile.
    pub region: Option<String>,
}

/// Loads credentials, region and endpoint as every AWS tool does: these settings, then the
/// environment, the profile, the container or the instance. Calls nothing but a metadata service.
///
/// Credentials are not fetched yet; a call that finds none says so.
pub async fn load(settings: &AwsSettings) -> SdkConfig {
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    // The SDK sets a connect timeout only: without the others a stuck connection holds a call for
    // good. Three attempts within the operation's time; callers retry above that, since the SDK's
    // retry budget is shared by all clients of a service and runs dry in an outage.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(10))
        .operation_timeout(Duration::from_secs(20))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(client)
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(100)))
        .timeout_config(timeouts);
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let region = match (&settings.region, &settings.endpoint) {
        (Some(region), _) => Some(region.clone()),
        // Asking the instance for its region takes seconds where there is no instance.
        (None, Some(_)) if std::env::var_os("AWS_REGION").is_none() => Some(EMULATOR_REGION.to_owned()),
        (None, _) => None,
    };
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    loader.load().await
}

/// Where calls of a service go, for error messages: the endpoint, or AWS and the region.
#[must_use]
pub(crate) fn place(config: &SdkConfig, service: &str, variable: &str) -> String {
    // As the SDK does it: what is configured here, then the service's own variable, then the general.
    let configured = config.get_origin("endpoint_url").is_client_config();
    let of_service = std::env::var(variable).ok().filter(|_| !configured);
    match of_service.or_else(|| config.endpoint_url().map(str::to_owned)) {
        Some(endpoint) => endpoint,
        None => format!(
            "{service} in {}",
            config
                .region()
                .map_or("no region (set aws.region or AWS_REGION)", Region::as_ref)
        ),
    }
}

/// An error of a call in words a user can act on. Holds no payload and no secret: only codes,
/// messages of the service, and causes of the connection.
pub(crate) fn explain<E>(error: &SdkError<E, HttpResponse>, place: &str) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(code) = error.code() {
        return shortened(&format!(
            "{place}: {code}: {}",
            error.message().unwrap_or("no message")
        ));
    }
    if let SdkError::ServiceError(service) = error {
        return format!("{place} answered with status {}", service.raw().status().as_u16());
    }
    if matches!(error, SdkError::TimeoutError(_)) {
        return format!("no answer from {place} in time");
    }
    let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    if causes.iter().any(|cause| cause.is::<CredentialsError>()) {
        return format!(
            "no AWS credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or \
             run where a role gives them"
        );
    }
    if let Some(io) = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>())
    {
        return format!("cannot reach {place} ({})", crate::plain::io(io));
    }
    let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
    shortened(&format!("cannot call {place} ({})", causes.join(": ")))
}

/// At most so much of a text that came from outside.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_LIMIT).collect()
}
