//! Names to addresses.
//!
//! The system's resolver holds a thread for as long as a name server that is dead takes to be given up (10 s
//! and more), and a tenant may own many of those. So lookups have threads of their own, which nobody else
//! waits for, and of one name there is one lookup at a time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Of the addresses of a name, so many are looked at.
const MOST_ADDRESSES: usize = 16;
/// Bytes of a lookup's stack: glibc takes up to 64 KiB at once.
const STACK: usize = 512 * 1024;

/// Who knows the addresses of names.
pub trait Names: Send + Sync + 'static {
    /// The addresses of a name, as it blocks. A name with a dot at its end is whole.
    ///
    /// # Errors
    /// Why there is none, as far as the system says.
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system: `/etc/hosts`, name servers and what else it is set up to ask.
pub struct SystemNames;

impl Names for SystemNames {
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = (name, 0).to_socket_addrs()?;
        Ok(found.map(|place| place.ip()).collect())
    }
}

/// Looks names up.
pub struct Resolver {
    names: Arc<dyn Names>,
    limit: Duration,
    threads: Arc<Semaphore>,
    under_way: Arc<Mutex<UnderWay>>,
}

/// The lookups that run, and where their answers will be.
type UnderWay = HashMap<String, watch::Receiver<Option<Found>>>;

type Found = Result<Vec<IpAddr>, NoAddress>;

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address")]
pub enum NoAddress {
    /// The name is unknown, or nobody says what it is in time.
    Unknown,
    /// Nobody could be asked: no thread is left for it, or no file.
    NotAsked,
}

/// Whether no file may be opened any more, by this process (`EMFILE`) or on this machine (`ENFILE`), which says nothing of
/// whom it was for. They have these numbers on every Unix.
#[must_use]
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

impl Resolver {
    /// Waits for an answer for `limit` at most, and has `threads` lookups at once at most: those of dead name
    /// servers go on for a while after that.
    #[must_use]
    pub fn new(names: Arc<dyn Names>, limit: Duration, threads: usize) -> Self {
        Self {
            names,
            limit,
            threads: Arc::new(Semaphore::new(threads)),
            under_way: Arc::default(),
        }
    }

    /// The addresses of a host, at least one. Only the whole name is looked up, unless it may be `completed` by
    /// the system's search list.
    ///
    /// # Errors
    /// When there is none within the limit.
    pub async fn addresses(&self, host: &str, completed: bool) -> Result<Vec<IpAddr>, NoAddress> {
        let name = if completed {
            host.to_owned()
        } else {
            format!("{host}.")
        };
        let mut answer = self.ask(name)?;
        let found = tokio::time::timeout(self.limit, answer.wait_for(Option::is_some)).await;
        let found = found.map_err(|_| NoAddress::Unknown)?;
        let found = found.map_err(|_| NoAddress::Unknown)?.clone();
        found.unwrap_or(Err(NoAddress::Unknown))
    }

    /// Where the answer will be: of the lookup that runs, or of one that begins.
    fn ask(&self, name: String) -> Result<watch::Receiver<Option<Found>>, NoAddress> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(&name) {
            return Ok(answer.clone());
        }
        let permit = self.threads.clone().try_acquire_owned();
        let permit = permit.map_err(|_| NoAddress::NotAsked)?;
        let (tell, answer) = watch::channel(None);
        let (names, running, looked_up) = (self.names.clone(), self.under_way.clone(), name.clone());
        let thread = std::thread::Builder::new()
            .name("lookup".to_owned())
            .stack_size(STACK);
        let lookup = move || {
            let found = found(names.lookup(&looked_up));
            // Whoever asks from now on gets a lookup of their own: this one may be out of date by then.
            running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&looked_up);
            tell.send_replace(Some(found));
            drop(permit);
        };
        thread.spawn(lookup).map_err(|_| NoAddress::NotAsked)?;
        under_way.insert(name, answer.clone());
        Ok(answer)
    }
}

/// What a lookup's answer says.
fn found(answer: io::Result<Vec<IpAddr>>) -> Found {
    match answer {
        Ok(mut found) if !found.is_empty() => {
            found.truncate(MOST_ADDRESSES);
            Ok(found)
        }
        Err(error) if is_out_of_files(&error) => Err(NoAddress::NotAsked),
        Ok(_) | Err(_) => Err(NoAddress::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    /// Answers each lookup when it is told to.
    struct Slow {
        asked: AtomicUsize,
        go: Mutex<mpsc::Receiver<IpAddr>>,
    }

    impl Names for Slow {
        fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Ok(self.go.lock().unwrap().recv().into_iter().collect())
        }
    }

    fn slow(limit: Duration, threads: usize) -> (Arc<Slow>, mpsc::SyncSender<IpAddr>, Resolver) {
        let (go, told) = mpsc::sync_channel(8);
        let names = Arc::new(Slow {
            asked: AtomicUsize::new(0),
            go: Mutex::new(told),
        });
        (names.clone(), go, Resolver::new(names, limit, threads))
    }

    #[test]
    fn only_a_lookup_that_could_open_no_file_is_ours() {
        let failed = |code| found(Err(io::Error::from_raw_os_error(code)));
        assert_eq!(
            [failed(23), failed(24)],
            [Err(NoAddress::NotAsked), Err(NoAddress::NotAsked)]
        );
        assert_eq!(failed(111), Err(NoAddress::Unknown));
        assert_eq!(found(Ok(Vec::new())), Err(NoAddress::Unknown));
    }

    #[tokio::test]
    async fn of_one_name_there_is_one_lookup_at_a_time() {
        let (names, go, resolver) = slow(Duration::from_secs(20), 8);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let ask = || resolver.addresses("a.example", false);
        let tell = async { go.send(address).unwrap() };
        let (one, two, three, ()) = tokio::join!(ask(), ask(), ask(), tell);
        assert_eq!(
            [one, two, three].map(Result::unwrap),
            [[address], [address], [address]]
        );
        assert_eq!(names.asked.load(Ordering::SeqCst), 1);
        go.send(address).unwrap();
        assert_eq!(ask().await.unwrap(), [address]);
        assert_eq!(
            names.asked.load(Ordering::SeqCst),
            2,
            "an answer is not remembered"
        );
    }

    #[tokio::test]
    async fn dead_name_servers_hold_up_their_own_names_for_the_limit_and_take_a_thread_each() {
        let (names, go, resolver) = slow(Duration::from_millis(20), 2);
        for host in ["a.example", "b.example", "a.example"] {
            let found = resolver.addresses(host, false).await;
            assert_eq!(found, Err(NoAddress::Unknown), "{host}");
        }
        // What others have left behind says nothing of this name.
        let found = resolver.addresses("c.example", false).await;
        assert_eq!(found, Err(NoAddress::NotAsked), "there is no thread for it");
        assert!(names.asked.load(Ordering::SeqCst) <= 2);
        drop(go);
        // The two give up, and their threads are free again.
        while resolver.threads.available_permits() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(resolver.under_way.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_is_whole_unless_it_may_be_completed() {
        struct Echo(Mutex<Vec<String>>);
        impl Names for Echo {
            fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
                self.0.lock().unwrap().push(name.to_owned());
                Ok((0..100).map(|n| IpAddr::from([192, 0, 2, n])).collect())
            }
        }
        let names = Arc::new(Echo(Mutex::default()));
        let resolver = Resolver::new(names.clone(), Duration::from_secs(20), 1);
        let found = resolver.addresses("a.example", false).await.unwrap();
        assert_eq!(found.len(), MOST_ADDRESSES);
        while resolver.threads.available_permits() < 1 {
            tokio::task::yield_now().await;
        }
        resolver.addresses("receiver", true).await.unwrap();
        assert_eq!(*names.0.lock().unwrap(), ["a.example.", "receiver"]);
    }
}
