//! The operator's own interface numbers, in the file format of pmacct's `pcap_interfaces_map`.
//!
//! ```text
//! ! comment
//! ifname=eth0 ifindex=100 direction=in
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::inventory::Interface;
use super::pattern::NamePattern;
use super::settings::{Direction, InterfaceSettings};

/// What the file says of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapEntry {
    /// Number to report in place of the kernel's index.
    pub index: Option<u32>,
    /// Packets to count: `in`, `out`, or both if there are rows for both or a row without direction.
    pub direction: Option<Direction>,
}

/// The file: interfaces by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfacesMap {
    entries: BTreeMap<String, MapEntry>,
}

/// The file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfacesMapError {
    /// It cannot be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line is not understood.
    #[error("{}:{line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl InterfacesMap {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InterfacesMapError`] naming file and line.
    pub fn read(file: &Path) -> Result<Self, InterfacesMapError> {
        let text = fs::read_to_string(file)
            .map_err(|error| InterfacesMapError::Read { file: file.to_owned(), reason: error.to_string() })?;
        Self::parse(file, &text)
    }

    /// Reads the text of `file`.
    ///
    /// # Errors
    /// [`InterfacesMapError::Line`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, InterfacesMapError> {
        let mut map = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            map.add(line).map_err(|reason| InterfacesMapError::Line {
                file: file.to_owned(),
                line: number,
                reason,
            })?;
        }
        Ok(map)
    }

    /// Names in the file, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What is said of the interface with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<MapEntry> {
        self.entries.get(name).copied()
    }

    /// What is said of `interface`, by its name or else by an alternative one.
    #[must_use]
    pub fn find(&self, interface: &Interface) -> Option<MapEntry> {
        let mut alternatives = interface.alternative_names.iter();
        self.get(&interface.name).or_else(|| alternatives.find_map(|name| self.get(name)))
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['!', '#']) {
            return Ok(());
        }
        let (mut name, mut index, mut direction) = (None, None, None);
        for word in line.split_whitespace() {
            let (key, value) = word
                .split_once('=')
                .filter(|(_, value)| !value.is_empty())
                .ok_or_else(|| format!("{word:?} is not KEY=VALUE"))?;
            let is_repeated = match key {
                "ifname" => name.replace(interface_name(value)?).is_some(),
                "ifindex" => index.replace(interface_number(value)?).is_some(),
                "direction" => direction.replace(flow_direction(value)?).is_some(),
                _ => return Err(format!("unknown key {key:?}; the keys are ifname, ifindex and direction")),
            };
            if is_repeated {
                return Err(format!("{key} is given twice"));
            }
        }
        let name = name.ok_or("ifname is missing")?;
        let direction = direction.unwrap_or(Direction::Both);
        let entry = self.entries.entry(name).or_default();
        if let (Some(before), Some(now)) = (entry.index, index)
            && before != now
        {
            return Err(format!("ifindex was {before} in an earlier line for this interface"));
        }
        entry.index = entry.index.or(index);
        entry.direction = Some(match entry.direction {
            Some(before) if before != direction => Direction::Both,
            _ => direction,
        });
        Ok(())
    }
}

fn interface_name(value: &str) -> Result<String, String> {
    match value.parse() {
        Ok(NamePattern::Name(name)) => Ok(name),
        Ok(NamePattern::Glob(_)) => Err(format!("ifname {value:?}: a pattern is not possible here")),
        Err(error) => Err(format!("ifname {value:?}: {error}")),
    }
}

fn interface_number(value: &str) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| InterfaceSettings::INDEXES.contains(number));
    number.ok_or_else(|| format!("ifindex {value:?} is not a number from 1 to 2147483647"))
}

fn flow_direction(value: &str) -> Result<Direction, String> {
    match value {
        "in" => Ok(Direction::Ingress),
        "out" => Ok(Direction::Egress),
        _ => Err(format!("direction {value:?} is neither in nor out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<InterfacesMap, String> {
        InterfacesMap::parse(Path::new("interfaces.map"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_in_any_order_with_comments() {
        let text = "! uplinks\n\n# more\n  ifindex=100\tifname=eth0 direction=in\r\nifname=ens1 ifindex=200 \
                    direction=out\nifname=ppp0\nifname=br0 direction=in\nifname=br0 ifindex=7 direction=out\n";
        let map = parse(text).unwrap();
        let entry = |index, direction| Some(MapEntry { index, direction: Some(direction) });
        assert_eq!(map.get("eth0"), entry(Some(100), Direction::Ingress));
        assert_eq!(map.get("ens1"), entry(Some(200), Direction::Egress));
        assert_eq!(map.get("ppp0"), entry(None, Direction::Both));
        assert_eq!(map.get("br0"), entry(Some(7), Direction::Both));
        assert_eq!(map.get("lo"), None);
        assert_eq!(map.names().collect::<Vec<_>>(), ["br0", "ens1", "eth0", "ppp0"]);
    }

    #[test]
    fn an_alternative_name_counts_after_the_name() {
        let map = parse("ifname=wan ifindex=5\nifname=eth0 ifindex=6\n").unwrap();
        let mut interface = Interface { name: "eth1".to_owned(), ..Interface::default() };
        interface.alternative_names = vec!["transit".to_owned(), "wan".to_owned()];
        assert_eq!(map.find(&interface).and_then(|entry| entry.index), Some(5));
        "eth0".clone_into(&mut interface.name);
        assert_eq!(map.find(&interface).and_then(|entry| entry.index), Some(6));
    }

    #[test]
    fn faults_are_named_with_file_and_line() {
        for (line, reason) in [
            ("ifindex=1", "ifname is missing"),
            ("ifname=eth0 ifindex=0", "ifindex \"0\" is not a number from 1 to 2147483647"),
            ("ifname=eth0 ifindex=2147483648", "ifindex \"2147483648\" is not a number"),
            ("ifname=eth0 ifindex=x", "ifindex \"x\" is not a number"),
            ("ifname=eth0 direction=both", "direction \"both\" is neither in nor out"),
            ("ifname=eth0 speed=1", "unknown key \"speed\"; the keys are ifname, ifindex and direction"),
            ("ifname=eth0 eth1", "\"eth1\" is not KEY=VALUE"),
            ("ifname= ifindex=1", "\"ifname=\" is not KEY=VALUE"),
            ("ifname=eth0 ifname=eth1", "ifname is given twice"),
            ("ifname=eth*", "a pattern is not possible here"),
            ("ifname=good ifindex=10", "ifindex was 9 in an earlier line"),
        ] {
            let text = parse(&format!("! numbers\nifname=good ifindex=9\n{line}\n")).unwrap_err();
            assert!(text.starts_with("interfaces.map:3: ") && text.contains(reason), "{text}");
        }
        let missing = InterfacesMap::read(Path::new("/nonexistent/interfaces.map")).unwrap_err();
        assert!(missing.to_string().starts_with("/nonexistent/interfaces.map: No such file"), "{missing}");
    }
}
