//! The machine on which something was measured, as it is when the benchmark runs.

use std::fs;

use serde::Serialize;

/// What a number depends on besides the code.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor model.
    pub processor: String,
    /// Processors online.
    pub processors: usize,
    /// True if a hypervisor is below.
    pub virtual_machine: bool,
    /// Memory in MiB.
    pub memory_mebibytes: u64,
    /// Kernel release and build.
    pub kernel: String,
    /// Mitigation of Spectre v2, which makes calls of the kernel slower.
    pub spectre_v2: String,
    /// Load average over the last minute when the benchmark began; more than 0 is somebody else's work.
    pub load: String,
    /// True if the kernel measures every program run, which adds two clock reads to each.
    pub bpf_stats: bool,
}

impl Machine {
    /// Reads all of it.
    #[must_use]
    pub fn read() -> Self {
        let processors = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let memory = read("/proc/meminfo");
        let kibibytes = memory.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
        Self {
            processor: field("model name").to_owned(),
            processors: processors.lines().filter(|line| line.starts_with("processor")).count(),
            virtual_machine: field("flags").split_whitespace().any(|flag| flag == "hypervisor"),
            memory_mebibytes: kibibytes.unwrap_or(0) / 1024,
            kernel: format!("{} {}", read("/proc/sys/kernel/osrelease"), read("/proc/sys/kernel/version")),
            spectre_v2: read("/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or("").to_owned(),
            bpf_stats: bpf_stats_enabled(),
        }
    }

    /// The lines that stand above a table.
    #[must_use]
    pub fn lines(&self) -> String {
        format!(
            "machine  {} x {}{}, {} MiB\nkernel   {}\nstate    load {}, bpf_stats {}, spectre_v2: {}",
            self.processors,
            self.processor,
            if self.virtual_machine { " (virtual machine)" } else { "" },
            self.memory_mebibytes,
            self.kernel,
            self.load,
            if self.bpf_stats { "on" } else { "off" },
            self.spectre_v2
        )
    }
}

/// True if `kernel.bpf_stats_enabled` is on.
#[must_use]
pub fn bpf_stats_enabled() -> bool {
    read("/proc/sys/kernel/bpf_stats_enabled") == "1"
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Octets of memory that a process has, this one if none is named.
///
/// # Errors
/// If there is no such process.
pub fn resident(process: Option<u32>) -> std::io::Result<f64> {
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let pages = pages.ok_or_else(|| std::io::Error::other("no number of resident pages in statm"))?;
    Ok(pages * rustix::param::page_size() as f64)
}
