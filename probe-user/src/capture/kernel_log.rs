//! Messages of the kernel program, in builds with the feature `kernel-log` only.

use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;

use super::CaptureError;

/// How often messages are read.
const INTERVAL: Duration = Duration::from_millis(100);

/// Reads the messages and logs them at the level they have.
pub struct KernelLog(EbpfLogger<&'static dyn log::Log>);

impl KernelLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, CaptureError> {
        EbpfLogger::init(ebpf).map(Self).map_err(|error| CaptureError::Object(error.to_string()))
    }

    /// Reads until the process ends.
    pub fn run(mut self) {
        loop {
            self.0.flush();
            std::thread::sleep(INTERVAL);
        }
    }
}
