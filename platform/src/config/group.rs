//! What the settings of a group's member must be to each other.
//!
//! librdkafka finds some of it when it starts, and names its own properties; the rest shows at the first
//! rebalance, or at the first kill.

use super::error::ConfigError;
use super::keys::{Config, GroupProtocol, Kafka, LogKind};
use crate::event_log::kafka::DRAIN;
use std::time::Duration;

/// Properties that have a key of their own, and that key.
const OWN_KEYS: [(&str, &str); 5] = [
    ("bootstrap.servers", "kafka.brokers"),
    ("metadata.broker.list", "kafka.brokers"),
    ("group.id", "kafka.group"),
    ("group.instance.id", "kafka.instance"),
    ("group.protocol", "kafka.protocol"),
];

/// Properties that must be as they are, and what happens otherwise.
const FIXED: [(&str, &str, &str); 2] = [
    (
        "enable.auto.offset.store",
        "false",
        "offsets would be stored before deliveries are in the queue, and a kill would lose events",
    ),
    (
        "enable.auto.commit",
        "true",
        "no offset would ever be committed, and each start would read everything again",
    ),
];

/// What the brokers decide by their own protocol: the property, and what stands in its place.
const BROKERS: [(&str, &str); 4] = [
    (
        "session.timeout.ms",
        "set group.consumer.session.timeout.ms at the brokers",
    ),
    (
        "heartbeat.interval.ms",
        "set group.consumer.heartbeat.interval.ms at the brokers",
    ),
    (
        "partition.assignment.strategy",
        "set \"group.remote.assignor\", to \"uniform\" or \"range\"",
    ),
    ("group.protocol.type", "leave it out"),
];

/// How long a process may take to come back: a static member should not be missed for less.
const RESTART: Duration = Duration::from_secs(10);

/// An interval between commits above which a kill repeats much.
const LONG_COMMIT: u64 = 5_000;

fn refuse(property: &str, value: &str, why: &str) -> ConfigError {
    let message = format!("\"{property}\" = \"{value}\": {why}");
    ConfigError::new("kafka.properties", message)
}

/// A duration as librdkafka wants it, for messages.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Kafka {
    /// A property in milliseconds, or librdkafka's default.
    fn millis(&self, property: &str, default: u64) -> Result<u64, ConfigError> {
        match self.properties.get(property) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| {
                let why = format!("must be a whole number of milliseconds, such as \"{default}\"");
                refuse(property, value, &why)
            }),
        }
    }

    fn session(&self) -> Result<u64, ConfigError> {
        self.millis("session.timeout.ms", 45_000)
    }

    fn heartbeat(&self) -> Result<u64, ConfigError> {
        self.millis("heartbeat.interval.ms", 3_000)
    }

    fn commit(&self) -> Result<u64, ConfigError> {
        self.millis("auto.commit.interval.ms", 200)
    }

    /// Refuses what cannot work.
    pub(super) fn check_group(&self) -> Result<(), ConfigError> {
        let properties = &self.properties;
        for (property, key) in OWN_KEYS {
            if let Some(value) = properties.get(property) {
                return Err(refuse(property, value, &format!("set {key} in its place")));
            }
        }
        for (property, needed, otherwise) in FIXED {
            if let Some(value) = properties.get(property)
                && value != needed
            {
                let why = format!("must be \"{needed}\", or be left out: {otherwise}");
                return Err(refuse(property, value, &why));
            }
        }
        if let Some(instance) = &self.instance {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if !(1..=249).contains(&instance.len()) || !instance.bytes().all(valid) {
                let message =
                    format!("\"{instance}\" is not 1 to 249 characters of A-Z, a-z, 0-9, '.', '_' and '-'");
                return Err(ConfigError::new("kafka.instance", message));
            }
        }
        let (session, heartbeat, commit) = (self.session()?, self.heartbeat()?, self.commit()?);
        let poll = self.millis("max.poll.interval.ms", 300_000)?;
        match self.protocol {
            GroupProtocol::Consumer => {
                for (property, instead) in BROKERS {
                    if let Some(value) = properties.get(property) {
                        let why = format!("is not taken with kafka.protocol = \"consumer\": {instead}");
                        return Err(refuse(property, value, &why));
                    }
                }
            }
            GroupProtocol::Classic => {
                if let Some(value) = properties.get("group.remote.assignor") {
                    let why = "is taken with kafka.protocol = \"consumer\" only";
                    return Err(refuse("group.remote.assignor", value, why));
                }
                if heartbeat >= session {
                    let why = format!(
                        "must be less than \"session.timeout.ms\", which is {session}: at most {}",
                        session / 3
                    );
                    return Err(refuse("heartbeat.interval.ms", &heartbeat.to_string(), &why));
                }
                if poll < session {
                    let why = format!("must be at least \"session.timeout.ms\", which is {session}");
                    return Err(refuse("max.poll.interval.ms", &poll.to_string(), &why));
                }
            }
        }
        if poll <= ms(DRAIN) {
            let why = format!(
                "must be more than {}, which a rebalance may wait for work to be finished: the member would be thrown out meanwhile",
                ms(DRAIN)
            );
            return Err(refuse("max.poll.interval.ms", &poll.to_string(), &why));
        }
        if commit == 0 {
            let why = "no offset would be committed before the end; leave it out for \"200\"";
            return Err(refuse("auto.commit.interval.ms", "0", why));
        }
        Ok(())
    }

    /// What works, but not as it was probably meant.
    fn doubts(&self) -> Result<Vec<ConfigError>, ConfigError> {
        let mut doubts = Vec::new();
        let (session, heartbeat, commit) = (self.session()?, self.heartbeat()?, self.commit()?);
        if commit > LONG_COMMIT {
            let why = "a kill repeats what was finished in that time; 200 is the default";
            doubts.push(refuse("auto.commit.interval.ms", &commit.to_string(), why));
        }
        match self.protocol {
            GroupProtocol::Classic => {
                if heartbeat > session / 3 {
                    let why = format!(
                        "is more than a third of \"session.timeout.ms\" ({session}): two lost heartbeats take the partitions away; at most {}",
                        session / 3
                    );
                    doubts.push(refuse("heartbeat.interval.ms", &heartbeat.to_string(), &why));
                }
                if let Some(strategy) = self.properties.get("partition.assignment.strategy")
                    && strategy != "cooperative-sticky"
                {
                    let why = "each rebalance takes all partitions from all members; \"cooperative-sticky\", the default, only those that move";
                    doubts.push(refuse("partition.assignment.strategy", strategy, why));
                }
                if let Some(instance) = &self.instance
                    && session < ms(RESTART)
                {
                    let message = format!(
                        "\"{instance}\" is to be back within \"session.timeout.ms\", which is {session}: at least {} for a restart",
                        ms(RESTART)
                    );
                    doubts.push(ConfigError::new("kafka.instance", message));
                }
            }
            GroupProtocol::Consumer => {
                if let Some(instance) = &self.instance {
                    let message = format!(
                        "\"{instance}\": with kafka.protocol = \"consumer\" the brokers refuse a successor of one that was killed until its session is over \
                         (group.consumer.session.timeout.ms at the brokers, 45 s by default); it exits with 70 until then"
                    );
                    doubts.push(ConfigError::new("kafka.instance", message));
                }
            }
        }
        Ok(doubts)
    }
}

impl Config {
    /// What is allowed and works, but probably not as it was meant: key, value, and what would be right.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigError> {
        let mut warnings = self.egress_warnings();
        if self.events.log != LogKind::Kafka {
            return warnings;
        }
        // What is wrong was refused before.
        warnings.extend(self.kafka.doubts().unwrap_or_default());
        let grace = self.shutdown.grace.0;
        if grace < DRAIN {
            let message = format!(
                "\"{}\" is less than the {} that a rebalance gives: records broken off at the end are read again",
                humantime::format_duration(grace),
                humantime::format_duration(DRAIN)
            );
            warnings.push(ConfigError::new("shutdown.grace", message));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(kafka: &str) -> Result<Config, String> {
        let flags = format!("events.log = \"kafka\"\n{kafka}");
        Config::load(None, "", &flags).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_work_together_is_refused_by_name_and_value() {
        let table = [
            (
                "kafka.instance = \"a b\"",
                "kafka.instance: \"a b\" is not 1 to 249",
            ),
            ("kafka.instance = \"\"", "kafka.instance: \"\" is not 1 to 249"),
            (
                "kafka.protocol = \"new\"",
                "kafka.protocol: \"new\" is not one of classic, consumer",
            ),
            (
                "kafka.properties = { \"group.id\" = \"a\" }",
                "kafka.properties: \"group.id\" = \"a\": set kafka.group",
            ),
            (
                "kafka.properties = { \"group.protocol\" = \"consumer\" }",
                "kafka.properties: \"group.protocol\" = \"consumer\": set kafka.protocol",
            ),
            (
                "kafka.properties = { \"enable.auto.offset.store\" = \"true\" }",
                "kafka.properties: \"enable.auto.offset.store\" = \"true\": must be \"false\"",
            ),
            (
                "kafka.properties = { \"enable.auto.commit\" = \"false\" }",
                "kafka.properties: \"enable.auto.commit\" = \"false\": must be \"true\"",
            ),
            (
                "kafka.properties = { \"session.timeout.ms\" = \"45s\" }",
                "kafka.properties: \"session.timeout.ms\" = \"45s\": must be a whole number of milliseconds",
            ),
            (
                "kafka = { protocol = \"consumer\", properties = { \"session.timeout.ms\" = \"9000\" } }",
                "kafka.properties: \"session.timeout.ms\" = \"9000\": is not taken with kafka.protocol",
            ),
            (
                "kafka = { protocol = \"consumer\", properties = { \"heartbeat.interval.ms\" = \"900\" } }",
                "kafka.properties: \"heartbeat.interval.ms\" = \"900\": is not taken with kafka.protocol",
            ),
            (
                "kafka = { protocol = \"consumer\", properties = { \"partition.assignment.strategy\" = \"range\" } }",
                "kafka.properties: \"partition.assignment.strategy\" = \"range\": is not taken",
            ),
            (
                "kafka.properties = { \"group.remote.assignor\" = \"range\" }",
                "kafka.properties: \"group.remote.assignor\" = \"range\": is taken with kafka.protocol = \"consumer\" only",
            ),
            (
                "kafka.properties = { \"heartbeat.interval.ms\" = \"45000\" }",
                "kafka.properties: \"heartbeat.interval.ms\" = \"45000\": must be less than \"session.timeout.ms\", which is 45000: at most 15000",
            ),
            (
                "kafka.properties = { \"session.timeout.ms\" = \"3000\" }",
                "kafka.properties: \"heartbeat.interval.ms\" = \"3000\": must be less than \"session.timeout.ms\", which is 3000: at most 1000",
            ),
            (
                "kafka.properties = { \"max.poll.interval.ms\" = \"30000\" }",
                "kafka.properties: \"max.poll.interval.ms\" = \"30000\": must be at least \"session.timeout.ms\", which is 45000",
            ),
            (
                "kafka.properties = { \"max.poll.interval.ms\" = \"5000\", \"session.timeout.ms\" = \"5000\", \"heartbeat.interval.ms\" = \"500\" }",
                "kafka.properties: \"max.poll.interval.ms\" = \"5000\": must be more than 5000",
            ),
            (
                "kafka = { protocol = \"consumer\", properties = { \"max.poll.interval.ms\" = \"4000\" } }",
                "kafka.properties: \"max.poll.interval.ms\" = \"4000\": must be more than 5000",
            ),
            (
                "kafka.properties = { \"auto.commit.interval.ms\" = \"0\" }",
                "kafka.properties: \"auto.commit.interval.ms\" = \"0\": no offset",
            ),
        ];
        for (flags, message) in table {
            let error = load(flags).map(|_| ()).unwrap_err();
            assert!(error.starts_with(message), "{flags}: {error}");
        }
    }

    #[test]
    fn what_works_otherwise_than_meant_is_warned_of() {
        let table: [(&str, &[&str]); 11] = [
            ("", &[]),
            ("kafka.instance = \"a\"", &[]),
            ("kafka.protocol = \"consumer\"", &[]),
            ("shutdown.grace = \"5s\"", &[]),
            (
                "shutdown.grace = \"4s\"",
                &["shutdown.grace: \"4s\" is less than the 5s"],
            ),
            (
                "kafka = { instance = \"a\", protocol = \"consumer\" }",
                &["kafka.instance: \"a\": with kafka.protocol"],
            ),
            (
                "kafka = { instance = \"a\", properties = { \"session.timeout.ms\" = \"9000\" } }",
                &["kafka.instance: \"a\" is to be back within \"session.timeout.ms\", which is 9000"],
            ),
            (
                "kafka.properties = { \"session.timeout.ms\" = \"6000\" }",
                &[
                    "kafka.properties: \"heartbeat.interval.ms\" = \"3000\": is more than a third of \"session.timeout.ms\" (6000)",
                ],
            ),
            (
                "kafka.properties = { \"partition.assignment.strategy\" = \"range\" }",
                &["kafka.properties: \"partition.assignment.strategy\" = \"range\": each rebalance"],
            ),
            (
                "kafka.properties = { \"partition.assignment.strategy\" = \"cooperative-sticky\", \"auto.commit.interval.ms\" = \"5000\" }",
                &[],
            ),
            (
                "kafka.properties = { \"auto.commit.interval.ms\" = \"60000\" }",
                &["kafka.properties: \"auto.commit.interval.ms\" = \"60000\": a kill repeats"],
            ),
        ];
        for (flags, expected) in table {
            let warnings = load(flags).unwrap().warnings();
            let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(texts.len(), expected.len(), "{flags}: {texts:?}");
            for (text, start) in texts.iter().zip(expected) {
                assert!(text.starts_with(start), "{flags}: {text}");
            }
        }
    }

    #[test]
    fn the_embedded_log_has_no_group_to_warn_of() {
        let config = Config::load(None, "", "shutdown.grace = \"1s\"").unwrap();
        assert_eq!(config.warnings(), []);
    }
}
