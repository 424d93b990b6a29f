//! What `/proc` says about processes, threads and the machine.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// `/proc` counts processor time in hundredths of a second, on every architecture Linux runs on
/// today (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process or thread: its folder under `/proc`.
#[derive(Clone, Debug)]
pub struct Proc(PathBuf);

impl Proc {
    /// The process `pid`.
    pub fn process(pid: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{pid}")))
    }

    /// This process.
    pub fn own() -> Self {
        Self(PathBuf::from("/proc/self"))
    }

    /// The thread that asks.
    pub fn this_thread() -> Result<Self> {
        let link = std::fs::read_link("/proc/thread-self").context("/proc/thread-self")?;
        Ok(Self(Path::new("/proc").join(link)))
    }

    /// Processor seconds used so far, by user and kernel together, all threads.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        cpu_ticks(&stat)
            .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
            .with_context(|| format!("{}/stat is not as expected", self.0.display()))
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory since the start or since [`Proc::reset_peak`], in bytes.
    pub fn peak_resident(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Starts the peak anew. Where the kernel does not allow it, the peak is that since the start,
    /// which is never less.
    pub fn reset_peak(&self) {
        // 5 resets the peak: see clear_refs in proc(5).
        let _ = std::fs::write(self.0.join("clear_refs"), "5");
    }

    fn status(&self, field: &str) -> Result<u64> {
        kib_of(&self.read("status")?, field)
            .map(|kib| kib * 1024)
            .with_context(|| format!("{}/status has no {field}", self.0.display()))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.0.join(file);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

/// User and system ticks from `/proc/…/stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the command's name, which may hold spaces and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kib_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// One line about the machine: cores, processor, kernel, memory, and the file system under `data`.
pub fn machine(data: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu_info = read("/proc/cpuinfo");
    let cpu = ["model name", "CPU implementer"]
        .iter()
        .find_map(|field| {
            let line = cpu_info.lines().find(|line| line.starts_with(field))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let memory = kib_of(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) / (1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    let mounts = read("/proc/self/mountinfo");
    let file_system = file_system(&mounts, data).unwrap_or("unknown");
    format!(
        "{cores} cores, {cpu}, Linux {}, {memory} GiB, data on {file_system}",
        kernel.trim()
    )
}

/// The type of the file system that holds `path`, from `/proc/self/mountinfo`.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, rest) = line.split_once(" - ")?;
            let point = Path::new(mount.split(' ').nth(4)?);
            path.starts_with(point)
                .then_some((point.components().count(), rest.split(' ').next()?))
        })
        // The last of the deepest: a later mount hides an earlier one.
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 3 0 100";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
    }

    #[test]
    fn memory_is_read_from_the_status_of_a_live_process() {
        assert_eq!(kib_of("Name:\tx\nVmRSS:\t    128 kB\n", "VmRSS:"), Some(128));
        let own = Proc::own();
        assert!(own.resident().unwrap() > 0);
        assert!(own.peak_resident().unwrap() > 0);
        assert!(own.cpu_seconds().unwrap() >= 0.0);
        assert!(Proc::this_thread().unwrap().cpu_seconds().unwrap() >= 0.0);
    }

    #[test]
    fn a_path_lies_on_its_deepest_mount() {
        let mounts = "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /tmp rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/data")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/var/tmp")), Some("ext4"));
    }
}
