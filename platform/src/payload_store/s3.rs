//! The payload store in S3, one object per payload, written once.
//!
//! A put carries `If-None-Match: *`: several writers of one key cannot overwrite each other, and a
//! repeated put finds its own object instead of paying for the bytes again.

use super::{PayloadError, PayloadStore};
use crate::aws;
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
};
use bytes::{Bytes, BytesMut};
use schemas::delivery::PayloadPointer;
use schemas::ids::sha256_hex;
use std::time::{Duration, SystemTime};

/// The object metadata that holds the payload's SHA-256.
const SHA256: &str = "sha256";

/// How long an object lives; S3 rounds up to midnight.
#[allow(clippy::cast_possible_truncation, reason = "16")]
const EXPIRY_DAYS: i32 = (super::KEPT.as_secs() / (24 * 3600)) as i32;

/// The lifecycle rule that is ours; others in the bucket are left alone.
const EXPIRY_RULE: &str = "hookwright-payload-expiry";

/// Puts of one key at the same moment answer 409: as often it is tried again.
const PUT_ATTEMPTS: u32 = 5;

/// How long one get may take, its body included. The SDK's own timeouts end at the head.
const GET_TIMEOUT: Duration = Duration::from_secs(60);

/// Payloads as objects of one bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Where calls go, for messages.
    place: String,
    /// The region the bucket is created in.
    region: Option<String>,
}

impl S3Store {
    /// A store in `bucket`. Calls nothing yet.
    #[must_use]
    pub fn new(config: &SdkConfig, bucket: &str) -> Self {
        let own_endpoint =
            config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let s3 = aws_sdk_s3::config::Builder::from(config)
            // An endpoint of one's own seldom has a DNS name per bucket.
            .force_path_style(own_endpoint)
            // Length and SHA-256 are checked at each get; a CRC beside them costs a pass over the
            // bytes, and some S3 clones choke on it.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            client: Client::from_conf(s3),
            bucket: bucket.to_owned(),
            place: aws::place(config, "S3", "AWS_ENDPOINT_URL_S3"),
            region: config.region().map(ToString::to_string),
        }
    }

    /// An error of a call, as one that may pass.
    fn unavailable<E>(&self, error: &SdkError<E>) -> PayloadError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        PayloadError::Unavailable(match error.code() {
            Some("NoSuchBucket") => self.no_bucket(),
            Some(_) | None => aws::explain(error, &self.place),
        })
    }

    fn no_bucket(&self) -> String {
        format!(
            "bucket {} does not exist at {}; run hookwright provision",
            self.bucket, self.place
        )
    }

    /// What an object already under the key means: of the same payload the time it was put, where S3 says
    /// so; `None` that it has gone meanwhile.
    async fn compare(&self, pointer: &PayloadPointer) -> Result<Option<DateTime>, PayloadError> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(&pointer.key)
            .send()
            .await;
        match head {
            Ok(object) => {
                let size = object.content_length().and_then(|size| u64::try_from(size).ok());
                let sha256 = object.metadata().and_then(|metadata| metadata.get(SHA256));
                if size == Some(pointer.size) && sha256 == Some(&pointer.sha256) {
                    Ok(Some(
                        object.last_modified().copied().unwrap_or(DateTime::from_secs(0)),
                    ))
                } else {
                    Err(PayloadError::Damaged {
                        key: pointer.key.clone(),
                    })
                }
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// The body of an object of exactly the pointer's length.
    async fn fetch(&self, pointer: &PayloadPointer) -> Result<Bytes, PayloadError> {
        let damaged = || PayloadError::Damaged {
            key: pointer.key.clone(),
        };
        let object = match self
            .client
            .get_object()
            .bucket(&pointer.bucket)
            .key(&pointer.key)
            .send()
            .await
        {
            Ok(object) => object,
            Err(error) if error.code() == Some("NoSuchKey") => {
                return Err(PayloadError::Missing {
                    key: pointer.key.clone(),
                });
            }
            Err(error) => return Err(self.unavailable(&error)),
        };
        if object.content_length().and_then(|size| u64::try_from(size).ok()) != Some(pointer.size) {
            return Err(damaged());
        }
        let size = usize::try_from(pointer.size).map_err(|_| damaged())?;
        // The length is the store's word as well as the pointer's, so this allocates no more than
        // there is; the body is still not believed to keep it.
        let mut body = BytesMut::with_capacity(size);
        let mut stream = object.body;
        while let Some(chunk) = stream.try_next().await.map_err(|error| {
            PayloadError::Unavailable(aws::shortened(&format!(
                "{}: the body broke off: {error}",
                self.place
            )))
        })? {
            if body.len() + chunk.len() > size {
                return Err(damaged());
            }
            body.extend_from_slice(&chunk);
        }
        if sha256_hex(&body) == pointer.sha256 {
            Ok(body.freeze())
        } else {
            Err(damaged())
        }
    }

    /// Adds or renews our rule, keeping the rules of others.
    async fn set_expiry(&self) -> Result<(), PayloadError> {
        let present = self
            .client
            .get_bucket_lifecycle_configuration()
            .bucket(&self.bucket)
            .send()
            .await;
        let mut rules = match present {
            Ok(configuration) => configuration.rules.unwrap_or_default(),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Vec::new(),
            Err(error) => return Err(self.unavailable(&error)),
        };
        rules.retain(|rule| rule.id() != Some(EXPIRY_RULE));
        let ours = LifecycleRule::builder()
            .id(EXPIRY_RULE)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .expiration(LifecycleExpiration::builder().days(EXPIRY_DAYS).build())
            // In a versioned bucket the rule above only hides the object.
            .noncurrent_version_expiration(NoncurrentVersionExpiration::builder().noncurrent_days(1).build())
            .build()
            .map_err(|error| PayloadError::Unavailable(error.to_string()))?;
        rules.push(ours);
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .map_err(|error| PayloadError::Unavailable(error.to_string()))?;
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(&self.bucket)
            .lifecycle_configuration(configuration)
            .send()
            .await
            .map_err(|error| self.unavailable(&error))?;
        Ok(())
    }
}

#[async_trait]
impl PayloadStore for S3Store {
    async fn put(&self, key: &str, payload: Bytes) -> Result<PayloadPointer, PayloadError> {
        check_key(key)?;
        let pointer = PayloadPointer {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            size: payload.len() as u64,
            sha256: sha256_hex(&payload),
        };
        let mut last = None;
        // The same bytes over the same: its expiry counts from then on.
        let mut renew = false;
        for attempt in 0..PUT_ATTEMPTS {
            let put = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(key)
                .set_if_none_match((!renew).then(|| "*".to_owned()))
                .metadata(SHA256, &pointer.sha256)
                .body(ByteStream::from(payload.clone()))
                .send()
                .await;
            let error: SdkError<PutObjectError> = match put {
                Ok(_) => return Ok(pointer),
                Err(error) => error,
            };
            match status(&error) {
                Some(412) => {
                    if let Some(put_at) = self.compare(&pointer).await? {
                        if !is_old(&put_at, SystemTime::now()) {
                            return Ok(pointer);
                        }
                        renew = true;
                    }
                }
                // ConditionalRequestConflict: another put of this key is under way.
                Some(409) => tokio::time::sleep(Duration::from_millis(20 << attempt)).await,
                Some(_) | None => return Err(self.unavailable(&error)),
            }
            last = Some(error);
        }
        Err(last.map_or_else(
            || PayloadError::Unavailable(format!("{}: not tried", self.place)),
            |error| self.unavailable(&error),
        ))
    }

    async fn get(&self, pointer: &PayloadPointer) -> Result<Bytes, PayloadError> {
        match tokio::time::timeout(GET_TIMEOUT, self.fetch(pointer)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(PayloadError::Unavailable(format!(
                "{} did not send the payload within {} s",
                self.place,
                GET_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn delete(&self, pointer: &PayloadPointer) -> Result<(), PayloadError> {
        check_key(&pointer.key)?;
        let deleted = self
            .client
            .delete_object()
            .bucket(&pointer.bucket)
            .key(&pointer.key)
            .send()
            .await;
        deleted.map(drop).map_err(|error| self.unavailable(&error))
    }

    async fn provision(&self) -> Result<(), PayloadError> {
        let location = match self.region.as_deref() {
            // The one region that must not be named.
            None | Some("us-east-1") => None,
            Some(region) => Some(
                CreateBucketConfiguration::builder()
                    .location_constraint(BucketLocationConstraint::from(region))
                    .build(),
            ),
        };
        let created = self
            .client
            .create_bucket()
            .bucket(&self.bucket)
            .set_create_bucket_configuration(location)
            .send()
            .await;
        match created {
            Ok(_) => {}
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => {}
            Err(error) if error.code() == Some("BucketAlreadyExists") => {
                return Err(PayloadError::Unavailable(format!(
                    "bucket {} belongs to another account; choose another payloads.bucket",
                    self.bucket
                )));
            }
            Err(error) => return Err(self.unavailable(&error)),
        }
        self.set_expiry().await
    }

    async fn check(&self) -> Result<(), PayloadError> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(match status(&error) {
                Some(404) => PayloadError::Unavailable(self.no_bucket()),
                Some(403) => PayloadError::Unavailable(format!(
                    "no permission for bucket {} at {}",
                    self.bucket, self.place
                )),
                Some(_) | None => self.unavailable(&error),
            }),
        }
    }
}

/// Whether an object put then would expire too soon for what is sent now.
fn is_old(put_at: &DateTime, now: SystemTime) -> bool {
    let renewed = now.checked_sub(super::RENEWED).unwrap_or(SystemTime::UNIX_EPOCH);
    *put_at < DateTime::from(renewed)
}

/// The HTTP status of an answered call. `HEAD` has no body, and so no error code.
fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// The form of keys, the same as the directory's.
fn check_key(key: &str) -> Result<(), PayloadError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'.' | b'-');
    let plain = (1..=512).contains(&key.len())
        && key.bytes().all(allowed)
        && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !key.contains("..");
    if plain {
        Ok(())
    } else {
        Err(PayloadError::Unavailable(format!(
            "key \"{}\" is not 1 to 512 characters of A-Z, a-z, 0-9, '/', '_', '.' and '-' without \"..\" and empty parts",
            key.chars().take(80).collect::<String>()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KEPT, RENEWED};
    use super::*;
    use schemas::schedule::MAX_WINDOW;

    #[test]
    fn an_object_is_renewed_while_the_longest_window_is_left_of_it() {
        let now = SystemTime::now();
        let aged = |age: Duration| is_old(&DateTime::from(now - age), now);
        let hour = Duration::from_secs(3600);
        assert!(!aged(Duration::ZERO) && !aged(RENEWED - hour));
        assert!(aged(RENEWED + hour) && aged(KEPT));
        assert!(RENEWED + MAX_WINDOW < KEPT);
        assert!(is_old(&DateTime::from_secs(0), now));
    }
}
