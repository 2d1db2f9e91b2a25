//! Which CPU a thread runs on, and for how long.

use std::io;
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Keeps the calling thread on `cpu`.
///
/// # Errors
/// If there is no such CPU or it is not allowed to this process.
pub fn pin(cpu: u32) -> io::Result<()> {
    if cpu as usize >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// Lets the calling thread run anywhere but on `cpu`, unless there is no other.
///
/// # Errors
/// If the kernel refuses.
pub fn avoid(cpu: u32) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    // The kernel takes out of these the CPUs that do not exist.
    for other in (0..CpuSet::MAX_CPU).filter(|other| *other != cpu as usize) {
        cpus.set(other);
    }
    match sched_setaffinity(None, &cpus) {
        Err(rustix::io::Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// Lets the calling thread, and what it starts, go before other work: the machine may not be idle.
///
/// # Errors
/// If that is not allowed.
pub fn go_first() -> io::Result<()> {
    Ok(setpriority_process(None, -20)?)
}

/// Time that the calling thread was on a CPU, interrupts that came meanwhile included.
#[must_use]
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Keeps a thread on one CPU until it is dropped, then lets it go where it was allowed before.
#[derive(Debug)]
#[must_use]
pub struct Stay {
    before: CpuSet,
}

impl Stay {
    /// Keeps the calling thread on the CPU on which it runs just now.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn here() -> io::Result<Self> {
        Self::on(sched_getcpu() as u32)
    }

    /// Keeps the calling thread on `cpu`.
    ///
    /// # Errors
    /// If there is no such CPU or it is not allowed to this process.
    pub fn on(cpu: u32) -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        pin(cpu)?;
        Ok(Self { before })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        // The thread was allowed these CPUs before; at worst it stays on one of them.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_and_is_free_again() {
        let before = sched_getaffinity(None).unwrap();
        let stay = Stay::here().unwrap();
        assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        drop(stay);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[test]
    fn there_are_not_that_many_cpus() {
        assert!(pin(u32::MAX).is_err());
    }
}
