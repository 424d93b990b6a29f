//! How far a reader is in each partition it has: what is finished, and how much there is.

use crate::event_log::{Partition, Record};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The partitions of one reader.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<HashMap<Partition, Place>>);

#[derive(Debug, Default)]
struct Place {
    /// Everything before this is finished: stored by the service, committed earlier, or before the
    /// first record of this assignment.
    finished: Option<i64>,
    /// Whether `finished` has yet to be given to librdkafka.
    unsaved: bool,
    /// The offset behind the last record known to be there.
    end: Option<i64>,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to follow partitions.
    pub(super) fn assigned(&self, partitions: &[Partition]) {
        let mut places = self.lock();
        for partition in partitions {
            places.insert(partition.clone(), Place::default());
        }
    }

    /// Ends following partitions.
    pub(super) fn revoked(&self, partitions: &[Partition]) {
        let mut places = self.lock();
        for partition in partitions {
            places.remove(partition);
        }
    }

    /// Notes that everything before `next_offset` is finished; ignored for other partitions, and
    /// where more is finished already.
    pub(super) fn store(&self, partition: &Partition, next_offset: i64) {
        if let Some(place) = self.lock().get_mut(partition)
            && place.finished < Some(next_offset)
        {
            place.finished = Some(next_offset);
            place.unsaved = true;
        }
    }

    /// Notes that a record came.
    pub(super) fn seen(&self, record: &Record) {
        let position = &record.position;
        if let Some(place) = self.lock().get_mut(&(position.topic.clone(), position.partition)) {
            place.finished.get_or_insert(position.offset);
            place.end = place.end.max(Some(position.offset + 1));
        }
    }

    /// Notes what librdkafka knows. It writes a negative number for what it does not.
    pub(super) fn learn(&self, statistics: &Statistics) {
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let mut places = self.lock();
        for (partition, place) in places.iter_mut() {
            let topic = statistics.topics.get(&*partition.0);
            let Some(learnt) = topic.and_then(|topic| topic.partitions.get(&partition.1)) else {
                continue;
            };
            // The end of what may be read: records of open transactions come later.
            place.end = place.end.max(known(learnt.ls_offset).or(known(learnt.hi_offset)));
            place.finished = place.finished.or(known(learnt.committed_offset));
        }
    }

    /// Gives what is newly finished to librdkafka, which commits it five times a second, when
    /// the partition is taken, and at the end.
    pub(super) fn save<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        let mut finished = TopicPartitionList::new();
        for ((topic, partition), place) in self.lock().iter_mut().filter(|(_, place)| place.unsaved) {
            place.unsaved = false;
            let Some(offset) = place.finished else { continue };
            // As it is: this call stores the next offset to read, unlike `store_offset`, which adds one.
            if let Err(error) = finished.add_partition_offset(topic, *partition, Offset::Offset(offset)) {
                tracing::error!(%error, %topic, partition, offset, "offset cannot be stored");
            }
        }
        if finished.count() == 0 {
            return;
        }
        // Fails for partitions that are no longer ours: whoever has them reads on from the last commit.
        if let Err(error) = consumer.store_offsets(&finished) {
            tracing::debug!(%error, "offsets of lost partitions were not stored");
        }
    }

    /// Records not yet finished, where known.
    pub(super) fn lag(&self) -> Vec<(Partition, i64)> {
        self.lock()
            .iter()
            .filter_map(|(partition, place)| Some((partition.clone(), (place.end? - place.finished?).max(0))))
            .collect()
    }
}

/// The partitions of librdkafka's list.
pub(super) fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .map(|element| (Arc::from(element.topic()), element.partition()))
        .collect()
}
