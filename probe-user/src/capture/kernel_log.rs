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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use aya::programs::{TestRun as _, TestRunOptions};
    use log::{LevelFilter, Log, Metadata, Record};
    use pathflow_common::DropReason;
    use pathflow_common::extension::{ChosenPlace, Layer};

    use crate::capture::program::PayloadSettings;
    use crate::capture::{FilterSet, KernelProgram, LoadSettings, TableSizes, receiving_cpus};
    use crate::metering::packets::{ExtensionSettings, KeySettings};

    static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

    struct Keep;

    impl Log for Keep {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            MESSAGES.lock().unwrap().push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    /// Messages take room on the stack, of which programs with extended keys need most. Needs root.
    #[test]
    fn programs_with_messages_load_and_tell() {
        log::set_logger(&Keep).unwrap();
        log::set_max_level(LevelFilter::Debug);
        let place =
            ChosenPlace { layer: Layer::Payload, protocol: Some(17), offset: 0, length: 4, destination: 0 };
        let everything = ExtensionSettings { inner: true, labels: true, chosen: vec![place] };
        let payloads = PayloadSettings {
            packets: 10,
            octets: 1536,
            budget: 1000,
            done: 64,
            kept: Duration::from_mins(5),
        };
        for (extension, payloads) in [(ExtensionSettings::default(), None), (everything, Some(payloads))] {
            let settings = LoadSettings {
                sizes: TableSizes { ipv4_slots: 64, ipv6_slots: 64, spill_slots: 64 },
                table_cpus: receiving_cpus(&[]),
                hash_secrets: std::array::from_fn(|_| 7),
                fib_lookup: true,
                keys: KeySettings {
                    vlan_priority: true,
                    flow_label: true,
                    extension,
                    ..KeySettings::default()
                },
                header_samples: true,
                payloads,
                filters: FilterSet::default(),
            };
            let (mut program, _tables, _epochs) = KernelProgram::load(&settings).unwrap();
            program.classifier(false).unwrap();
            program.classifier(true).unwrap();
            let mut log = program.log().unwrap();
            let mut options = TestRunOptions::new();
            let frame = [&[2; 12][..], &[0x88, 0xcc], &[0; 46]].concat();
            options.data_in = Some(&frame);
            // What the loader had to say.
            MESSAGES.lock().unwrap().clear();
            program.xdp().unwrap().test_run(options).unwrap();
            log.0.flush();
            let expected = format!("packet not accounted to a flow, reason {}", DropReason::NotIp as u8);
            assert_eq!(std::mem::take(&mut *MESSAGES.lock().unwrap()), [expected], "{}", program.name());
        }
    }
}
