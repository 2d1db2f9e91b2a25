//! The Agent: fills datagrams with samples, sends them, and accounts for every sample.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::account::{SampleAccount, SampleTally};
use super::counters::InterfaceCounters;
use super::encode::{self, DatagramHeader};
use super::sample::FlowSample;
use crate::account::{LossReason, SendErrorKind};
use crate::exporting_process::ExportEvent;
use crate::time::ExportTime;
use crate::transport::{Report, SendOutcome, Transport};

/// Attempts to send a datagram before it is given up.
const MAX_ATTEMPTS: usize = 4;
/// How often the path MTU is read anew.
const PATH_MTU_INTERVAL: Duration = Duration::from_secs(30);
/// Events that are kept for the caller at most.
const MAX_EVENTS: usize = 16;
/// Without an error for this long while datagrams are sent, a collector that refused is back. Hosts limit how often
/// they say that they refuse, so the next send alone proves nothing.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// How an Agent presents itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Address of the device: what collectors know it by.
    pub agent_address: IpAddr,
    /// Tells several Agents of one address apart.
    pub sub_agent_id: u32,
    /// Largest datagram, in octets of UDP payload. It is smaller where the path carries less.
    pub max_datagram: usize,
    /// How long a sample may wait for others to fill its datagram.
    pub max_delay: Duration,
}

impl AgentSettings {
    /// The least `max_datagram`: a flow sample with a header of 132 octets and no gateway record fits.
    pub const MIN_DATAGRAM: usize = 400;

    /// With this address, sub-agent 0, datagrams of 1,400 octets and a delay of one second at most.
    #[must_use]
    pub const fn new(agent_address: IpAddr) -> Self {
        Self { agent_address, sub_agent_id: 0, max_datagram: 1400, max_delay: Duration::from_secs(1) }
    }
}

/// The settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentSettingsError {
    /// `max_datagram` is below [`AgentSettings::MIN_DATAGRAM`].
    #[error(
        "sFlow datagrams of {max_datagram} octets are too small; at least {} are needed",
        AgentSettings::MIN_DATAGRAM
    )]
    DatagramTooSmall {
        /// As given.
        max_datagram: usize,
    },
}

/// What an Agent has sent. All counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentCounts {
    /// Datagrams handed to the network.
    pub datagrams: u64,
    /// Octets of those datagrams, without IP and UDP headers.
    pub octets: u64,
    /// Gateway records that were left out because with them the sample would not have fitted a datagram.
    pub gateway_records_omitted: u64,
    /// Sends that failed, whether or not a second attempt succeeded, by [`SendErrorKind`].
    pub send_errors: [u64; SendErrorKind::COUNT],
}

impl AgentCounts {
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        let Self { datagrams, octets, gateway_records_omitted, send_errors } = other;
        self.datagrams += datagrams;
        self.octets += octets;
        self.gateway_records_omitted += gateway_records_omitted;
        for (sum, count) in self.send_errors.iter_mut().zip(send_errors) {
            *sum += count;
        }
        self
    }
}

/// The last sequence numbers of a data source.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    flow_samples: u32,
    counter_samples: u32,
}

/// A sample that is encoded and not sent.
#[derive(Clone, Copy, Debug)]
struct Encoded {
    /// Where it ends among the octets of all.
    end: usize,
    tally: SampleTally,
}

/// Why a datagram was not sent.
enum Unsent {
    /// The path carries less than was known: it is to be cut.
    Cut,
    Lost(LossReason),
}

/// Sends samples to one collector.
#[derive(Debug)]
pub struct Agent {
    settings: AgentSettings,
    transport: Transport,
    /// Largest datagram now, in octets of UDP payload.
    budget: usize,
    path_mtu: Option<u32>,
    path_mtu_read_at: Option<Duration>,
    /// Samples that wait, and where each of them ends.
    octets: Vec<u8>,
    waiting: Vec<Encoded>,
    /// Since when the first of them waits.
    waiting_since: Duration,
    datagram: Vec<u8>,
    sequence_number: u32,
    sources: BTreeMap<u32, Source>,
    account: SampleAccount,
    counts: AgentCounts,
    /// When an error said last that the collector refuses; `None` once it is back.
    refused_at: Option<Duration>,
    failure: Option<SendErrorKind>,
    events: VecDeque<ExportEvent>,
}

impl Agent {
    /// An Agent that has sent nothing yet.
    ///
    /// # Errors
    /// [`AgentSettingsError`].
    pub fn new(settings: AgentSettings, transport: Transport) -> Result<Self, AgentSettingsError> {
        let max_datagram = settings.max_datagram;
        if max_datagram < AgentSettings::MIN_DATAGRAM {
            return Err(AgentSettingsError::DatagramTooSmall { max_datagram });
        }
        let mut agent = Self {
            settings,
            transport,
            budget: max_datagram,
            path_mtu: None,
            path_mtu_read_at: None,
            octets: Vec::with_capacity(2 * max_datagram),
            waiting: Vec::with_capacity(max_datagram / 32),
            waiting_since: Duration::ZERO,
            datagram: Vec::with_capacity(max_datagram),
            sequence_number: 0,
            sources: BTreeMap::new(),
            account: SampleAccount::default(),
            counts: AgentCounts::default(),
            refused_at: None,
            failure: None,
            events: VecDeque::with_capacity(MAX_EVENTS),
        };
        agent.read_path_mtu();
        Ok(agent)
    }

    /// Accepts a flow sample, and sends the datagram that is full with it or has waited too long.
    ///
    /// Blocks no longer than the transport's send timeout for each datagram. What can not be sent is counted in
    /// [`account`](Self::account).
    pub fn flow_sample(&mut self, now: ExportTime, sample: &FlowSample<'_>) {
        let source = self.sources.entry(sample.source).or_default();
        source.flow_samples = source.flow_samples.wrapping_add(1);
        let number = source.flow_samples;
        let start = self.octets.len();
        encode::flow_sample(&mut self.octets, number, sample);
        if sample.gateway.is_some() && self.octets.len() - start > self.room() {
            self.octets.truncate(start);
            encode::flow_sample(&mut self.octets, number, &FlowSample { gateway: None, ..*sample });
            self.counts.gateway_records_omitted += 1;
        }
        self.accept(now, SampleTally::FLOW);
    }

    /// Accepts the counters of an interface; otherwise as [`flow_sample`](Self::flow_sample).
    pub fn counter_sample(&mut self, now: ExportTime, counters: &InterfaceCounters) {
        let source = self.sources.entry(counters.index).or_default();
        source.counter_samples = source.counter_samples.wrapping_add(1);
        encode::counter_sample(&mut self.octets, source.counter_samples, counters);
        self.accept(now, SampleTally::COUNTER);
    }

    /// Sends what waits.
    pub fn flush(&mut self, now: ExportTime) {
        self.send(now, self.waiting.len());
    }

    /// To be called about once a second, with or without samples: sends what waits, settles the datagram in flight
    /// and follows the path MTU.
    pub fn tick(&mut self, now: ExportTime) {
        self.settle(now);
        if self.path_mtu_read_at.is_none_or(|at| now.monotonic.saturating_sub(at) >= PATH_MTU_INTERVAL) {
            self.path_mtu_read_at = Some(now.monotonic);
            self.read_path_mtu();
        }
        self.flush(now);
    }

    /// Sends what waits and settles the account: nothing is pending or in flight afterwards.
    pub fn close(&mut self, now: ExportTime) {
        self.flush(now);
        self.settle(now);
        if self.refused_at.is_some() {
            self.account.lose_in_flight(LossReason::CollectorRefused);
        }
        self.account.settle_delivered();
    }

    /// Where every accepted sample is now.
    #[must_use]
    pub const fn account(&self) -> &SampleAccount {
        &self.account
    }

    /// What was sent.
    #[must_use]
    pub const fn counts(&self) -> &AgentCounts {
        &self.counts
    }

    /// Takes the oldest event.
    pub fn next_event(&mut self) -> Option<ExportEvent> {
        self.events.pop_front()
    }

    /// Octets of samples that fit a datagram.
    const fn room(&self) -> usize {
        self.budget.saturating_sub(DatagramHeader::length(self.settings.agent_address))
    }

    /// A sample was written to the end of `octets`.
    fn accept(&mut self, now: ExportTime, tally: SampleTally) {
        self.account.accept(tally);
        if self.waiting.is_empty() {
            self.waiting_since = now.monotonic;
        }
        self.waiting.push(Encoded { end: self.octets.len(), tally });
        if self.octets.len() > self.room() {
            self.send(now, (self.waiting.len() - 1).max(1));
            self.waiting_since = now.monotonic;
        } else if now.monotonic.saturating_sub(self.waiting_since) >= self.settings.max_delay {
            self.flush(now);
        }
    }

    /// Sends the first `count` of the samples that wait, in as many datagrams as they need.
    fn send(&mut self, now: ExportTime, mut count: usize) {
        while count > 0 {
            let fitting = self.waiting.iter().take(count).take_while(|one| one.end <= self.room()).count();
            let samples = fitting.max(1);
            let Some(last) = self.waiting.get(samples - 1).copied() else { return };
            let tally = self.waiting.iter().take(samples).fold(SampleTally::ZERO, |sum, one| sum + one.tally);
            let result = if fitting == 0 {
                Err(Unsent::Lost(LossReason::MessageTooBig))
            } else {
                self.transmit(now, samples, last.end)
            };
            match result {
                Ok(()) => self.count_sent(now, tally),
                Err(Unsent::Cut) => continue,
                Err(Unsent::Lost(reason)) => self.account.lose_pending(tally, reason),
            }
            self.sequence_number = self.sequence_number.wrapping_add(1);
            self.waiting.drain(..samples);
            for one in &mut self.waiting {
                one.end -= last.end;
            }
            self.octets.drain(..last.end);
            count -= samples;
        }
    }

    /// Sends the first `samples` of those that wait, which are so many octets, again if need be.
    fn transmit(&mut self, now: ExportTime, samples: usize, octets: usize) -> Result<(), Unsent> {
        let header = DatagramHeader {
            agent_address: self.settings.agent_address,
            sub_agent_id: self.settings.sub_agent_id,
            sequence_number: self.sequence_number.wrapping_add(1),
            uptime_milliseconds: now.uptime_milliseconds(),
            samples: samples as u32,
        };
        self.datagram.clear();
        header.write(&mut self.datagram);
        self.datagram.extend_from_slice(self.octets.get(..octets).unwrap_or_default());
        let mut reason = LossReason::SendFailed;
        let mut unreachable = None;
        let mut was_too_big = false;
        for _ in 0..MAX_ATTEMPTS {
            match self.transport.send(now, &self.datagram) {
                SendOutcome::Sent => {
                    if let Some(error) = unreachable {
                        self.in_flight_refused(now, error);
                    }
                    return Ok(());
                }
                SendOutcome::Refused(error) => {
                    self.count_error(SendErrorKind::Refused);
                    self.in_flight_refused(now, error);
                    reason = LossReason::CollectorRefused;
                }
                SendOutcome::TooBig => {
                    self.count_error(SendErrorKind::TooBig);
                    self.read_path_mtu();
                    if self.datagram.len() <= self.budget {
                        // A router said it of an earlier datagram. The second time that is no longer believed.
                        self.account.lose_in_flight(LossReason::MessageTooBig);
                        if was_too_big {
                            self.budget = self.budget.min(self.transport.safe_message_size());
                        }
                        was_too_big = true;
                    }
                    if self.datagram.len() > self.budget {
                        return Err(Unsent::Cut);
                    }
                    reason = LossReason::MessageTooBig;
                }
                SendOutcome::TimedOut => {
                    self.failed(SendErrorKind::TimedOut, ExportEvent::TimedOut);
                    return Err(Unsent::Lost(LossReason::SendTimeout));
                }
                SendOutcome::Closed => {
                    self.failed(SendErrorKind::Closed, ExportEvent::Closed);
                    return Err(Unsent::Lost(LossReason::OutputClosed));
                }
                // sFlow goes over datagrams only, so this is not met.
                SendOutcome::Disconnected => return Err(Unsent::Lost(LossReason::NotConnected)),
                SendOutcome::Unreachable(error) if unreachable.is_none() => {
                    self.count_error(SendErrorKind::Failed);
                    // Only a second attempt tells an ICMP error about the last datagram from a missing route.
                    unreachable = Some(error);
                }
                SendOutcome::Unreachable(error) | SendOutcome::Failed(error) => {
                    self.failed(SendErrorKind::Failed, ExportEvent::Failed { error });
                    return Err(Unsent::Lost(LossReason::SendFailed));
                }
            }
        }
        Err(Unsent::Lost(reason))
    }

    fn count_sent(&mut self, now: ExportTime, tally: SampleTally) {
        self.counts.datagrams += 1;
        self.counts.octets += self.datagram.len() as u64;
        if self.refused_at.is_some_and(|at| now.monotonic.saturating_sub(at) >= QUIET_TIME) {
            self.refused_at = None;
        }
        if self.refused_at.is_none() {
            self.account.settle_delivered();
            if self.failure.take().is_some() {
                self.keep_event(ExportEvent::Recovered);
            }
        }
        self.account.send(tally);
        if !self.transport.reports_later() {
            self.account.settle_delivered();
        }
    }

    /// Asks for errors about the datagrams in flight.
    fn settle(&mut self, now: ExportTime) {
        match self.transport.report() {
            Report::Nothing if self.refused_at.is_some() => {}
            Report::Nothing => self.account.settle_delivered(),
            Report::Refused(error) => self.in_flight_refused(now, error),
            Report::TooBig => {
                self.account.lose_in_flight(LossReason::MessageTooBig);
                self.read_path_mtu();
            }
        }
    }

    fn in_flight_refused(&mut self, now: ExportTime, error: io::Error) {
        self.account.lose_in_flight(LossReason::CollectorRefused);
        self.refused_at = Some(now.monotonic);
        self.failure_event(SendErrorKind::Refused, ExportEvent::Refused { error });
    }

    fn read_path_mtu(&mut self) {
        let path_mtu = self.transport.path_mtu();
        if let (Some(from), Some(to)) = (self.path_mtu, path_mtu)
            && from != to
        {
            self.keep_event(ExportEvent::PathMtuChanged { from, to });
        }
        self.path_mtu = path_mtu;
        let carried = path_mtu.map_or(usize::MAX, |mtu| mtu as usize);
        self.budget =
            carried.saturating_sub(self.transport.header_overhead()).min(self.settings.max_datagram);
    }

    fn failed(&mut self, kind: SendErrorKind, event: ExportEvent) {
        self.count_error(kind);
        self.failure_event(kind, event);
    }

    const fn count_error(&mut self, kind: SendErrorKind) {
        self.counts.send_errors[kind as usize] += 1;
    }

    fn failure_event(&mut self, kind: SendErrorKind, event: ExportEvent) {
        if self.failure != Some(kind) {
            self.failure = Some(kind);
            self.keep_event(event);
        }
    }

    fn keep_event(&mut self, event: ExportEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests;
