//! What each line means, by area. A module takes the lines it knows; what nobody took is judged by [`leftover`].

mod aggregate;
mod bgp;
mod capture;
mod classify;
mod enrich;
mod kafka;
mod leftover;
mod memory;
mod nfprobe;
mod primitives;
mod print;
mod sfprobe;

use std::path::Path;

use super::ImportError;
use super::configuration::{Configuration, Daemon, Line, Plugin};
use super::document::{Document, Origin};
use super::maps::MapError;
use super::remark::{Remark, Remarks, Verdict};

/// Makes a document of a configuration.
pub(super) fn translate(configuration: &Configuration) -> Result<(Document, Vec<Remark>), ImportError> {
    let mut work = Translation {
        configuration,
        daemon: configuration.daemon(),
        document: Document::default(),
        remarks: Remarks::default(),
        used: vec![false; configuration.lines.len()],
        primitives: Vec::new(),
    };
    configuration.remark_overridden(&mut work.remarks);
    let plugins = work.plugins();
    capture::translate(&mut work)?;
    work.primitives = primitives::translate(&mut work)?;
    classify::translate(&mut work);
    // Nobody reads flows on standard output, unless `print` says so.
    let export = work.document.table("export");
    work.document.set(export, "stdout", "none", None);
    for plugin in &plugins {
        work.plugin(plugin)?;
    }
    let has_output = plugins.iter().any(|plugin| {
        matches!(plugin.kind.as_str(), "print" | "kafka" | "memory" | "imt" | "nfprobe" | "sfprobe")
    });
    if !has_output && work.daemon != Daemon::Pmbgpd {
        work.whole("no plugin is left that writes anything: packets are counted for the metrics only");
    }
    bgp::translate(&mut work)?;
    enrich::translate(&mut work, &plugins)?;
    leftover::translate(&mut work, &plugins);
    Ok((work.document, work.remarks.sorted(&configuration.file)))
}

struct Translation<'c> {
    configuration: &'c Configuration,
    daemon: Daemon,
    document: Document,
    remarks: Remarks,
    /// Of each line, whether somebody took it.
    used: Vec<bool>,
    /// The operator's own primitives.
    primitives: Vec<primitives::Primitive>,
}

/// A line that counts.
#[derive(Clone, Debug)]
struct Setting {
    origin: Origin,
    value: String,
}

impl Translation<'_> {
    /// The plugins of the list; without one pmacct has one that keeps a table in memory.
    fn plugins(&mut self) -> Vec<Plugin> {
        let mut plugins: Vec<Plugin> = Vec::new();
        let Some(setting) = self.global("plugins") else {
            if self.daemon != Daemon::Pmbgpd {
                plugins.push(Plugin { kind: "memory".into(), name: "default_memory".into() });
            }
            return plugins;
        };
        for text in setting.list() {
            match Plugin::parse(&text) {
                Ok(plugin) if plugins.iter().any(|other| other.name == plugin.name) => {
                    let text = format!("a second plugin named {} is left out", plugin.name);
                    self.remark(&setting, Verdict::NotHonoured, text);
                }
                Ok(plugin) => plugins.push(plugin),
                Err(reason) => self.remark(&setting, Verdict::NotHonoured, reason),
            }
        }
        plugins
    }

    fn plugin(&mut self, plugin: &Plugin) -> Result<(), ImportError> {
        let text = match plugin.kind.as_str() {
            "print" => return print::translate(self, plugin),
            "kafka" => return kafka::translate(self, plugin),
            "nfprobe" => return nfprobe::translate(self, plugin),
            "sfprobe" => {
                sfprobe::translate(self, plugin);
                return Ok(());
            }
            "memory" | "imt" => return memory::translate(self, plugin),
            "mysql" | "pgsql" | "sqlite3" => {
                "databases are not written to; use print with print_output: csv, or kafka, and load that"
            }
            "amqp" => "RabbitMQ is not written to; use kafka",
            "tee" => "pathflow does not replicate what others export; give [export] several collectors",
            _ => "there is no such plugin",
        };
        let of_list = self.configuration.global("plugins").map(Origin::from);
        let origin = of_list.unwrap_or_else(|| Origin { line: 0, key: "plugins".into() });
        let text = format!("{}[{}]: {text}", plugin.kind, plugin.name);
        self.remark_at(&origin, Verdict::NotHonoured, text);
        Ok(())
    }

    /// The line of a key for all plugins and the core, taken.
    fn global(&mut self, key: &str) -> Option<Setting> {
        self.mark(key, Line::is_global);
        self.configuration.global(key).map(Setting::from)
    }

    /// The line of a key for a plugin, taken.
    fn of_plugin(&mut self, plugin: &Plugin, key: &str) -> Option<Setting> {
        self.mark(key, |line| line.is_for(plugin));
        self.configuration.of_plugin(plugin, key).map(Setting::from)
    }

    fn mark(&mut self, key: &str, is_meant: impl Fn(&Line) -> bool) {
        for (line, used) in self.configuration.lines.iter().zip(&mut self.used) {
            *used |= line.key == key && is_meant(line);
        }
    }

    /// A global line that is `true` or `false`.
    fn flag(&mut self, key: &str) -> Option<(Setting, bool)> {
        let setting = self.global(key)?;
        self.truth(&setting).map(|truth| (setting, truth))
    }

    fn plugin_flag(&mut self, plugin: &Plugin, key: &str) -> Option<(Setting, bool)> {
        let setting = self.of_plugin(plugin, key)?;
        self.truth(&setting).map(|truth| (setting, truth))
    }

    fn truth(&mut self, setting: &Setting) -> Option<bool> {
        match setting.value.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.remark(setting, Verdict::NotHonoured, "it is neither true nor false");
                None
            }
        }
    }

    fn number(&mut self, setting: &Setting) -> Option<i64> {
        let number = setting.value.parse::<u32>().ok().map(i64::from);
        if number.is_none() {
            self.remark(setting, Verdict::NotHonoured, "it is not a number");
        }
        number
    }

    fn global_number(&mut self, key: &str) -> Option<(Setting, i64)> {
        let setting = self.global(key)?;
        self.number(&setting).map(|number| (setting, number))
    }

    fn plugin_number(&mut self, plugin: &Plugin, key: &str) -> Option<(Setting, i64)> {
        let setting = self.of_plugin(plugin, key)?;
        self.number(&setting).map(|number| (setting, number))
    }

    /// A remark on a line.
    fn remark(&mut self, setting: &Setting, verdict: Verdict, text: impl Into<String>) {
        self.remark_at(&setting.origin, verdict, text);
    }

    fn remark_at(&mut self, origin: &Origin, verdict: Verdict, text: impl Into<String>) {
        self.remarks.add(&self.configuration.file, origin.line, &origin.key, verdict, text);
    }

    /// A remark on a line of a map.
    fn remark_in(&mut self, file: &Path, line: usize, key: &str, text: impl Into<String>) {
        self.remarks.add(file, line, key, Verdict::NotHonoured, text);
    }

    /// A remark on the configuration as a whole.
    fn whole(&mut self, text: impl Into<String>) {
        self.remarks.add(&self.configuration.file, 0, "", Verdict::Differs, text);
    }

    /// A line that is understood and left out.
    fn refuse(&mut self, key: &str, text: &str) {
        if let Some(setting) = self.global(key) {
            self.remark(&setting, Verdict::NotHonoured, text);
        }
    }

    fn refuse_of(&mut self, plugin: &Plugin, key: &str, text: &str) {
        if let Some(setting) = self.of_plugin(plugin, key) {
            self.remark(&setting, Verdict::NotHonoured, text);
        }
    }

    /// A fault of the map that a line names.
    fn map_fault(&self, setting: &Setting, error: &MapError) -> ImportError {
        self.line_fault(setting, &error.to_string())
    }

    fn line_fault(&self, setting: &Setting, reason: &str) -> ImportError {
        ImportError::Line {
            file: self.configuration.file.clone(),
            line: setting.origin.line,
            reason: format!("{}: {reason}", setting.origin.key),
        }
    }
}

impl Setting {
    /// The parts of a value with commas.
    fn list(&self) -> Vec<String> {
        self.value.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }
}

impl From<&Line> for Setting {
    fn from(line: &Line) -> Self {
        Self { origin: line.into(), value: line.value.clone() }
    }
}
