//! What to do when interfaces come, go or change: compares them with what is captured, and does nothing itself.
//!
//! An interface is known by its index. A name only says whether it is wanted: if another interface carries
//! the name now, capture moves there.

use std::collections::BTreeMap;

use super::inventory::{AttachedXdp, Interface, LinkState};
use super::monitor::Snapshot;
use super::settings::{InterfaceRules, InterfaceSettings};

/// Something to do, or to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Capture on an interface. If that is not possible, tell [`Plan::failed`].
    Start {
        /// The interface.
        interface: Interface,
        /// How.
        settings: InterfaceSettings,
    },
    /// Capture no longer on an interface.
    Stop {
        /// Its index.
        index: u32,
        /// The name under which it was captured.
        name: String,
        /// Why.
        reason: StopReason,
    },
    /// An interface has another name, and is captured as before.
    Rename {
        /// Its index.
        index: u32,
        /// Name so far.
        old: String,
        /// Name now.
        new: String,
    },
    /// An interface is captured as before, with other settings that need no new attachment.
    Adjust {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// The settings.
        settings: InterfaceSettings,
    },
    /// An interface has another description.
    Describe {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// The description; may be empty.
        description: String,
    },
    /// An interface carries packets again, or no longer. There is nothing to do: it stays attached.
    State {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// Whether it carries packets.
        state: LinkState,
    },
}

/// Why capture on an interface ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was deleted or moved to another network namespace; whatever was attached went with it.
    Gone,
    /// Its new name or kind is not asked for.
    NotWanted,
    /// It is captured in another way from now on.
    OtherSettings,
}

/// What is captured, and what should be.
#[derive(Debug)]
pub struct Plan {
    rules: InterfaceRules,
    captured: BTreeMap<u32, Captured>,
}

#[derive(Debug)]
struct Captured {
    name: String,
    description: String,
    state: LinkState,
    settings: InterfaceSettings,
    /// It could not be started when this was so.
    failed: Option<Circumstances>,
}

/// What may decide whether an interface can be captured.
#[derive(Debug, PartialEq, Eq)]
struct Circumstances {
    name: String,
    state: LinkState,
    mtu: u32,
    master: Option<u32>,
    xdp: Vec<AttachedXdp>,
    settings: InterfaceSettings,
}

impl Plan {
    /// Nothing is captured yet.
    #[must_use]
    pub fn new(rules: InterfaceRules) -> Self {
        Self { rules, captured: BTreeMap::new() }
    }

    /// Other rules, from the next [`update`](Self::update) on.
    pub fn set_rules(&mut self, rules: InterfaceRules) {
        self.rules = rules;
    }

    /// Names that were asked for and that no interface has.
    pub fn missing<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a str> {
        self.rules.selection.missing(&snapshot.interfaces)
    }

    /// Indexes of the interfaces that are captured.
    pub fn captured(&self) -> impl Iterator<Item = u32> {
        self.captured.iter().filter(|(_, captured)| captured.failed.is_none()).map(|(index, _)| *index)
    }

    /// An interface could not be started. It is tried again when it has changed in a way that may matter.
    pub fn failed(&mut self, interface: &Interface) {
        if let Some(captured) = self.captured.get_mut(&interface.index) {
            captured.failed = Some(Circumstances::of(interface, &captured.settings));
        }
    }

    /// What to do now: first what ends, then what changes, then what begins; each by index.
    #[must_use]
    pub fn update(&mut self, snapshot: &Snapshot) -> Vec<Action> {
        let (mut ends, mut changes, mut begins) = (Vec::new(), Vec::new(), Vec::new());
        let present: BTreeMap<u32, &Interface> =
            snapshot.interfaces.iter().map(|interface| (interface.index, interface)).collect();
        let mut kept = BTreeMap::new();
        for (index, captured) in std::mem::take(&mut self.captured) {
            let interface = present.get(&index).filter(|_| !snapshot.gone.contains(&index));
            let reason = match interface {
                None => StopReason::Gone,
                Some(interface) if !self.rules.selection.matches(interface) => StopReason::NotWanted,
                Some(interface) => match captured.follow(interface, &self.rules, &mut changes) {
                    Ok(captured) => {
                        kept.insert(index, captured);
                        continue;
                    }
                    Err(Again { name, is_captured }) => {
                        if is_captured {
                            ends.push(Action::Stop { index, name, reason: StopReason::OtherSettings });
                        }
                        continue;
                    }
                },
            };
            if captured.failed.is_none() {
                ends.push(Action::Stop { index, name: captured.name, reason });
            }
        }
        self.captured = kept;
        for (index, interface) in present {
            if self.rules.selection.matches(interface) && !self.captured.contains_key(&index) {
                let settings = self.rules.settings(interface);
                self.captured.insert(index, Captured::new(interface, settings.clone()));
                begins.push(Action::Start { interface: interface.clone(), settings });
            }
        }
        ends.into_iter().chain(changes).chain(begins).collect()
    }
}

/// An interface has to be started again.
struct Again {
    name: String,
    is_captured: bool,
}

impl Captured {
    fn new(interface: &Interface, settings: InterfaceSettings) -> Self {
        Self {
            name: interface.name.clone(),
            description: interface.description.clone(),
            state: interface.state(),
            settings,
            failed: None,
        }
    }

    /// Notes what has changed, or says that capture has to begin anew.
    fn follow(
        self,
        interface: &Interface,
        rules: &InterfaceRules,
        changes: &mut Vec<Action>,
    ) -> Result<Self, Again> {
        let settings = rules.settings(interface);
        if let Some(failed) = &self.failed {
            return if *failed == Circumstances::of(interface, &settings) {
                Ok(self)
            } else {
                Err(Again { name: self.name, is_captured: false })
            };
        }
        if !settings.is_attached_as(&self.settings) {
            return Err(Again { name: self.name, is_captured: true });
        }
        let (index, name) = (interface.index, &interface.name);
        if *name != self.name {
            changes.push(Action::Rename { index, old: self.name, new: name.clone() });
        }
        if settings != self.settings {
            changes.push(Action::Adjust { index, name: name.clone(), settings: settings.clone() });
        }
        if interface.description != self.description {
            let description = interface.description.clone();
            changes.push(Action::Describe { index, name: name.clone(), description });
        }
        if interface.state() != self.state {
            changes.push(Action::State { index, name: name.clone(), state: interface.state() });
        }
        Ok(Self::new(interface, settings))
    }
}

impl Circumstances {
    fn of(interface: &Interface, settings: &InterfaceSettings) -> Self {
        Self {
            name: interface.name.clone(),
            state: interface.state(),
            mtu: interface.mtu,
            master: interface.master,
            xdp: interface.xdp.clone(),
            settings: settings.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
