//! What may come twice: a consumer that is cut off from its offsets has sent what nobody knows of.

use super::front::Sent;
use crate::secs;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

/// Longer than a consumer waits for its work to be done when partitions are taken away, and than its session.
const DRAIN: Duration = secs(8);

/// What a consumer says when it was cut off and lives.
const SEEN_AGAIN: &str = "some records will be seen again";

/// How things stood once.
#[derive(Clone)]
struct Moment {
    at: Instant,
    committed: HashMap<i32, i64>,
    ends: Vec<i64>,
}

/// What of a front may come twice.
struct Cut {
    front: usize,
    /// What was committed before.
    committed: HashMap<i32, i64>,
    /// When it went on, and where the partitions ended; `None` if it never did.
    on: Option<(Instant, Vec<i64>)>,
}

/// All cuts, and what has to be known to tell of them afterwards.
#[derive(Default)]
pub struct Cuts {
    moments: RefCell<Vec<Moment>>,
    cuts: Vec<Cut>,
}

impl Cuts {
    /// Notes how things stand: what is committed, as asked at `at`, and where the partitions end.
    pub fn stand(&self, at: Instant, committed: &HashMap<i32, i64>, ends: Vec<i64>) {
        let committed = committed.clone();
        self.moments.borrow_mut().push(Moment { at, committed, ends });
    }

    /// A consumer was killed when so much was committed: nobody has its partitions before its session is over.
    pub fn killed(&mut self, front: usize, committed: HashMap<i32, i64>) {
        self.cuts.push(Cut {
            front,
            committed,
            on: None,
        });
    }

    /// A consumer was cut off when so much was committed, and goes on now that the partitions end there.
    pub fn mended(&mut self, front: usize, committed: HashMap<i32, i64>, ends: Vec<i64>) {
        self.cuts.push(Cut {
            front,
            committed,
            on: Some((Instant::now(), ends)),
        });
    }

    /// Reads in a consumer's log when it was cut off: the queue was too slow for it to finish what was taken away,
    /// or it was too slow for the group.
    pub fn read(&mut self, front: usize, log: &str) {
        let (now, clock) = (Instant::now(), SystemTime::now());
        for line in log.lines().filter(|line| line.contains(SEEN_AGAIN)) {
            let said: jiff::Timestamp = line.split(' ').next().expect("a time").parse().expect("a time");
            let ago = clock.duration_since(said.into()).unwrap_or_default();
            self.cut_about(front, now - ago);
        }
    }

    /// Cut off at about this moment: from what was known before the drain that was too short, to what was there
    /// soon after.
    fn cut_about(&mut self, front: usize, at: Instant) {
        let moments = self.moments.borrow();
        let before = moments.iter().rfind(|moment| moment.at + DRAIN < at);
        let after = moments.iter().find(|moment| moment.at >= at);
        let after = after.expect("how it stands is noted before the logs are read");
        self.cuts.push(Cut {
            front,
            committed: before.map(|moment| moment.committed.clone()).unwrap_or_default(),
            on: Some((after.at, after.ends.clone())),
        });
    }

    /// How often each delivery may have been sent again: for each cut, what its process had sent and nobody
    /// knew of, and what it still had when it went on. `fronts` is what was sent through each, and when.
    pub fn under_way(&self, fronts: &HashMap<usize, Vec<(Instant, Sent)>>) -> HashMap<Sent, usize> {
        let mut again = HashMap::new();
        for cut in &self.cuts {
            let sent = fronts[&cut.front].iter().filter(|(at, (partition, offset, _))| {
                let unknown = *offset >= cut.committed.get(partition).copied().unwrap_or(0);
                let had = cut.on.as_ref().is_none_or(|(on, ends)| {
                    at < on || *offset < ends[usize::try_from(*partition).expect("fits")]
                });
                unknown && had
            });
            for sent in sent.map(|(_, sent)| *sent).collect::<HashSet<_>>() {
                *again.entry(sent).or_default() += 1;
            }
        }
        again
    }
}
