//! The lines of a configuration of pmacct's daemons: `key: value`, or `key[name]: value` for one plugin.
//!
//! As pmacctd 1.7.7 reads it: a line whose first character other than blanks is `!` or `#` is a comment, letters of a
//! key may be of either case, a later line overrides an earlier one, and so does a line for all plugins one for a single
//! plugin that is above it.

use std::path::{Path, PathBuf};

use super::ImportError;
use super::remark::{Remarks, Verdict};

/// A line with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Line, from 1.
    pub number: usize,
    /// The key by which it is known here: old names and those of other daemons are replaced.
    pub key: String,
    /// The key as written, with the name in brackets.
    pub written: String,
    /// The plugin that it is for; `None` = all.
    pub name: Option<String>,
    /// The value, without blanks around it.
    pub value: String,
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Such as `kafka`.
    pub kind: String,
    /// The name in brackets, or `default_` and the kind.
    pub name: String,
}

/// Which of pmacct's daemons the configuration is for, by its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// `pmacctd`, which captures on interfaces.
    Pmacctd,
    /// `nfacctd`, `sfacctd` or `uacctd`: flows or packets are handed to it.
    Collector(&'static str),
    /// `pmbgpd`: routes only.
    Pmbgpd,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The file.
    pub file: PathBuf,
    /// Its lines with keys.
    pub lines: Vec<Line>,
}

/// Keys that may be given several times, each time adding something.
const ADDING: &[&str] = &["aggregate_filter"];
/// What follows the name of a daemon in keys that mean the same for each of them.
const COMMON: &[&str] = &[
    "as",
    "net",
    "time_new",
    "renormalize",
    "ext_sampling_rate",
    "stitching",
    "nonroot",
    "proc_name",
    "pipe_size",
    "force_frag_handling",
];

impl Configuration {
    /// Reads the text of `file`.
    ///
    /// # Errors
    /// [`ImportError::Line`] where pmacct would not start either.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ImportError> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['!', '#']) {
                continue;
            }
            let fault = |reason: &str| ImportError::Line {
                file: file.to_owned(),
                line: number,
                reason: reason.to_owned(),
            };
            let (key, value) = line.split_once(':').ok_or_else(|| fault("there is no \":\" after a key"))?;
            let (key, name) = match key.trim().split_once('[') {
                None => (key.trim(), None),
                Some((key, rest)) => {
                    let name = rest.trim_end().strip_suffix(']').ok_or_else(|| fault("\"]\" is missing"))?;
                    (key.trim_end(), Some(name.trim().to_owned()))
                }
            };
            let lower = key.to_lowercase();
            let written = name.as_ref().map_or_else(|| lower.clone(), |name| format!("{lower}[{name}]"));
            lines.push(Line {
                number,
                key: canonical(&lower),
                written,
                name,
                value: value.trim().to_owned(),
            });
        }
        Ok(Self { file: file.to_owned(), lines })
    }

    /// Which daemon it is for.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        let has = |wanted: &dyn Fn(&str) -> bool| {
            self.lines.iter().any(|line| wanted(line.written.split('[').next().unwrap_or_default()))
        };
        let captures = |key: &str| key.starts_with("pmacctd_") || key == "pcap_interfaces_map";
        for collector in ["nfacctd", "sfacctd", "uacctd"] {
            if has(&|key| key.starts_with(collector)) && !has(&captures) {
                return Daemon::Collector(collector);
            }
        }
        let is_given = |key: &str| self.lines.iter().any(|line| line.key == key);
        if is_given("bgp_daemon_ip")
            && !["bgp_daemon", "plugins", "aggregate", "pcap_interface", "pcap_interfaces_map"]
                .into_iter()
                .any(is_given)
        {
            return Daemon::Pmbgpd;
        }
        Daemon::Pmacctd
    }

    /// The line that counts for all plugins and the core.
    #[must_use]
    pub fn global(&self, key: &str) -> Option<&Line> {
        self.lines.iter().rfind(|line| line.key == key && line.is_global())
    }

    /// The line that counts for a plugin.
    #[must_use]
    pub fn of_plugin(&self, plugin: &Plugin, key: &str) -> Option<&Line> {
        self.lines.iter().rfind(|line| line.key == key && line.is_for(plugin))
    }

    /// Remarks about lines that do not count because of others.
    pub fn remark_overridden(&self, remarks: &mut Remarks) {
        for (index, line) in self.lines.iter().enumerate() {
            if ADDING.contains(&line.key.as_str()) {
                continue;
            }
            let mut later = self.lines.iter().skip(index + 1).filter(|other| other.key == line.key);
            let Some(other) = later.find(|other| other.name == line.name || other.name.is_none()) else {
                continue;
            };
            let number = other.number;
            let text = if other.name == line.name {
                format!("it does not count: line {number} gives it again")
            } else {
                format!("it does not count: line {number}, for all plugins, comes later")
            };
            remarks.add(&self.file, line.number, &line.written, Verdict::Differs, text);
        }
    }
}

impl Line {
    /// Whether it is for all plugins. The core is named `default`.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.name.as_deref().is_none_or(|name| name == "default")
    }

    /// Whether it is for this plugin.
    #[must_use]
    pub fn is_for(&self, plugin: &Plugin) -> bool {
        self.name.as_ref().is_none_or(|name| *name == plugin.name)
    }
}

impl Plugin {
    /// Reads one of the list, such as `print[in]`.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('[') {
            None => (text, None),
            Some((kind, rest)) => {
                let name = rest.strip_suffix(']').ok_or("\"]\" is missing")?;
                (kind, Some(name.trim()))
            }
        };
        let kind = kind.trim().to_lowercase();
        if kind.is_empty() || name.is_some_and(str::is_empty) {
            return Err("a plugin is written as TYPE or TYPE[NAME]".to_owned());
        }
        let name = name.map_or_else(|| format!("default_{kind}"), str::to_owned);
        Ok(Self { kind, name })
    }
}

/// Old names, and those that each daemon has for the same.
fn canonical(key: &str) -> String {
    for daemon in ["pmacctd_", "nfacctd_", "sfacctd_", "uacctd_"] {
        if let Some(rest) = key.strip_prefix(daemon) {
            let rest = rest.strip_suffix("_new").filter(|rest| *rest == "as").unwrap_or(rest);
            if COMMON.contains(&rest) {
                return format!("pmacctd_{rest}");
            }
        }
    }
    match key {
        "avro_schema_output_file" => "avro_schema_file",
        "interface" => "pcap_interface",
        "interface_wait" => "pcap_interface_wait",
        "savefile_wait" => "pcap_savefile_wait",
        "refresh_maps" => "maps_refresh",
        "daemon" => "daemonize",
        "nfprobe_source_address" | "nfprobe_ip" => "nfprobe_source_ip",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Configuration {
        Configuration::parse(Path::new("pmacctd.conf"), text).unwrap()
    }

    #[test]
    fn lines_as_pmacctd_reads_them() {
        let text = "! a comment\n  # another: one\n\nPrint_Markers : true\nnfprobe_receiver:172.17.0.2:2100\n\
                    aggregate[ in ]:src_host, dst_host\nnfacctd_as_new: bgp\n";
        let line = |number, key: &str, written: &str, name: Option<&str>, value: &str| Line {
            number,
            key: key.into(),
            written: written.into(),
            name: name.map(Into::into),
            value: value.into(),
        };
        assert_eq!(
            parse(text).lines,
            [
                line(4, "print_markers", "print_markers", None, "true"),
                line(5, "nfprobe_receiver", "nfprobe_receiver", None, "172.17.0.2:2100"),
                line(6, "aggregate", "aggregate[in]", Some("in"), "src_host, dst_host"),
                line(7, "pmacctd_as", "nfacctd_as_new", None, "bgp"),
            ]
        );
        for (text, expected) in [
            ("daemonize: true\nout\n", "c:2: there is no \":\" after a key"),
            ("\n\naggregate[in: src_host\n", "c:3: \"]\" is missing"),
        ] {
            let error = Configuration::parse(Path::new("c"), text).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn the_last_line_counts_as_in_pmacctd_also_one_for_all_plugins() {
        let text = "print_output[a]: json\nprint_output: csv\nprint_output[b]: formatted\naggregate_filter[a]: x\n\
                    aggregate_filter[a]: y\n";
        let configuration = parse(text);
        let of = |name: &str| {
            let plugin = Plugin { kind: "print".into(), name: name.into() };
            configuration.of_plugin(&plugin, "print_output").unwrap().value.clone()
        };
        assert_eq!((of("a"), of("b"), of("c")), ("csv".into(), "formatted".into(), "csv".into()));
        let mut remarks = Remarks::default();
        configuration.remark_overridden(&mut remarks);
        let remarks: Vec<String> =
            remarks.sorted(&configuration.file).iter().map(ToString::to_string).collect();
        let expected =
            "pmacctd.conf:1: print_output[a]: it does not count: line 2, for all plugins, comes later";
        assert_eq!(remarks, [expected]);
    }

    #[test]
    fn the_daemon_is_known_by_its_keys() {
        assert_eq!(parse("pcap_interface: eth0\npmacctd_as: bgp\n").daemon(), Daemon::Pmacctd);
        assert_eq!(parse("pcap_interface: eth0\nnfacctd_port: 1\n").daemon(), Daemon::Collector("nfacctd"));
        assert_eq!(parse("bgp_daemon_ip: 192.0.2.1\n").daemon(), Daemon::Pmbgpd);
        assert_eq!(parse("bgp_daemon_ip: 192.0.2.1\nplugins: print\n").daemon(), Daemon::Pmacctd);
    }
}
