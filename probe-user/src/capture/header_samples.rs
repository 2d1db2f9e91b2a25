//! Header samples: the first octets of sampled packets, as the kernel program sends them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use pathflow_common::layout::HeaderSample;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The receiving end of the ring of samples.
pub struct HeaderSamples(RingBuf<MapData>);

impl HeaderSamples {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// Waits until there is a sample or `other` can be read, but no longer than `timeout`.
    ///
    /// # Errors
    /// If the ring cannot be waited for.
    pub fn wait(&self, other: impl AsFd, timeout: Duration) -> io::Result<()> {
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let mut ready = [self.0.as_fd(), other.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next sample, if there is one.
    pub fn receive(&mut self) -> Option<HeaderSample> {
        // Whatever is of another size is not from this program.
        while let Some(item) = self.0.next() {
            if let Some(sample) = item.first_chunk().and_then(HeaderSample::from_octets) {
                return Some(sample);
            }
        }
        None
    }
}
