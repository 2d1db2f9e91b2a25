//! Sequences an operator would recognise, and any sequence against a slow model.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::super::map::InterfacesMap;
use super::super::settings::{Direction, Hook, InterfaceOverride, Mode, Sampling};
use super::*;

fn link(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        link_layer_type: libc::ARPHRD_ETHER,
        flags: (libc::IFF_UP | libc::IFF_RUNNING) as u32,
        mtu: 1500,
        ..Interface::default()
    }
}

fn rules(entries: &[&str]) -> InterfaceRules {
    let mut rules = InterfaceRules::default();
    for entry in entries {
        rules.selection.add(entry).unwrap();
    }
    rules
}

fn override_of(name: &str) -> InterfaceOverride {
    InterfaceOverride {
        name: name.parse().unwrap(),
        mode: Mode::Flow,
        direction: None,
        egress_packets: None,
        hook: None,
        sampling_interval: None,
        sampling_method: None,
        header_sampling_interval: None,
        index: None,
        i_know_this_steals: false,
        router_macs: Vec::new(),
    }
}

fn update(plan: &mut Plan, links: &[Interface]) -> Vec<String> {
    update_with_gone(plan, links, &[])
}

fn update_with_gone(plan: &mut Plan, links: &[Interface], gone: &[u32]) -> Vec<String> {
    let snapshot = Snapshot { interfaces: links.to_vec(), gone: gone.iter().copied().collect() };
    plan.update(&snapshot).iter().map(text).collect()
}

fn text(action: &Action) -> String {
    match action {
        Action::Start { interface, .. } => format!("start {} {}", interface.index, interface.name),
        Action::Stop { index, name, reason } => format!("stop {index} {name} {reason:?}"),
        Action::Rename { index, old, new } => format!("rename {index} {old} {new}"),
        Action::Adjust { index, name, settings } => {
            format!("adjust {index} {name} 1 in {}", settings.sampling.interval)
        }
        Action::Describe { index, name, description } => format!("describe {index} {name} {description}"),
        Action::State { index, name, state } => format!("state {index} {name} {state:?}"),
    }
}

#[test]
fn a_link_that_comes_later_is_started_and_one_that_goes_is_stopped() {
    let mut plan = Plan::new(rules(&["eth0", "ppp*"]));
    let snapshot = Snapshot { interfaces: vec![link(1, "lo")], ..Snapshot::default() };
    assert_eq!(plan.missing(&snapshot).collect::<Vec<_>>(), ["eth0"]);
    assert_eq!(update(&mut plan, &[link(1, "lo")]), [""; 0]);
    assert_eq!(update(&mut plan, &[link(2, "eth0"), link(5, "ppp0")]), ["start 2 eth0", "start 5 ppp0"]);
    assert_eq!(update(&mut plan, &[link(2, "eth0"), link(5, "ppp0")]), [""; 0]);
    assert_eq!(plan.captured().collect::<Vec<_>>(), [2, 5]);
    assert_eq!(update(&mut plan, &[link(2, "eth0")]), ["stop 5 ppp0 Gone"]);
}

#[test]
fn a_link_made_again_under_the_same_name_is_stopped_and_started() {
    let mut plan = Plan::new(rules(&["eth0"]));
    assert_eq!(update(&mut plan, &[link(4, "eth0")]), ["start 4 eth0"]);
    assert_eq!(update(&mut plan, &[link(9, "eth0")]), ["stop 4 eth0 Gone", "start 9 eth0"]);
    // Even if it got the index of the one before.
    assert_eq!(update_with_gone(&mut plan, &[link(9, "eth0")], &[9]), ["stop 9 eth0 Gone", "start 9 eth0"]);
    // One that came and went unseen changes nothing.
    assert_eq!(update_with_gone(&mut plan, &[link(9, "eth0")], &[11]), [""; 0]);
}

#[test]
fn a_name_that_moves_takes_capture_along() {
    let mut plan = Plan::new(rules(&["wan"]));
    assert_eq!(update(&mut plan, &[link(2, "wan"), link(3, "spare")]), ["start 2 wan"]);
    assert_eq!(
        update(&mut plan, &[link(2, "broken"), link(3, "wan")]),
        ["stop 2 wan NotWanted", "start 3 wan"]
    );
}

#[test]
fn a_renamed_link_stays_captured_while_it_is_wanted() {
    let mut plan = Plan::new(rules(&["eth*", "!eth9"]));
    assert_eq!(update(&mut plan, &[link(2, "eth0"), link(3, "eth1")]), ["start 2 eth0", "start 3 eth1"]);
    assert_eq!(
        update(&mut plan, &[link(2, "eth1"), link(3, "eth0")]),
        ["rename 2 eth0 eth1", "rename 3 eth1 eth0"]
    );
    assert_eq!(
        update(&mut plan, &[link(2, "eth9"), link(3, "wan")]),
        ["stop 2 eth1 NotWanted", "stop 3 eth0 NotWanted"]
    );
    assert_eq!(update(&mut plan, &[link(2, "eth9"), link(3, "eth3")]), ["start 3 eth3"]);
    // It keeps being called what it was called.
    let mut known = link(3, "uplink");
    known.alternative_names = vec!["eth3".to_owned()];
    let mut plan = Plan::new(rules(&["eth3"]));
    assert_eq!(update(&mut plan, &[link(3, "eth3")]), ["start 3 eth3"]);
    assert_eq!(update(&mut plan, &[known]), ["rename 3 eth3 uplink"]);
}

#[test]
fn down_and_up_and_descriptions_are_only_told() {
    let mut plan = Plan::new(rules(&["physical"]));
    let mut eth0 = link(2, "eth0");
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["start 2 eth0"]);
    eth0.flags = 0;
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["state 2 eth0 Down"]);
    eth0.flags = libc::IFF_UP as u32;
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["state 2 eth0 NoCarrier"]);
    eth0.flags |= libc::IFF_RUNNING as u32;
    "transit".clone_into(&mut eth0.description);
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["describe 2 eth0 transit", "state 2 eth0 Up"]);
    eth0.mtu = 9000;
    assert_eq!(update(&mut plan, &[eth0.clone()]), [""; 0]);
    eth0.kind = Some("bond".to_owned());
    assert_eq!(update(&mut plan, &[eth0]), ["stop 2 eth0 NotWanted"]);
}

#[test]
fn what_could_not_be_started_is_tried_again_when_it_has_changed() {
    let mut plan = Plan::new(rules(&["eth*"]));
    let mut eth0 = link(2, "eth0");
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["start 2 eth0"]);
    plan.failed(&eth0);
    assert_eq!(plan.captured().count(), 0);
    "x".clone_into(&mut eth0.description);
    assert_eq!(update(&mut plan, &[eth0.clone()]), [""; 0]);
    eth0.mtu = 1400;
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["start 2 eth0"]);
    plan.failed(&eth0);
    "eth1".clone_into(&mut eth0.name);
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["start 2 eth1"]);
    plan.failed(&eth0);
    // It was never captured, so there is nothing to stop.
    assert_eq!(update(&mut plan, &[]), [""; 0]);
    assert_eq!(update(&mut plan, &[eth0.clone()]), ["start 2 eth1"]);
    plan.failed(&eth0);
    assert_eq!(update_with_gone(&mut plan, &[eth0], &[2]), ["start 2 eth1"]);
}

#[test]
fn settings_go_with_the_name() {
    let mut with = rules(&["eth*"]);
    with.map = InterfacesMap::parse(Path::new("map"), "ifname=eth5 ifindex=500 direction=in\n").unwrap();
    let sampled = InterfaceOverride { sampling_interval: Some(100), ..override_of("eth1") };
    let both = InterfaceOverride { direction: Some(Direction::Both), ..override_of("eth2") };
    with.overrides = vec![sampled, both];
    let mut plan = Plan::new(with.clone());
    assert_eq!(update(&mut plan, &[link(2, "eth0")]), ["start 2 eth0"]);
    assert_eq!(update(&mut plan, &[link(2, "eth1")]), ["rename 2 eth0 eth1", "adjust 2 eth1 1 in 100"]);
    assert_eq!(update(&mut plan, &[link(2, "eth2")]), ["stop 2 eth1 OtherSettings", "start 2 eth2"]);
    assert_eq!(update(&mut plan, &[link(2, "eth5")]), ["stop 2 eth2 OtherSettings", "start 2 eth5"]);
    let snapshot = Snapshot { interfaces: vec![link(2, "eth0")], ..Snapshot::default() };
    let actions = plan.update(&snapshot);
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert!(matches!(&actions[1], Action::Adjust { settings, .. } if settings.index.is_none()));

    // New rules for what is captured already.
    with.base.sampling = Sampling { interval: 7, ..Sampling::default() };
    plan.set_rules(with.clone());
    assert_eq!(update(&mut plan, &[link(2, "eth0")]), ["adjust 2 eth0 1 in 7"]);
    with.base.hook = Hook::Tc;
    plan.set_rules(with);
    assert_eq!(update(&mut plan, &[link(2, "eth0")]), ["stop 2 eth0 OtherSettings", "start 2 eth0"]);
}

/// A step of a small kernel. Indexes and names are few, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    /// A link is made, unless the index or name is taken.
    Add {
        index: u32,
        name: usize,
        is_physical: bool,
    },
    Delete {
        index: u32,
    },
    Rename {
        index: u32,
        name: usize,
    },
    Flags {
        index: u32,
        flags: u32,
    },
    Describe {
        index: u32,
        text: u8,
    },
    /// The plan is told.
    Look,
    /// The plan is told, and whatever it starts fails.
    LookAndFail,
}

const NAMES: [&str; 8] = ["eth0", "eth1", "eth9", "eth0.5", "wan", "ppp0", "ppp1", "lan"];
/// Names with `eth?`, `!eth9`, `wan` and `ppp0`, written out; `eth1` samples and `ppp0` has another hook.
const WANTED: [&str; 4] = ["eth0", "eth1", "wan", "ppp0"];

fn step() -> impl Strategy<Value = Step> {
    let (index, name) = (2_u32..7, 0..NAMES.len());
    prop_oneof![
        3 => (index.clone(), name.clone(), any::<bool>())
            .prop_map(|(index, name, is_physical)| Step::Add { index, name, is_physical }),
        2 => index.clone().prop_map(|index| Step::Delete { index }),
        2 => (index.clone(), name).prop_map(|(index, name)| Step::Rename { index, name }),
        1 => (index.clone(), 0_u32..66).prop_map(|(index, flags)| Step::Flags { index, flags }),
        1 => (index, 0_u8..3).prop_map(|(index, text)| Step::Describe { index, text }),
        4 => Just(Step::Look),
        1 => Just(Step::LookAndFail),
    ]
}

/// The kernel's side of it: links, each with a number that no other ever has.
#[derive(Default)]
struct Kernel {
    links: BTreeMap<u32, (u64, Interface)>,
    gone: BTreeSet<u32>,
    births: u64,
}

impl Kernel {
    fn is_free(&self, name: &str) -> bool {
        self.links.values().all(|(_, link)| link.name != name)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add { index, name, is_physical } => {
                if !self.links.contains_key(&index) && self.is_free(NAMES[name]) {
                    let mut new = link(index, NAMES[name]);
                    new.kind = (!is_physical).then(|| "veth".to_owned());
                    self.births += 1;
                    self.links.insert(index, (self.births, new));
                }
            }
            Step::Delete { index } => {
                if self.links.remove(&index).is_some() {
                    self.gone.insert(index);
                }
            }
            Step::Rename { index, name } => {
                if self.is_free(NAMES[name])
                    && let Some((_, link)) = self.links.get_mut(&index)
                {
                    NAMES[name].clone_into(&mut link.name);
                }
            }
            Step::Flags { index, flags } => {
                if let Some((_, link)) = self.links.get_mut(&index) {
                    link.flags = flags;
                }
            }
            Step::Describe { index, text } => {
                if let Some((_, link)) = self.links.get_mut(&index) {
                    link.description = text.to_string();
                }
            }
            Step::Look | Step::LookAndFail => {}
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let interfaces = self.links.values().map(|(_, link)| link.clone()).collect();
        Snapshot { interfaces, gone: std::mem::take(&mut self.gone) }
    }
}

/// What does as the plan says: index to the link that is attached, by birth, and what is known of it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Attached {
    birth: u64,
    name: String,
    description: String,
    settings: InterfaceSettings,
}

/// Does as the plan says; a panic if that makes no sense.
fn execute(action: Action, attached: &mut BTreeMap<u32, Attached>, kernel: &Kernel) {
    match action {
        Action::Start { interface, settings } => {
            let (birth, present) = &kernel.links[&interface.index];
            assert_eq!(*present, interface);
            let Interface { index, name, description, .. } = interface;
            let new = Attached { birth: *birth, name, description, settings };
            assert!(attached.insert(index, new).is_none(), "{index} was started twice");
        }
        Action::Stop { index, name, .. } => {
            assert_eq!(attached.remove(&index).map(|attached| attached.name), Some(name));
        }
        Action::Rename { index, old, new } => {
            let attached = attached.get_mut(&index).unwrap();
            assert_eq!(std::mem::replace(&mut attached.name, new), old);
        }
        Action::Adjust { index, settings, .. } => {
            let attached = attached.get_mut(&index).unwrap();
            assert!(settings != attached.settings && settings.is_attached_as(&attached.settings));
            attached.settings = settings;
        }
        Action::Describe { index, description, .. } => {
            attached.get_mut(&index).unwrap().description = description;
        }
        Action::State { index, state, .. } => {
            assert!(attached.contains_key(&index));
            assert_eq!(state, kernel.links[&index].1.state());
        }
    }
}

proptest! {
    #[test]
    fn after_every_look_exactly_what_is_wanted_is_attached(steps in prop::collection::vec(step(), 1..60)) {
        let mut with = rules(&["eth?", "!eth9", "wan", "ppp0"]);
        with.overrides = vec![
            InterfaceOverride { sampling_interval: Some(10), ..override_of("eth1") },
            InterfaceOverride { hook: Some(Hook::Tc), ..override_of("ppp*") },
        ];
        let mut plan = Plan::new(with.clone());
        let mut kernel = Kernel::default();
        let mut attached = BTreeMap::new();
        // Births of links whose start failed, and that have not been tried again.
        let mut failed = BTreeSet::new();
        for step in steps {
            kernel.step(&step);
            if !matches!(step, Step::Look | Step::LookAndFail) {
                continue;
            }
            for action in plan.update(&kernel.snapshot()) {
                if let Action::Start { interface, .. } = &action {
                    let birth = kernel.links[&interface.index].0;
                    if matches!(step, Step::LookAndFail) {
                        plan.failed(interface);
                        failed.insert(birth);
                        continue;
                    }
                    failed.remove(&birth);
                }
                execute(action, &mut attached, &kernel);
            }
            let model: BTreeMap<u32, Attached> = kernel
                .links
                .iter()
                .filter(|(_, (birth, link))| WANTED.contains(&link.name.as_str()) && !failed.contains(birth))
                .map(|(index, (birth, link))| {
                    let mut settings = InterfaceSettings::default();
                    if link.name == "eth1" {
                        settings.sampling.interval = 10;
                    }
                    if link.name == "ppp0" {
                        settings.hook = Hook::Tc;
                    }
                    let (name, description) = (link.name.clone(), link.description.clone());
                    (*index, Attached { birth: *birth, name, description, settings })
                })
                .collect();
            prop_assert_eq!(&attached, &model);
            prop_assert_eq!(plan.captured().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            // Nothing to do is nothing to do.
            prop_assert_eq!(plan.update(&Snapshot { gone: BTreeSet::new(), ..kernel.snapshot() }), vec![]);
        }
    }
}
