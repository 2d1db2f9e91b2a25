//! Machines that are not there: what a test says, the doctor and the start-up checks find.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{BpfFeature, FileSystem, Host, Link, Program};
use crate::ethtool::{Channels, Features, Setting};
use crate::xdp_features::XdpFeatures;

/// Every capability that Linux 6.x knows.
pub(crate) const ALL_CAPABILITIES: u64 = 0x1ff_ffff_ffff;
/// `BPF_FS_MAGIC`.
const BPF_FS: u64 = 0xcafe_4a11;

/// A machine made of values. What is not there cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct StubHost {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) directories: BTreeMap<String, Vec<String>>,
    pub(crate) symbolic_links: BTreeMap<String, PathBuf>,
    pub(crate) file_systems: BTreeMap<String, FileSystem>,
    pub(crate) locked_memory_limit: Option<u64>,
    pub(crate) tick_nanoseconds: u64,
    /// Error numbers of addresses that cannot be listened on.
    pub(crate) listen_errors: BTreeMap<SocketAddr, i32>,
    /// What the kernel does not have.
    pub(crate) missing: BTreeSet<BpfFeature>,
    /// Error number of every `bpf()`.
    pub(crate) bpf_error: Option<i32>,
    pub(crate) load: Result<String, String>,
    pub(crate) programs: Vec<Program>,
    pub(crate) links: Vec<Link>,
    pub(crate) features: BTreeMap<String, Features>,
    pub(crate) channels: BTreeMap<String, Channels>,
    pub(crate) receive_rings: BTreeMap<String, Setting>,
    /// `None`: the kernel cannot say.
    pub(crate) xdp_features: BTreeMap<u32, Option<XdpFeatures>>,
}

impl StubHost {
    /// A good machine: Linux 6.12 with everything, all capabilities, one network card `eth0`.
    pub(crate) fn new() -> Self {
        let mut host = Self {
            files: BTreeMap::new(),
            directories: BTreeMap::new(),
            symbolic_links: BTreeMap::new(),
            file_systems: BTreeMap::new(),
            locked_memory_limit: Some(8 << 20),
            tick_nanoseconds: 4_000_000,
            listen_errors: BTreeMap::new(),
            missing: BTreeSet::new(),
            bpf_error: None,
            load: Ok("pathflow_frags".to_owned()),
            programs: Vec::new(),
            links: Vec::new(),
            features: BTreeMap::new(),
            channels: BTreeMap::new(),
            receive_rings: BTreeMap::new(),
            xdp_features: BTreeMap::new(),
        };
        for (path, text) in [
            ("/proc/sys/kernel/osrelease", "6.12.48+deb13-amd64"),
            ("/proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.48-1 (2025-09-20)"),
            ("/proc/sys/kernel/bpf_stats_enabled", "0"),
            ("/proc/sys/net/core/bpf_jit_enable", "1"),
            ("/proc/sys/net/core/bpf_jit_limit", "264241152"),
            ("/proc/self/uid_map", "0          0 4294967295"),
            ("/proc/self/cgroup", "0::/system.slice/pathflow.service"),
            ("/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB"),
            ("/sys/kernel/security/lockdown", "[none] integrity confidentiality"),
            ("/sys/kernel/security/lsm", "lockdown,capability,landlock,yama,apparmor"),
            ("/sys/devices/system/cpu/online", "0-7"),
            ("/sys/devices/system/cpu/possible", "0-15"),
            ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ] {
            host.file(path, text);
        }
        host.capabilities(ALL_CAPABILITIES);
        let bpf = FileSystem { magic: BPF_FS, writable: true };
        host.file_systems.insert("/sys/fs/bpf".to_owned(), bpf);
        host.directories.insert("/sys/kernel/btf".to_owned(), vec!["vmlinux".to_owned()]);
        host.card("eth0", 2, "ice");
        host
    }

    /// Another kernel release.
    pub(crate) fn kernel(release: &str) -> Self {
        let mut host = Self::new();
        host.file("/proc/sys/kernel/osrelease", release);
        host
    }

    /// Debian 11: Linux 5.10.
    pub(crate) fn linux_5_10() -> Self {
        let mut host = Self::kernel("5.10.0-28-amd64");
        host.missing.insert(BpfFeature::CoarseClock);
        host.without_newer_features();
        host
    }

    /// Linux 5.15, the oldest that is supported: no tcx, no XDP in several buffers.
    pub(crate) fn linux_5_15() -> Self {
        let mut host = Self::kernel("5.15.0-105-generic");
        host.without_newer_features();
        host.load = Ok("pathflow_xdp".to_owned());
        host
    }

    fn without_newer_features(&mut self) {
        self.missing.extend([BpfFeature::XdpFrags, BpfFeature::Tcx]);
        self.xdp_features.values_mut().for_each(|features| *features = None);
    }

    pub(crate) fn file(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), text.to_owned());
    }

    pub(crate) fn capabilities(&mut self, effective: u64) {
        let status = format!(
            "Name:\tpathflow\nCapEff:\t{effective:016x}\nCapBnd:\t{ALL_CAPABILITIES:016x}\nSeccomp:\t0"
        );
        self.file("/proc/self/status", &status);
    }

    /// A network card with eight queues, an interrupt for each, and a driver.
    pub(crate) fn card(&mut self, name: &str, index: u32, driver: &str) {
        let device = format!("0000:{index:02x}:00.0");
        self.links.push(Link {
            index,
            name: name.to_owned(),
            device: Some(("pci".to_owned(), device.clone())),
            is_ethernet: true,
            is_up: true,
            mtu: 1500,
            receive_queues: 8,
            ..Link::default()
        });
        let target = PathBuf::from(format!("../../../../bus/pci/drivers/{driver}"));
        self.symbolic_links.insert(format!("/sys/bus/pci/devices/{device}/driver"), target);
        let directory = format!("/sys/class/net/{name}");
        self.file(&format!("{directory}/ifindex"), &index.to_string());
        let irqs: Vec<u32> = (0..8).map(|queue| 100 * index + queue).collect();
        for (cpu, irq) in irqs.iter().enumerate() {
            self.file(&format!("/proc/irq/{irq}/smp_affinity_list"), &cpu.to_string());
        }
        let irqs = irqs.iter().map(u32::to_string).collect();
        self.directories.insert(format!("{directory}/device/msi_irqs"), irqs);
        self.features_on(name, &["rx-gro", "rx-hashing"]);
        let combined = Setting { current: 8, maximum: 64 };
        self.channels.insert(name.to_owned(), Channels { combined, ..Channels::default() });
        self.receive_rings.insert(name.to_owned(), Setting { current: 2048, maximum: 8160 });
        let bits =
            XdpFeatures::BASIC | XdpFeatures::REDIRECT | XdpFeatures::XSK_ZEROCOPY | XdpFeatures::RX_SG;
        self.xdp_features.insert(index, Some(XdpFeatures(bits)));
    }

    /// These features, and only these, are on; all that matter can be switched.
    pub(crate) fn features_on(&mut self, name: &str, on: &[&str]) {
        let changeable = ["rx-vlan-hw-parse", "rx-lro", "rx-gro-hw", "hw-tc-offload"];
        self.features.insert(name.to_owned(), Features::new(on.iter().copied(), changeable));
    }

    pub(crate) fn link(&mut self, name: &str) -> &mut Link {
        self.links.iter_mut().find(|link| link.name == name).unwrap()
    }
}

fn found<T: Clone, K: Ord + ?Sized>(
    map: &BTreeMap<impl std::borrow::Borrow<K> + Ord, T>,
    key: &K,
    errno: i32,
) -> io::Result<T> {
    map.get(key).cloned().ok_or_else(|| io::Error::from_raw_os_error(errno))
}

impl Host for StubHost {
    fn read(&self, path: &str) -> io::Result<String> {
        found(&self.files, path, libc::ENOENT)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        found(&self.directories, directory, libc::ENOENT)
    }

    fn read_link(&self, path: &str) -> io::Result<PathBuf> {
        found(&self.symbolic_links, path, libc::ENOENT)
    }

    fn file_system(&self, path: &str) -> io::Result<FileSystem> {
        found(&self.file_systems, path, libc::ENOENT)
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        self.locked_memory_limit
    }

    fn listen(&self, address: SocketAddr) -> io::Result<()> {
        match self.listen_errors.get(&address) {
            Some(error) => Err(io::Error::from_raw_os_error(*error)),
            None => Ok(()),
        }
    }

    fn tick_nanoseconds(&self) -> u64 {
        self.tick_nanoseconds
    }

    fn bpf(&self, feature: BpfFeature) -> io::Result<bool> {
        match self.bpf_error {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(!self.missing.contains(&feature)),
        }
    }

    fn load_program(&self) -> Result<String, String> {
        self.load.clone()
    }

    fn program(&self, id: u32) -> Option<Program> {
        self.programs.iter().find(|program| program.id == id).cloned()
    }

    fn links(&self) -> io::Result<Vec<Link>> {
        Ok(self.links.clone())
    }

    fn features(&self, interface: &str) -> io::Result<Features> {
        found(&self.features, interface, libc::ENODEV)
    }

    fn channels(&self, interface: &str) -> io::Result<Channels> {
        found(&self.channels, interface, libc::EOPNOTSUPP)
    }

    fn receive_ring(&self, interface: &str) -> io::Result<Setting> {
        found(&self.receive_rings, interface, libc::EOPNOTSUPP)
    }

    fn xdp_features(&self, interface_index: u32) -> io::Result<Option<XdpFeatures>> {
        found(&self.xdp_features, &interface_index, libc::ENODEV)
    }
}
