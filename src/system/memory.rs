//! What the operating system says of memory: how much this process has taken, and how much the machine has.
//!
//! Knows nothing of devices, models or runs; numbers that a system does not give are absent.

/// Largest resident memory of this process since its start, in bytes; pages of mapped files count while they lie in memory.
///
/// Linux keeps this number itself; elsewhere it is what is resident now, and whoever asks often finds the largest.
#[must_use]
pub fn peak_resident_bytes() -> Option<u64> {
    system::peak_resident_bytes()
}

/// Memory that this process may fill, in bytes: the machine's, or less where a container has a limit.
#[must_use]
pub fn machine_bytes() -> Option<u64> {
    system::machine_bytes()
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::read_to_string;
    use std::path::Path;

    const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

    pub(super) fn peak_resident_bytes() -> Option<u64> {
        kib_of(&read_to_string("/proc/self/status").ok()?, "VmHWM:")
    }

    pub(super) fn machine_bytes() -> Option<u64> {
        let machine = kib_of(&read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
        Some(container_limit().map_or(machine, |limit| limit.min(machine)))
    }

    /// `VmHWM:    1234 kB` in bytes.
    pub(super) fn kib_of(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// The smallest limit of the control groups that this process is in (version 2).
    fn container_limit() -> Option<u64> {
        let groups = read_to_string("/proc/self/cgroup").ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let limit = |folder: &Path| -> Option<u64> {
            let text = read_to_string(folder.join("memory.max")).ok()?;
            text.trim().parse().ok()
        };
        let root = Path::new(CONTROL_GROUPS);
        let folder = root.join(own);
        let above = folder.ancestors();
        let ours = above.take_while(|folder| folder.starts_with(root));
        ours.filter_map(limit).min()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use sysinfo::{ProcessesToUpdate, System};

    pub(super) fn peak_resident_bytes() -> Option<u64> {
        let own = sysinfo::get_current_pid().ok()?;
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[own]), true);
        system.process(own).map(sysinfo::Process::memory)
    }

    pub(super) fn machine_bytes() -> Option<u64> {
        let mut system = System::new();
        system.refresh_memory();
        Some(system.total_memory()).filter(|bytes| *bytes > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_what_was_taken_and_stays() {
        let before = peak_resident_bytes().expect("this system tells");
        let taken = vec![1_u8; 96 << 20];
        let during = peak_resident_bytes().expect("this system tells");
        assert_eq!(
            taken.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            96 << 20
        );
        drop(taken);
        // Other tests run beside this one, and what they gave back may be taken again.
        assert!(during >= 96 << 20, "{during}");
        if cfg!(target_os = "linux") {
            let after = peak_resident_bytes().expect("this system tells");
            // Linux counts by thread and adds up later: some pages may be missing.
            let late = 4 << 20;
            assert!(before <= during + late, "{before} {during}");
            assert!(during <= after + late, "{during} {after}");
        }
    }

    #[test]
    fn the_machine_has_more_than_this_process() {
        let machine = machine_bytes().expect("this system tells");
        assert!(machine > peak_resident_bytes().expect("this system tells"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_of_the_system_are_read() {
        let text = "VmPeak:\t  10 kB\nVmHWM:\t    1234 kB\n";
        assert_eq!(system::kib_of(text, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(system::kib_of(text, "VmRSS:"), None);
        assert_eq!(system::kib_of("VmHWM: many kB", "VmHWM:"), None);
    }
}
