//! What earlier, pinned runs have left: what the kernel counted since then becomes this run's, and what was
//! lost with a run that was killed gets its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use pathflow_common::layout::PointCounters;
use pathflow_exporter::{FlowDirection, SelectorAlgorithm};
use tracing::{info, warn};

use crate::capture::pin::{CrashLosses, Former, Missing, Pins, Place, Untaken, add_losses};
use crate::capture::{CaptureError, Delta, Epochs, ExtensionNumbers, TickTime};
use crate::captures::Captures;
use crate::clock::Clock;
use crate::interfaces::Interface;
use crate::ledger::{Amount, Ledger};
use crate::metering::batches::Batches;
use crate::metering::drain::DrainContext;
use crate::metering::fragments::{Held, HeldFragments};
use crate::metering::observation::{ObservationPoint, ObservationPoints};
use crate::metering::shard::ShardMessage;

/// Interfaces as earlier runs knew them. Some may be gone.
#[must_use]
pub fn interfaces(pins: &Pins) -> Vec<Interface> {
    let places = pins.formers().iter().flat_map(Former::places).flatten();
    places
        .map(|place| Interface { index: place.interface, name: place.name(), ..Interface::default() })
        .collect()
}

/// Takes over what earlier runs have left. Whatever is wanted is attached by now.
///
/// # Errors
/// If the kernel refuses to say when nobody writes to their tables any more, or what is pinned.
pub fn adopt(
    pins: &mut Pins,
    captures: &Captures,
    epochs: &mut Epochs,
    points: &ObservationPoints,
    context: &DrainContext,
    clock: Clock,
) -> Result<(), CaptureError> {
    pins.remove_links(|interface, hook| captures.program().is_attached(interface, hook))?;
    // From here on, every packet meets this run's program, or none.
    epochs.wait()?;
    let DrainContext { shards, pool, ledger, extensions, .. } = context.clone();
    let mut extensions = ExtensionNumbers::new(extensions);
    let mut batches = Batches::new(shards, pool, Arc::clone(&ledger));
    // The caches learn what time it is before the first flow comes.
    batches.tell(ShardMessage::Expire, clock.read());
    for former in pins.formers() {
        let untaken = former.untaken();
        let (own, mut losses) = pins.losses(former);
        add_losses(&mut losses, &own);
        let counted = Points::of(&untaken);
        say(former, &own, counted.total());
        pins.take_over(former, &untaken, &losses, &ledger);
        // From here on it is this run's: what is not delivered is missing from its own accounts.
        let numbers = counted.numbers(former, captures, points, &ledger);
        let missing = pins.missing(former);
        extensions.set_missing(missing.clone());
        let lacking = drain(former, &untaken, (&numbers, &missing), &mut extensions, &mut batches);
        if lacking > 0 {
            warn!(
                "of these, {lacking} packets are in rows without {}: the last run was not asked for it, or counted \
                 something else in its place",
                missing.text()
            );
        }
        batches.send_all();
        numbers.retire(points);
    }
    pins.forget_formers();
    Ok(())
}

fn say(former: &Former, own: &CrashLosses, counted: Amount) {
    let Amount { packets, octets } = counted;
    if former.has_ended() {
        info!(
            "going on where the last run ended: {packets} packets ({octets} octets) were counted meanwhile"
        );
        return;
    }
    info!("the last run was killed: {packets} packets ({octets} octets) were counted since it last drained");
    for (sink, loss) in own {
        let Amount { packets, octets } = loss.lost;
        if packets == 0 {
            info!("the last run was killed: {sink} got all that it had drained");
        } else {
            warn!(
                "the last run was killed: {packets} packets ({octets} octets) drained but not exported to \
                 {sink} are lost; {} of them were being sent and may have arrived",
                loss.doubtful.packets
            );
        }
    }
}

/// What was counted, by observation point of the run that did.
struct Points(Vec<(u16, Amount)>);

impl Points {
    fn of(untaken: &[Untaken]) -> Self {
        let mut points: Vec<(u16, Amount)> = Vec::new();
        for (number, counters) in untaken.iter().flat_map(|one| &one.counters) {
            match points.iter_mut().find(|(found, _)| found == number) {
                Some((_, sum)) => sum.add(counters.seen.into()),
                None => points.push((*number, counters.seen.into())),
            }
        }
        Self(points)
    }

    fn total(&self) -> Amount {
        self.0.iter().fold(Amount::default(), |mut sum, (_, amount)| {
            sum.add(*amount);
            sum
        })
    }

    /// What these points are now: an interface that was counted all the time keeps its point, and others get
    /// one for as long as it takes to make records.
    fn numbers(
        &self,
        former: &Former,
        captures: &Captures,
        points: &ObservationPoints,
        ledger: &Ledger,
    ) -> Numbers {
        let places = former.places();
        let mut numbers = Numbers { by_old: Vec::new(), made: Vec::new() };
        for (old, amount) in &self.0 {
            let Some(place) = places.get(*old as usize).copied().flatten() else { continue };
            let point = observation_point(&place);
            let goes_on = captures.program().is_continued(place.interface, place.is_egress != 0);
            let table = points.table();
            let same = table.in_use().find(|(_, present)| {
                // What was sampled for sFlow is in no table, so it makes no difference here.
                let named = ObservationPoint {
                    name: present.name.clone(),
                    header_sampling_interval: present.header_sampling_interval,
                    ..point.clone()
                };
                goes_on && named == **present
            });
            let new = if let Some((number, _)) = same {
                Some(number)
            } else {
                info!(
                    "{} packets were counted on {} (index {}, {}), which is gone or is counted in another way now",
                    amount.packets,
                    point.name,
                    point.interface,
                    point.direction.as_str()
                );
                let made = points.add(point, |number| ledger.has_no_flow(number));
                numbers.made.extend(made);
                made
            };
            // Without a number left, they are packets of an interface that is not registered.
            numbers.by_old.push((*old, new.unwrap_or(0)));
        }
        numbers
    }
}

fn observation_point(place: &Place) -> ObservationPoint {
    ObservationPoint {
        interface: place.interface,
        name: place.name(),
        direction: if place.is_egress == 0 { FlowDirection::Ingress } else { FlowDirection::Egress },
        sampling_interval: place.sampling_interval,
        algorithm: match place.is_systematic {
            0 => SelectorAlgorithm::Random,
            _ => SelectorAlgorithm::Systematic,
        },
        header_sampling_interval: 0,
        has_link_header: place.lacks_link_header == 0,
    }
}

/// Numbers of observation points, then and now.
struct Numbers {
    by_old: Vec<(u16, u16)>,
    /// Those that nothing is counted at any more.
    made: Vec<u16>,
}

impl Numbers {
    fn new_of(&self, old: u16) -> u16 {
        self.by_old.iter().find(|(number, _)| *number == old).map_or(0, |(_, new)| *new)
    }

    fn retire(&self, points: &ObservationPoints) {
        self.made.iter().for_each(|number| points.retire(*number));
    }
}

/// Returns how many packets lack something that rows say.
fn drain(
    former: &Former,
    untaken: &[Untaken],
    (numbers, missing): (&Numbers, &Missing),
    extensions: &mut ExtensionNumbers,
    batches: &mut Batches,
) -> u64 {
    let mut lacking: BTreeMap<u16, u64> = BTreeMap::new();
    let tables = former.tables();
    let mut fragments = HeldFragments::default();
    let mut ticks: Option<TickTime> = None;
    for Untaken { position, epoch, counters } in untaken {
        let counters: Vec<(u16, PointCounters)> =
            counters.iter().map(|(old, counters)| (numbers.new_of(*old), *counters)).collect();
        batches.ledger().seen_in_tables(&counters);
        let drained = tables.drain(*epoch, *position, extensions, |delta| {
            let old = delta.key.fields().observation_point;
            if missing.concerns(&delta.key) {
                *lacking.entry(numbers.new_of(old)).or_default() += delta.packets;
            }
            // Filters had other numbers then, or were others.
            let key = delta.key.with_observation_point(numbers.new_of(old)).with_filter_results_of(0);
            let delta = Delta { key, ..delta };
            match fragments.hold(delta) {
                Held::Complete(delta) => batches.push_and_send(delta),
                Held::WithoutPorts(delta) => {
                    batches.fragments_without_ports(&delta);
                    batches.push_and_send(delta);
                }
                Held::Waiting => {}
            }
        });
        let without = extensions.take_without();
        batches.ledger().without_extension(without.map(|(old, packets)| (numbers.new_of(old), packets)));
        ticks = drained.ticks.or(ticks);
    }
    fragments.release(
        u64::MAX,
        |datagram, time| tables.datagram_ports(datagram, ticks?, time),
        |delta, without_ports| {
            if without_ports {
                batches.fragments_without_ports(&delta);
            }
            batches.push_and_send(delta);
        },
    );
    let sum = lacking.values().sum();
    batches.ledger().without_extension(lacking);
    sum
}
