//! The payload store in a directory.
//!
//! A payload is written under another name and renamed when it is whole, so that no reader, and no
//! later process, meets half of one. It lies at its key's path. Payloads expire by the age of their
//! file, whenever [`PayloadStore::expire`] is called.

use super::{PayloadError, PayloadStore};
use crate::sqlite;
use async_trait::async_trait;
use bytes::Bytes;
use schemas::delivery::PayloadPointer;
use schemas::ids::sha256_hex;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What stands for the bucket in the pointers of this store.
pub const BUCKET: &str = "embedded";

/// Where payloads lie whole, and where they lie while they are written.
const WHOLE: &str = "payloads";
const PARTS: &str = "payload-parts";

/// A payload store in a directory. See the module.
#[derive(Clone, Debug)]
pub struct DirectoryStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    whole: PathBuf,
    parts: PathBuf,
    sync: sqlite::Sync,
    next: AtomicU64,
}

impl DirectoryStore {
    /// Opens the folders `payloads` and `payload-parts` in `dir`, creating what does not exist and
    /// removing what an earlier process left half written.
    ///
    /// With [`sqlite::Sync::Full`] a payload survives a power loss once it is acknowledged.
    ///
    /// # Errors
    /// [`PayloadError::Unavailable`] naming the folder.
    pub fn open(dir: &Path, sync: sqlite::Sync) -> Result<Self, PayloadError> {
        let inner = Inner {
            whole: dir.join(WHOLE),
            parts: dir.join(PARTS),
            sync,
            next: AtomicU64::new(0),
        };
        inner.provision()?;
        for part in fs::read_dir(&inner.parts).map_err(unavailable(&inner.parts))? {
            let path = part.map_err(unavailable(&inner.parts))?.path();
            fs::remove_file(&path).map_err(unavailable(&path))?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Files are worked on beside the runtime's threads, which must not wait for a disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, PayloadError> + Send + 'static,
    ) -> Result<T, PayloadError> {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| Err(PayloadError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl PayloadStore for DirectoryStore {
    async fn put(&self, key: &str, payload: Bytes) -> Result<PayloadPointer, PayloadError> {
        let key = key.to_owned();
        self.run(move |inner| inner.put(key, &payload)).await
    }

    async fn get(&self, pointer: &PayloadPointer) -> Result<Bytes, PayloadError> {
        let pointer = pointer.clone();
        self.run(move |inner| inner.get(&pointer)).await
    }

    async fn delete(&self, pointer: &PayloadPointer) -> Result<(), PayloadError> {
        let key = pointer.key.clone();
        self.run(move |inner| {
            let path = inner.path(&key)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(unavailable(&path)(error)),
                Ok(()) | Err(_) => Ok(()),
            }
        })
        .await
    }

    async fn expire(&self, older_than: Duration) -> Result<u64, PayloadError> {
        let before = SystemTime::now()
            .checked_sub(older_than)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        self.run(move |inner| expire(&inner.whole, before)).await
    }

    async fn provision(&self) -> Result<(), PayloadError> {
        self.run(Inner::provision).await
    }

    async fn check(&self) -> Result<(), PayloadError> {
        self.run(|inner| {
            let part = inner.part();
            inner.write(&part, b"check")?;
            fs::remove_file(&part).map_err(unavailable(&part))
        })
        .await
    }
}

impl Inner {
    fn provision(&self) -> Result<(), PayloadError> {
        for folder in [&self.whole, &self.parts] {
            crate::data_dir::create(folder).map_err(unavailable(folder))?;
        }
        Ok(())
    }

    fn put(&self, key: String, payload: &[u8]) -> Result<PayloadPointer, PayloadError> {
        let path = self.path(&key)?;
        let pointer = PayloadPointer {
            bucket: BUCKET.to_owned(),
            key,
            size: payload.len() as u64,
            sha256: sha256_hex(payload),
        };
        match self.get(&pointer) {
            Ok(_) => {
                // Its age counts from the last time it was put. A file that has just expired is put anew.
                match File::options().write(true).open(&path) {
                    Ok(file) => {
                        file.set_modified(SystemTime::now()).map_err(unavailable(&path))?;
                        return Ok(pointer);
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(unavailable(&path)(error)),
                }
            }
            Err(PayloadError::Missing { .. }) => {}
            Err(other) => return Err(other),
        }
        let folder = path.parent().unwrap_or(&self.whole);
        crate::data_dir::create(folder).map_err(unavailable(folder))?;
        let part = self.part();
        let written = self
            .write(&part, payload)
            .and_then(|()| fs::rename(&part, &path).map_err(unavailable(&path)));
        if written.is_err() {
            // What is left is removed at the next start.
            let _ = fs::remove_file(&part);
        }
        written?;
        if self.sync == sqlite::Sync::Full {
            // The name is durable once the folders that lead to it are.
            for folder in folder
                .ancestors()
                .take_while(|folder| folder.starts_with(&self.whole))
            {
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(unavailable(folder))?;
            }
        }
        Ok(pointer)
    }

    fn get(&self, pointer: &PayloadPointer) -> Result<Bytes, PayloadError> {
        let path = self.path(&pointer.key)?;
        let key = || pointer.key.clone();
        let damaged = || PayloadError::Damaged { key: key() };
        // The length first: a file of another length is not worth reading, or too large to.
        match fs::metadata(&path) {
            Ok(found) if found.is_file() && found.len() == pointer.size => {}
            Ok(_) => return Err(damaged()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(PayloadError::Missing { key: key() });
            }
            Err(error) => return Err(unavailable(&path)(error)),
        }
        match fs::read(&path) {
            Ok(payload) if sha256_hex(&payload) == pointer.sha256 => Ok(payload.into()),
            Ok(_) => Err(damaged()),
            // It expired meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(PayloadError::Missing { key: key() }),
            Err(error) => Err(unavailable(&path)(error)),
        }
    }

    /// Where a key's payload lies, inside the folder whatever the key.
    fn path(&self, key: &str) -> Result<PathBuf, PayloadError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'.' | b'-');
        let plain = (1..=512).contains(&key.len())
            && key.bytes().all(allowed)
            && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !key.contains("..");
        if plain {
            Ok(self.whole.join(key))
        } else {
            Err(PayloadError::Unavailable(format!(
                "key \"{}\" is not 1 to 512 characters of A-Z, a-z, 0-9, '/', '_', '.' and '-' without \"..\" and empty parts",
                key.chars().take(80).collect::<String>()
            )))
        }
    }

    /// A name for a payload being written.
    fn part(&self) -> PathBuf {
        self.parts
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), PayloadError> {
        let write = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true);
            let mut file = crate::data_dir::private(&mut options).open(path)?;
            file.write_all(bytes)?;
            // Whatever is asked for: a power loss must not leave a name with half a payload, which
            // could never be put again.
            file.sync_all()
        };
        write().map_err(unavailable(path))
    }
}

/// Deletes the files below `folder` last written before then; how many there were. The folders stay:
/// one may be about to be written to.
fn expire(folder: &Path, before: SystemTime) -> Result<u64, PayloadError> {
    let mut deleted = 0;
    for entry in fs::read_dir(folder).map_err(unavailable(folder))? {
        let entry = entry.map_err(unavailable(folder))?;
        let path = entry.path();
        let about = entry.metadata().map_err(unavailable(&path))?;
        if about.is_dir() {
            deleted += expire(&path, before)?;
        } else if about.modified().map_err(unavailable(&path))? < before {
            fs::remove_file(&path).map_err(unavailable(&path))?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

fn unavailable(path: &Path) -> impl Fn(std::io::Error) -> PayloadError + '_ {
    move |error| PayloadError::Unavailable(format!("{}: {}", path.display(), crate::plain::io(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> DirectoryStore {
        DirectoryStore::open(dir.path(), sqlite::Sync::Normal).unwrap()
    }

    #[tokio::test]
    async fn payloads_expire_by_their_age() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let old = store.put("a/old", Bytes::from_static(b"old")).await.unwrap();
        let new = store.put("a/new", Bytes::from_static(b"new")).await.unwrap();
        let file = File::options()
            .write(true)
            .open(dir.path().join("payloads/a/old"))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7_200))
            .unwrap();

        assert_eq!(store.expire(Duration::from_secs(3_600)).await, Ok(1));
        assert_eq!(store.get(&old).await, Err(PayloadError::Missing { key: old.key }));
        assert_eq!(store.get(&new).await.unwrap(), "new");
        assert_eq!(store.expire(Duration::from_secs(3_600)).await, Ok(0));
    }

    #[tokio::test]
    async fn a_file_changed_on_disk_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let pointer = store.put("key", Bytes::from_static(b"payload")).await.unwrap();
        assert_eq!(pointer.bucket, "embedded");
        let damaged = Err(PayloadError::Damaged {
            key: "key".to_owned(),
        });
        for bytes in ["Payload", "payloads", ""] {
            fs::write(dir.path().join("payloads/key"), bytes).unwrap();
            assert_eq!(store.get(&pointer).await, damaged, "{bytes}");
        }
    }

    #[tokio::test]
    async fn nothing_half_written_is_left_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("payload-parts/0");
        open(&dir);
        fs::write(&part, "hal").unwrap();
        let store = open(&dir);
        assert!(!part.exists());
        store.put("key", Bytes::from_static(b"payload")).await.unwrap();
        store.check().await.unwrap();
        assert_eq!(fs::read_dir(dir.path().join("payload-parts")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("payloads"), "a file").unwrap();
        let error = DirectoryStore::open(dir.path(), sqlite::Sync::Normal).unwrap_err();
        let path = dir.path().join("payloads").display().to_string();
        assert!(
            matches!(&error, PayloadError::Unavailable(why) if why.contains(&path)),
            "{error}"
        );
    }
}
