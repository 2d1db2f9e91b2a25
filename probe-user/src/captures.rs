//! The interfaces that are captured: carries out what the plan says, while packets are counted.
//!
//! Owns the kernel program and the mirror ports. Every interface in one direction is an observation point; a change of its sampling
//! makes a new point, to which packets go from one to the next, so that no flow mixes two intervals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use pathflow_common::layout::{
    INTERFACE_FLAG_LOCALLY_ORIGINATED, INTERFACE_FLAG_NO_LINK_HEADER, INTERFACE_FLAG_SAMPLING,
    OBSERVATION_POINTS, SAMPLING_DETERMINISTIC, SAMPLING_RANDOM, Sampling as KernelSampling,
};
use pathflow_exporter::{FlowDirection, InterfaceInfo, ObservationContext, Selector, SelectorAlgorithm};
use tracing::{info, warn};

use crate::capture::pin::{LinkPins, Place};
use crate::capture::xsk::{Mirror, MirrorOutput, MirrorSettings};
use crate::capture::{CaptureError, Delta, FilterSet, Hook, KernelProgram};
use crate::classify::{Classes, TapSource};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::RunError;
use crate::ethtool;
use crate::export::SharedContext;
use crate::interfaces::{
    Action, Direction, EgressPackets, Hook as WantedHook, Interface, InterfaceRules, InterfaceSettings, Mode,
    NameTable, Plan, SamplingMethod, Snapshot, StopReason, overlaps,
};
use crate::ledger::Ledger;
use crate::metering::extensions::Extensions;
use crate::metering::observation::{ObservationPoint, ObservationPoints};
use crate::metering::packets::KeySettings;
use crate::metering::shard::ShardMessage;
use crate::stop::Stop;

/// What is captured.
pub struct Captures {
    program: KernelProgram,
    rules: InterfaceRules,
    plan: Plan,
    points: Arc<ObservationPoints>,
    names: NameTable,
    context: SharedContext,
    /// By the kernel's interface index.
    attached: BTreeMap<u32, Vec<Attached>>,
    /// By the kernel's interface index, with the points of both directions.
    mirrors: BTreeMap<u32, (Mirror, [u16; 2])>,
    outlet: Outlet,
    keys: KeySettings,
    filters: FilterSet,
    drain_interval: Duration,
    random: SmallRandom,
}

/// One direction of an interface.
#[derive(Debug)]
struct Attached {
    hook: Hook,
    point: u16,
    flags: u16,
}

/// What captures share with those who make and export records.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Observation points.
    pub points: Arc<ObservationPoints>,
    /// Names and numbers of interfaces.
    pub names: NameTable,
    /// What collectors are told.
    pub context: SharedContext,
}

/// Where the workers of mirror ports put their flows.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Queues of the shards.
    pub shards: Vec<Sender<ShardMessage>>,
    /// Empty buffers that the shards are done with.
    pub pool: Receiver<Vec<Delta>>,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// What keys have beyond their words.
    pub extensions: Arc<Extensions>,
    /// Applications of flows, if anybody asks.
    pub classes: Option<Arc<Classes>>,
    /// Takes what they are found by, where packets come to user space.
    pub taps: Option<TapSource>,
    /// The clock.
    pub clock: Clock,
    /// Pulled if a worker cannot go on.
    pub stop: Stop,
}

impl Captures {
    /// Nothing is captured yet.
    #[must_use]
    pub fn new(program: KernelProgram, config: &Config, shared: Shared, outlet: Outlet, seed: u32) -> Self {
        let Shared { points, names, context } = shared;
        let rules = config.interfaces.clone();
        Self {
            program,
            plan: Plan::new(rules.clone()),
            rules,
            points,
            names,
            context,
            attached: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            outlet,
            keys: config.keys.clone(),
            filters: config.filters.clone(),
            drain_interval: config.drain_interval,
            random: SmallRandom(seed | 1),
        }
    }

    /// Links that an earlier run has pinned are taken over.
    pub fn use_pins(&mut self, pins: LinkPins) {
        self.program.use_pins(pins);
    }

    /// The kernel program, to ask it what is attached.
    #[must_use]
    pub fn program(&self) -> &KernelProgram {
        &self.program
    }

    /// It could not be started: detaches, except from links of an earlier run.
    pub fn give_up(mut self) {
        self.end_mirrors();
        self.program.give_up();
    }

    /// Captures what is there at the start.
    ///
    /// # Errors
    /// [`RunError`] if an interface cannot be captured.
    pub fn start(&mut self, snapshot: &Snapshot) -> Result<(), RunError> {
        self.names.update(&snapshot.interfaces, &self.rules);
        for action in self.plan.update(snapshot) {
            if let Action::Start { interface, settings } = action {
                self.capture(&interface, &settings)?;
            }
        }
        self.publish();
        let is_captured = |interface: &Interface| {
            self.attached.contains_key(&interface.index) || self.mirrors.contains_key(&interface.index)
        };
        for (upper, lower) in overlaps(&snapshot.interfaces, is_captured) {
            warn!(
                "{} lies on {}, and both are captured: packets that go through both are counted twice",
                upper.name, lower.name
            );
        }
        Ok(())
    }

    /// Other rules, from the next [`follow`](Self::follow) on.
    pub fn set_rules(&mut self, rules: InterfaceRules) {
        self.rules = rules.clone();
        self.plan.set_rules(rules);
    }

    /// Follows the interfaces: what fails is said, and the others go on.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        self.names.update(&snapshot.interfaces, &self.rules);
        for action in self.plan.update(snapshot) {
            match action {
                Action::Start { interface, settings } => {
                    if let Err(error) = self.capture(&interface, &settings) {
                        warn!("{error}; it is tried again when the interface changes");
                        self.plan.failed(&interface);
                    }
                }
                Action::Stop { index, name, reason } => {
                    let why = match reason {
                        StopReason::Gone => "it is gone",
                        StopReason::NotWanted => "it is not asked for any more",
                        StopReason::OtherSettings => "it has other settings",
                    };
                    info!("no longer capturing on {name} (index {index}): {why}");
                    self.stop(index);
                }
                Action::Rename { index, old, new } => {
                    info!("{old} (index {index}) is called {new} now");
                    for attached in self.attached.get(&index).into_iter().flatten() {
                        self.points.rename(attached.point, &new);
                        self.describe(attached.point);
                    }
                    for point in self.mirrors.get(&index).into_iter().flat_map(|(_, points)| points) {
                        self.points.rename(*point, &new);
                    }
                }
                Action::Adjust { index, name, settings } => {
                    if let Err(error) = self.adjust(index, &name, &settings) {
                        warn!("{error}; it is captured as before");
                    }
                }
                Action::Describe { name, description, .. } => {
                    info!("{name} is described as {description:?} now");
                }
                Action::State { name, state, .. } => info!("{name} is {state} now"),
            }
        }
        self.publish();
    }

    /// Detaches from everything that is not pinned, and ends the workers of mirror ports. The tables stay, to be
    /// drained.
    pub fn end(mut self) {
        self.program.detach_all();
        self.end_mirrors();
    }

    fn end_mirrors(&mut self) {
        for (mirror, _) in std::mem::take(&mut self.mirrors).into_values() {
            mirror.stop();
        }
    }

    fn capture(&mut self, interface: &Interface, settings: &InterfaceSettings) -> Result<(), RunError> {
        if settings.mode == Mode::Mirror {
            return self.capture_mirror(interface, settings);
        }
        let has_link_header = matches!(interface.link_layer_type, ARPHRD_ETHER | ARPHRD_LOOPBACK);
        let mut flags = if has_link_header { 0 } else { INTERFACE_FLAG_NO_LINK_HEADER };
        if matches!(settings.direction, Direction::Ingress | Direction::Both) {
            self.capture_ingress(interface, settings, flags, has_link_header)?;
        }
        if matches!(settings.direction, Direction::Egress | Direction::Both) {
            if settings.egress_packets == EgressPackets::LocallyOriginated {
                flags |= INTERFACE_FLAG_LOCALLY_ORIGINATED;
            }
            if let Err(error) = self.attach(interface, settings, Hook::TcEgress, flags) {
                self.stop(interface.index);
                return Err(error.into());
            }
        }
        say_what_hides_packets(interface, self.attached.get(&interface.index).into_iter().flatten());
        Ok(())
    }

    /// Both directions of a mirror come in; by whose frames they are they go to one point or the other.
    fn capture_mirror(
        &mut self,
        interface: &Interface,
        settings: &InterfaceSettings,
    ) -> Result<(), RunError> {
        let mut points = [0; 2];
        for (number, direction) in points.iter_mut().zip([FlowDirection::Ingress, FlowDirection::Egress]) {
            let point = ObservationPoint {
                interface: interface.index,
                name: interface.name.clone(),
                direction,
                sampling_interval: 1,
                algorithm: SelectorAlgorithm::Random,
                header_sampling_interval: 0,
                has_link_header: true,
            };
            let point = self.points.add(point, |number| self.outlet.ledger.has_no_flow(number));
            *number = point.ok_or(CaptureError::TooManyInterfaces { limit: OBSERVATION_POINTS - 1 })?;
        }
        let Outlet { shards, pool, ledger, extensions, classes, taps, clock, stop } = self.outlet.clone();
        let [ingress_point, egress_point] = points;
        let output = MirrorOutput {
            ingress_point,
            egress_point,
            shards,
            pool,
            ledger,
            keys: self.keys.clone(),
            extensions,
            classes,
            taps,
            filters: self.filters.clone(),
            clock,
            stop,
        };
        let mirror_settings = MirrorSettings {
            i_know_this_steals: settings.i_know_this_steals,
            router_macs: settings.router_macs.iter().map(|mac| mac.0).collect(),
            drain_interval: self.drain_interval,
            ..MirrorSettings::new(interface.name.clone(), interface.index)
        };
        match Mirror::start(&mirror_settings, &output) {
            Ok(mirror) => {
                let how = mirror.description();
                info!("capturing on {} (index {}), {how}", interface.name, interface.index);
                self.mirrors.insert(interface.index, (mirror, points));
                Ok(())
            }
            Err(error) => {
                for point in points {
                    self.points.retire(point);
                }
                Err(error.into())
            }
        }
    }

    fn capture_ingress(
        &mut self,
        interface: &Interface,
        settings: &InterfaceSettings,
        flags: u16,
        has_link_header: bool,
    ) -> Result<(), CaptureError> {
        let name = &interface.name;
        // Where an earlier run counts, there is no gap.
        let wanted = match (settings.hook, self.program.pinned_hook(interface.index, false)) {
            (WantedHook::Auto, Some(Hook::TcIngress)) => WantedHook::Tc,
            (wanted, _) => wanted,
        };
        if !has_link_header && matches!(wanted, WantedHook::Auto | WantedHook::Tc) {
            // XDP on such an interface sees no packets, or is given a header that is none.
            return self.attach(interface, settings, Hook::TcIngress, flags);
        }
        match wanted {
            WantedHook::Xdp => self.attach(interface, settings, Hook::XdpNative, flags),
            WantedHook::Tc => self.attach(interface, settings, Hook::TcIngress, flags),
            WantedHook::Generic => {
                warn!("{name}: generic XDP as asked for: packets that were merged are counted as one");
                self.attach(interface, settings, Hook::XdpGeneric, flags)
            }
            WantedHook::Auto => match self.attach(interface, settings, Hook::XdpNative, flags) {
                // Another pathflow counts these packets already.
                Err(error @ CaptureError::Busy { .. }) if error.is_pathflow() => Err(error),
                Err(CaptureError::Busy { program, .. }) => {
                    warn!(
                        "{name}: {program} is attached already and stays; counting at tc ingress, where packets \
                         that it drops or redirects are not seen"
                    );
                    self.attach(interface, settings, Hook::TcIngress, flags)
                }
                Err(CaptureError::NoNativeXdp { reason, .. }) => {
                    warn!("{name}: no native XDP ({reason}); counting at tc ingress");
                    self.attach(interface, settings, Hook::TcIngress, flags)
                }
                result => result,
            },
        }
    }

    fn attach(
        &mut self,
        interface: &Interface,
        settings: &InterfaceSettings,
        hook: Hook,
        flags: u16,
    ) -> Result<(), CaptureError> {
        let (point, sampled) = self.add_point(interface.index, &interface.name, (hook, flags), settings)?;
        let register = self.program.register(interface.index, hook.is_egress(), point, flags | sampled);
        let attach = register.and_then(|()| self.program.attach(&interface.name, interface.index, hook));
        if let Err(error) = attach {
            self.program.unregister(interface.index, hook.is_egress());
            self.points.retire(point);
            return Err(error);
        }
        self.attached.entry(interface.index).or_default().push(Attached { hook, point, flags });
        info!("capturing on {} (index {}), {}", interface.name, interface.index, hook.as_str());
        Ok(())
    }

    /// Makes an observation point and sets its sampling.
    fn add_point(
        &mut self,
        index: u32,
        name: &str,
        (hook, flags): (Hook, u16),
        settings: &InterfaceSettings,
    ) -> Result<(u16, u16), CaptureError> {
        let interval = settings.sampling.interval.max(1);
        let header_interval = settings.header_sampling_interval.unwrap_or(0);
        let point = ObservationPoint {
            interface: index,
            name: name.to_owned(),
            direction: if hook.is_egress() { FlowDirection::Egress } else { FlowDirection::Ingress },
            sampling_interval: interval,
            algorithm: match settings.sampling.method {
                SamplingMethod::Random => SelectorAlgorithm::Random,
                SamplingMethod::Deterministic => SelectorAlgorithm::Systematic,
            },
            header_sampling_interval: header_interval,
            has_link_header: flags & INTERFACE_FLAG_NO_LINK_HEADER == 0,
        };
        let point = self.points.add(point, |number| self.outlet.ledger.has_no_flow(number));
        let point = point.ok_or(CaptureError::TooManyInterfaces { limit: OBSERVATION_POINTS - 1 })?;
        self.describe(point);
        if interval == 1 && header_interval == 0 {
            return Ok((point, 0));
        }
        let sampling = KernelSampling {
            interval,
            algorithm: match settings.sampling.method {
                SamplingMethod::Random => SAMPLING_RANDOM,
                SamplingMethod::Deterministic => SAMPLING_DETERMINISTIC,
            },
            header_interval,
            reserved: 0,
        };
        let random = &mut self.random;
        self.program.set_sampling(point, sampling, |interval| random.below(interval));
        Ok((point, INTERFACE_FLAG_SAMPLING))
    }

    /// Says what a point is, for a later run.
    fn describe(&self, number: u16) {
        let table = self.points.table();
        let Some(point) = table.get(number) else { return };
        let place = Place {
            interface: point.interface,
            sampling_interval: point.sampling_interval,
            is_egress: u32::from(point.direction == FlowDirection::Egress),
            is_systematic: u16::from(point.algorithm == SelectorAlgorithm::Systematic),
            lacks_link_header: u16::from(!point.has_link_header),
            name: Place::name_octets(&point.name),
        };
        self.program.describe(number, place);
    }

    /// Changes the sampling of an interface: packets go to a new point from one to the next.
    fn adjust(&mut self, index: u32, name: &str, settings: &InterfaceSettings) -> Result<(), CaptureError> {
        let Some(mut attached) = self.attached.remove(&index) else { return Ok(()) };
        let mut result = Ok(());
        for one in &mut attached {
            let changed =
                self.add_point(index, name, (one.hook, one.flags), settings).and_then(|(point, sampled)| {
                    self.program.register(index, one.hook.is_egress(), point, one.flags | sampled)?;
                    Ok(point)
                });
            match changed {
                Ok(point) => {
                    self.points.retire(one.point);
                    one.point = point;
                    info!(
                        "{name}: {} counts one packet in {} now",
                        one.hook.as_str(),
                        settings.sampling.interval
                    );
                }
                Err(error) => result = Err(error),
            }
        }
        self.attached.insert(index, attached);
        result
    }

    fn stop(&mut self, index: u32) {
        for Attached { hook, point, .. } in self.attached.remove(&index).into_iter().flatten() {
            self.program.detach(index, hook);
            self.program.unregister(index, hook.is_egress());
            self.points.retire(point);
        }
        if let Some((mirror, points)) = self.mirrors.remove(&index) {
            mirror.stop();
            for point in points {
                self.points.retire(point);
            }
        }
    }

    /// Tells those who export which interfaces and selectors there are.
    fn publish(&self) {
        let names = self.names.load();
        let interfaces = names
            .iter()
            .map(|interface| InterfaceInfo {
                index: interface.number,
                name: interface.name.clone(),
                description: interface.description.clone(),
                vlan_id: interface.vlan_id,
            })
            .collect();
        let table = self.points.table();
        let selectors = table
            .sampled()
            .map(|(number, point)| Selector {
                id: number,
                interface: names.number(point.interface),
                direction: point.direction,
                algorithm: point.algorithm,
                interval: point.sampling_interval,
            })
            .collect();
        self.context.replace(ObservationContext { interfaces, selectors });
    }
}

/// `ARPHRD_ETHER`: frames start with an Ethernet header.
const ARPHRD_ETHER: u16 = 1;
/// `ARPHRD_LOOPBACK`: so do those of the loopback interface.
const ARPHRD_LOOPBACK: u16 = 772;

/// Says what the hardware does to packets before they are counted.
fn say_what_hides_packets<'a>(interface: &Interface, attached: impl Iterator<Item = &'a Attached>) {
    let name = &interface.name;
    if !attached.into_iter().any(|one| one.hook == Hook::XdpNative) {
        return;
    }
    // A driver that cannot be asked has neither.
    if ethtool::vlan_stripping(name).unwrap_or(false) {
        warn!(
            "{name} takes VLAN tags out of frames before XDP sees them, so flows have no VLAN: \
             ethtool -K {name} rxvlan off stops it, hook = \"tc\" sees them all the same"
        );
    }
    let merging = ethtool::merges_packets(name).unwrap_or_default();
    if !merging.is_empty() {
        warn!(
            "{name} merges packets before XDP sees them, which are then counted as one ({}): \
             ethtool -K {name} lro off rx-gro-hw off stops it",
            merging.join(", ")
        );
    }
}

/// Numbers for the first distances of sampling: they need to be unlike each other, not unpredictable.
#[derive(Debug)]
struct SmallRandom(u32);

impl SmallRandom {
    fn below(&mut self, limit: u32) -> u32 {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit.max(1)
    }
}
