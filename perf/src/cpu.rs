//! Which CPU a thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

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

/// Keeps a thread where it is until it is dropped, then lets it go where it was allowed before.
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
        let before = sched_getaffinity(None)?;
        pin(sched_getcpu() as u32)?;
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
