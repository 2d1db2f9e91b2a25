//! The Exporting Process (RFC 7011, section 2): one encoder and one transport.
//!
//! It batches records into messages, repeats templates and options data, copes with a path MTU that shrinks, with a
//! collector that is down and with connections that end, and accounts for every record. It has no thread, clock or log of its own: time is an argument
//! and what an operator may want to know is kept as an [`ExportEvent`].

mod admission;
mod connection;
mod run;
mod settings;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::account::{ExportAccount, ExportCounts, LimitReason, LossReason, SendErrorKind};
use crate::encode::{Encoder, Format, Message, PreambleParts};
use crate::flow_template::FieldGroups;
use crate::observation::ObservationContext;
use crate::record::{FlowRecord, Tally};
use crate::statistics::{MeteringStatistics, Statistics};
use crate::template_schedule::{Due, TemplateSchedule};
use crate::time::ExportTime;
use crate::transport::{Report, SendOutcome, Transport};
use admission::Unsent;
use connection::InFlight;
use run::Run;
pub use settings::{ExportSettings, ExportSettingsError};

/// Something an operator may want to know. Kept only when the state changes, not for each message.
#[derive(Debug)]
pub enum ExportEvent {
    /// The collector's host refuses datagrams, or can not be reached.
    Refused {
        /// The first error.
        error: io::Error,
    },
    /// The socket takes no more: a message was given up after the send timeout.
    TimedOut,
    /// The system refuses to send.
    Failed {
        /// The first error.
        error: io::Error,
    },
    /// The reader of standard output is gone.
    Closed,
    /// Messages leave without error again.
    Recovered,
    /// There is a connection, and with it a new Transport Session.
    Connected,
    /// No connection could be made; it is tried again and again. Kept only if the error is another one than before.
    ConnectFailed {
        /// Why.
        error: io::Error,
    },
    /// The connection has ended; another is tried.
    ConnectionLost {
        /// Why.
        error: io::Error,
        /// What the collector's host had not acknowledged: it is counted as lost.
        unacknowledged: Tally,
    },
    /// The path MTU changed; in octets.
    PathMtuChanged {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// The format cannot say something of records, which are altered; told once for each reason.
    Limited {
        /// What.
        reason: LimitReason,
    },
    /// The format cannot carry some records, which are lost; told once for each reason.
    CannotCarry {
        /// Which.
        reason: LossReason,
    },
}

/// Events kept until the caller takes them; the oldest go first.
const MAX_EVENTS: usize = 16;

/// Sends of one message before it is given up. Each failed one uses up a pending error of the socket, which can
/// hold one of each kind, or makes the message smaller.
const MAX_ATTEMPTS: u32 = 4;

/// The system learns of a larger path MTU without telling, so it is asked.
const PATH_MTU_INTERVAL: Duration = Duration::from_secs(30);

/// Parts of the preamble (see [`Encoder::push_preamble`]) that go before data, in one message or more.
#[derive(Clone, Copy, Debug)]
struct Preamble {
    what: Due,
    /// The first part of the message.
    from: usize,
    /// The first part that is not in the message any more.
    reached: usize,
    end: usize,
}

impl Preamble {
    const NONE: Self = Self { what: Due::Nothing, from: 0, reached: 0, end: 0 };

    /// Nothing of it is left for later messages, so that data can follow.
    const fn is_complete(&self) -> bool {
        self.reached == self.end
    }

    const fn is_none(&self) -> bool {
        self.from == self.end
    }
}

/// Exports flow records to one collector.
#[derive(Debug)]
pub struct ExportingProcess {
    format: Format,
    observation_domain_id: u32,
    field_groups: FieldGroups,
    encoder: Encoder,
    transport: Transport,
    in_flight: InFlight,
    schedule: TemplateSchedule,
    mtu: u32,

    message: Message,
    /// Whether `message` has begun and is not sent yet.
    is_open: bool,
    /// Records that are not sent, oldest first; the first of them, as many as it has Flow Records, are in
    /// `message`, or behind those of `run`. Kept until the message is sent because it may have to be encoded again, smaller.
    unsent: Vec<Unsent>,
    /// Messages that are finished and will leave together; the first of `unsent`, before those of `message`, are
    /// in them. Empty outside of [`export`](Self::export) and [`flush`](Self::flush).
    run: Run,
    /// What became of a run that was not sent, until the first of its messages is sent alone.
    run_outcome: Option<SendOutcome>,
    /// What `message` has before data.
    preamble: Preamble,
    /// What the last message had no room for.
    rest_of_preamble: Option<Preamble>,
    /// The last message had room for the end of the preamble only, so the next must not begin with it again.
    only_preamble_fits: bool,
    context: Arc<ObservationContext>,
    next_context: Option<Arc<ObservationContext>>,
    /// What the collector is told of this process; not told if the caller gives no statistics of its own.
    statistics: Statistics,
    metering: Option<MeteringStatistics>,
    /// Flow Records in messages that were handed to the network.
    records_sent: u64,

    path_mtu: Option<u32>,
    path_mtu_read_at: Option<Duration>,
    /// Largest message, in octets.
    budget: usize,

    account: ExportAccount,
    counts: ExportCounts,
    events: VecDeque<ExportEvent>,
    /// What the last event was about, until recovery.
    failure: Option<SendErrorKind>,
    /// ICMP errors were heard lately. As they are rare (see `TemplateSchedule`), silence after the next datagram
    /// does not prove that it arrived; all of them stay in flight until recovery or the next error.
    is_refused: bool,
    /// What the last failed attempt to connect said, until there is a connection.
    connect_failure: Option<String>,
}

impl ExportingProcess {
    /// An Exporting Process that has sent nothing yet.
    ///
    /// # Errors
    /// [`ExportSettingsError`] if the settings can not work.
    pub fn new(settings: &ExportSettings, transport: Transport) -> Result<Self, ExportSettingsError> {
        if settings.mtu < ExportSettings::MIN_MTU {
            return Err(ExportSettingsError::MtuTooSmall {
                mtu: settings.mtu,
                minimum: ExportSettings::MIN_MTU,
            });
        }
        if !settings.format.carries(settings.field_groups) {
            return Err(ExportSettingsError::FieldsNotInFormat { format: settings.format });
        }
        let mut process = Self {
            format: settings.format,
            observation_domain_id: settings.observation_domain_id,
            field_groups: settings.field_groups,
            encoder: Encoder::with_groups(
                settings.format,
                settings.observation_domain_id,
                settings.field_groups,
            ),
            transport,
            in_flight: InFlight::default(),
            schedule: TemplateSchedule::new(settings.template_messages, settings.template_interval),
            mtu: u32::from(settings.mtu),
            message: Message::new(),
            is_open: false,
            unsent: Vec::new(),
            run: Run::default(),
            run_outcome: None,
            preamble: Preamble::NONE,
            rest_of_preamble: None,
            only_preamble_fits: false,
            context: Arc::default(),
            next_context: None,
            statistics: Statistics::default(),
            metering: None,
            records_sent: 0,
            path_mtu: None,
            path_mtu_read_at: None,
            budget: 0,
            account: ExportAccount::default(),
            counts: ExportCounts::default(),
            events: VecDeque::with_capacity(MAX_EVENTS),
            failure: None,
            is_refused: false,
            connect_failure: None,
        };
        process.read_path_mtu();
        Ok(process)
    }

    /// Tells collectors about interfaces and sampling. If that is news, it is sent before any record that is exported
    /// after this call, by the next [`tick`](Self::tick) at the latest; then as often as templates are.
    pub fn set_context(&mut self, context: Arc<ObservationContext>) {
        self.next_context = (context != self.context).then_some(context);
    }

    /// What the caller has counted. From now on the collector is told of that and of what this process has sent and
    /// lost, as often as of templates, with the numbers of that moment.
    pub const fn set_metering_statistics(&mut self, metering: MeteringStatistics) {
        self.metering = Some(metering);
    }

    /// Accepts `records` and sends every message they fill. The rest stays pending until more records, a
    /// [`flush`](Self::flush) or a [`tick`](Self::tick) come.
    ///
    /// Blocks no longer than the transport's send timeout for each message. What can not be sent is counted in
    /// [`account`](Self::account).
    pub fn export(&mut self, now: ExportTime, records: &[FlowRecord]) {
        self.adopt_context(now);
        self.account.accept(Tally::of(records));
        for record in records {
            self.admit(now, record);
        }
        self.send_run(now);
    }

    /// Sends what is pending.
    pub fn flush(&mut self, now: ExportTime) {
        loop {
            while self.is_ready() && self.unsent.len() > self.run.records() {
                self.encode_unsent(now);
                self.send_message(now);
            }
            // After a run that was not sent there may be more.
            if self.send_run(now) {
                return;
            }
        }
    }

    /// To be called about once a second, with or without data: sends what is pending, resends templates when it
    /// is time to, settles the datagram in flight and follows the path MTU.
    pub fn tick(&mut self, now: ExportTime) {
        self.settle(now);
        if let Some(metering) = self.metering {
            self.note_losses(metering, now);
        }
        let has_templates = self.encoder.preamble(&self.context) != PreambleParts::default();
        if !has_templates && self.schedule.silence_ends_failure(now.monotonic) {
            self.recovered();
            self.account.settle_delivered();
        }
        if self.path_mtu_read_at.is_none_or(|at| now.monotonic.saturating_sub(at) >= PATH_MTU_INTERVAL) {
            self.path_mtu_read_at = Some(now.monotonic);
            self.read_path_mtu();
        }
        self.flush(now);
        self.adopt_context(now);
        if self.schedule.is_due_without_data(now.monotonic) {
            self.send_preamble(now);
        }
    }

    /// Asks for errors about the datagram in flight, and counts it as delivered or lost; with a connection, asks what
    /// has been acknowledged.
    pub fn settle(&mut self, now: ExportTime) {
        if self.transport.session().is_some() {
            return self.follow_session(now);
        }
        match self.transport.report() {
            Report::Nothing if self.is_refused => {}
            Report::Nothing => self.account.settle_delivered(),
            Report::Refused(error) => self.in_flight_refused(now, error),
            Report::TooBig => {
                self.in_flight_too_big(now);
                self.read_path_mtu();
            }
        }
    }

    /// Sends what is pending and settles the account: nothing is pending or in flight afterwards. What no error
    /// was reported about is delivered, unless the collector refused messages and was not seen to be back:
    /// hosts limit how often they say so, and silence after a refusal is no sign of life.
    pub fn close(&mut self, now: ExportTime) {
        self.flush(now);
        self.settle(now);
        self.close_session();
        if self.is_refused {
            self.account.lose_in_flight(LossReason::CollectorRefused);
        }
        self.account.settle_delivered();
    }

    /// Message format.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Where every accepted record is now.
    #[must_use]
    pub const fn account(&self) -> &ExportAccount {
        &self.account
    }

    /// What was sent.
    #[must_use]
    pub const fn counts(&self) -> &ExportCounts {
        &self.counts
    }

    /// Largest message that is sent now, in octets: of UDP payload or, with a connection, 8192.
    #[must_use]
    pub const fn message_budget(&self) -> usize {
        self.budget
    }

    /// Whether messages fail, and none has got through since.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Takes the oldest event.
    pub fn next_event(&mut self) -> Option<ExportEvent> {
        self.events.pop_front()
    }

    /// Records that wait were made under the old context and go before the new one.
    fn adopt_context(&mut self, now: ExportTime) {
        if self.next_context.is_none() {
            return;
        }
        self.flush(now);
        // Without a connection they wait, and so does the new context.
        if self.unsent.is_empty()
            && let Some(context) = self.next_context.take()
        {
            self.encoder.set_context(&context);
            self.context = context;
            self.rest_of_preamble = None;
            self.schedule.options_changed();
        }
    }

    /// Sends templates and options data without data.
    fn send_preamble(&mut self, now: ExportTime) {
        while self.is_ready() {
            self.begin_message(now);
            let before = self.preamble.from;
            // Nothing fits: the path does not carry the templates, and records will be counted as lost.
            if self.message.is_empty() {
                self.is_open = false;
                return;
            }
            self.send_message(now);
            if self.rest_of_preamble.is_none_or(|rest| rest.from == before) {
                return;
            }
        }
    }

    /// Begins a message with what is due of the preamble.
    fn begin_message(&mut self, now: ExportTime) {
        self.is_open = true;
        let omit = std::mem::take(&mut self.only_preamble_fits);
        let rest = self.rest_of_preamble.take();
        let due = if omit { Due::Nothing } else { self.schedule.due(now.monotonic) };
        if rest.is_none() && due == Due::All {
            self.renew_statistics(now);
        }
        let preamble = rest.unwrap_or_else(|| self.whole_preamble(due));
        self.encode_preamble(preamble);
    }

    /// Whether the next message begins with something that the collector is to be told before data.
    fn is_preamble_due(&self, now: ExportTime) -> bool {
        self.rest_of_preamble.is_some()
            || (!self.only_preamble_fits && self.schedule.due(now.monotonic) != Due::Nothing)
    }

    fn renew_statistics(&mut self, now: ExportTime) {
        let Some(metering) = self.metering else { return };
        self.note_losses(metering, now);
        self.statistics.exported_messages = self.counts.messages;
        self.statistics.exported_octets = self.counts.octets;
        self.statistics.exported_records = self.records_sent;
        self.encoder.set_statistics(self.statistics);
    }

    fn note_losses(&mut self, metering: MeteringStatistics, now: ExportTime) {
        let not_sent = metering.not_accepted + self.account.total_lost();
        self.statistics.update(metering, not_sent, now.unix_milliseconds);
    }

    fn whole_preamble(&self, what: Due) -> Preamble {
        let parts = self.encoder.preamble(&self.context);
        let end = match what {
            Due::Nothing => 0,
            Due::Templates => parts.templates,
            Due::All => parts.all,
        };
        Preamble { what, from: 0, reached: 0, end }
    }

    fn encode_preamble(&mut self, mut preamble: Preamble) {
        preamble.reached = preamble.from;
        if self.encoder.begin(&mut self.message, self.budget).is_ok() {
            let parts = preamble.from..preamble.end;
            preamble.reached = self.encoder.push_preamble(&mut self.message, &self.context, parts);
        }
        self.preamble = preamble;
    }

    /// Puts the unsent records into the message; `false` if not all fit.
    fn encode_unsent(&mut self, now: ExportTime) -> bool {
        if self.unsent.is_empty() {
            return true;
        }
        if !self.is_open {
            if self.is_preamble_due(now) {
                self.send_run(now);
            }
            self.begin_message(now);
        }
        self.fill_message()
    }

    fn fill_message(&mut self) -> bool {
        let encoded = self.run.records() + self.message.flow_records() as usize;
        self.preamble.is_complete()
            && self
                .unsent
                .get(encoded..)
                .unwrap_or_default()
                .iter()
                .all(|unsent| self.encoder.push(&mut self.message, &unsent.record).is_ok())
    }

    /// Sends the open message. Its records leave `unsent`; at least one does, or templates are sent.
    fn send_message(&mut self, now: ExportTime) {
        self.is_open = false;
        if self.can_leave_with_others() {
            return self.join_run(now);
        }
        if !self.send_run(now) {
            return;
        }
        if self.message.is_empty() {
            let first = self.unsent.first().map(Unsent::tally).unwrap_or_default();
            self.account.lose_pending(first, LossReason::MessageTooBig);
            self.unsent.drain(..self.unsent.len().min(1));
            return;
        }
        let result = self.transmit(now);
        // The session's messages are void, but their records are not: they wait for the next session.
        if result == Err(LossReason::ConnectionLost) {
            return self.follow_session(now);
        }
        // After a smaller budget even the templates may not fit; then nothing was sent and nothing is lost yet.
        if self.message.is_empty() {
            return;
        }
        self.encoder.commit(&self.message);
        let has_only_preamble = self.message.flow_records() == 0 && !self.unsent.is_empty();
        self.only_preamble_fits = has_only_preamble && result.is_ok() && self.preamble.is_complete();
        // A record whose templates could not be sent is lost with them; otherwise they would be tried for ever.
        let is_lost_with_templates = has_only_preamble && result.is_err();
        let records = if is_lost_with_templates { 1 } else { self.message.flow_records() as usize };
        let records = records.min(self.unsent.len());
        let tally = Unsent::tally_of(self.unsent.get(..records).unwrap_or_default());
        self.unsent.drain(..records);
        match result {
            Ok(()) => self.count_sent(now, tally),
            Err(reason) => {
                self.account.lose_pending(tally, reason);
                self.schedule.failed(now.monotonic);
            }
        }
    }

    fn count_sent(&mut self, now: ExportTime, tally: Tally) {
        self.counts.messages += 1;
        self.records_sent += u64::from(self.message.flow_records());
        self.counts.octets += self.message.octets().len() as u64;
        self.counts.templates += u64::from(self.message.template_records());
        self.counts.options_records += u64::from(self.message.options_records());
        let preamble = self.preamble;
        let what = if preamble.is_complete() { preamble.what } else { Due::Nothing };
        if !preamble.is_complete() {
            self.rest_of_preamble = Some(Preamble { from: preamble.reached, ..preamble });
        }
        if self.schedule.sent(now.monotonic, what) {
            self.recovered();
        }
        if let Some(session) = self.transport.session() {
            let end = session.sent();
            self.in_flight.push(end, tally);
            self.account.send(tally);
            return self.follow_many();
        }
        if !self.is_refused {
            self.account.settle_delivered();
        }
        self.account.send(tally);
        if !self.transport.reports_later() {
            self.account.settle_delivered();
        }
    }

    /// Finishes the message and sends it, again if need be; it may get smaller on the way.
    fn transmit(&mut self, now: ExportTime) -> Result<(), LossReason> {
        let mut reason = LossReason::SendFailed;
        let mut unreachable = None;
        let mut too_big_although_it_fits = false;
        for _ in 0..MAX_ATTEMPTS {
            if self.message.is_empty() {
                return Err(LossReason::MessageTooBig);
            }
            self.encoder.finish(&mut self.message, now);
            let outcome = match self.run_outcome.take() {
                Some(outcome) => outcome,
                None => self.transport.send(now, self.message.octets()),
            };
            match outcome {
                SendOutcome::Sent => {
                    if let Some(error) = unreachable {
                        self.in_flight_refused(now, error);
                    }
                    return Ok(());
                }
                SendOutcome::Refused(error) => {
                    self.count_error(SendErrorKind::Refused);
                    self.in_flight_refused(now, error);
                    self.encode_again_with_templates();
                    reason = LossReason::CollectorRefused;
                }
                SendOutcome::TooBig => {
                    self.count_error(SendErrorKind::TooBig);
                    too_big_although_it_fits |= self.cut_message(now, too_big_although_it_fits);
                    reason = LossReason::MessageTooBig;
                }
                SendOutcome::TimedOut => {
                    self.count_error(SendErrorKind::TimedOut);
                    self.failure_event(SendErrorKind::TimedOut, ExportEvent::TimedOut);
                    return Err(LossReason::SendTimeout);
                }
                SendOutcome::Disconnected => return Err(LossReason::ConnectionLost),
                SendOutcome::Closed => {
                    self.count_error(SendErrorKind::Closed);
                    self.failure_event(SendErrorKind::Closed, ExportEvent::Closed);
                    return Err(LossReason::OutputClosed);
                }
                SendOutcome::Unreachable(error) if unreachable.is_none() => {
                    self.count_error(SendErrorKind::Failed);
                    // Only a second attempt tells an ICMP error about the last datagram from a missing route.
                    unreachable = Some(error);
                }
                SendOutcome::Unreachable(error) | SendOutcome::Failed(error) => {
                    self.count_error(SendErrorKind::Failed);
                    self.failure_event(SendErrorKind::Failed, ExportEvent::Failed { error });
                    return Err(LossReason::SendFailed);
                }
            }
        }
        Err(reason)
    }

    /// The collector may start any moment now, so the message that failed carries templates when it is sent
    /// again, unless it has part of the preamble already or they would leave no room for a record.
    fn encode_again_with_templates(&mut self) {
        if !self.preamble.is_none() {
            return;
        }
        self.encode_again(self.whole_preamble(Due::Templates));
        if self.message.flow_records() == 0 {
            self.encode_again(Preamble::NONE);
        }
    }

    /// After "too big": encodes the message again within what the path carries now.
    ///
    /// Returns whether it fits already, so that the error was a router's report about an earlier message. The
    /// second time that is no longer believed, and the message is cut to what every path carries.
    fn cut_message(&mut self, now: ExportTime, fitted_before: bool) -> bool {
        let budget = self.budget;
        self.read_path_mtu();
        self.budget = self.budget.min(budget);
        let fits = self.message.octets().len() <= self.budget;
        if fits {
            self.in_flight_too_big(now);
            if !fitted_before {
                return true;
            }
            self.budget = self.budget.min(self.transport.safe_message_size());
        }
        self.encode_again(self.preamble);
        fits
    }

    /// The Sequence Number was not committed, so the message can be begun again.
    fn encode_again(&mut self, preamble: Preamble) {
        self.encode_preamble(preamble);
        self.fill_message();
    }

    fn in_flight_refused(&mut self, now: ExportTime, error: io::Error) {
        self.account.lose_in_flight(LossReason::CollectorRefused);
        self.is_refused = true;
        self.schedule.failed(now.monotonic);
        self.failure_event(SendErrorKind::Refused, ExportEvent::Refused { error });
    }

    fn in_flight_too_big(&mut self, now: ExportTime) {
        self.account.lose_in_flight(LossReason::MessageTooBig);
        // The lost message may have carried the templates.
        self.schedule.failed(now.monotonic);
    }

    fn read_path_mtu(&mut self) {
        let path_mtu = self.transport.path_mtu();
        if let (Some(from), Some(to)) = (self.path_mtu, path_mtu)
            && from != to
        {
            self.keep_event(ExportEvent::PathMtuChanged { from, to });
        }
        self.path_mtu = path_mtu;
        let mtu = path_mtu.unwrap_or(self.mtu).min(self.mtu) as usize;
        let fits = mtu.saturating_sub(self.transport.header_overhead());
        self.budget = self.transport.message_size().unwrap_or(fits);
    }

    fn recovered(&mut self) {
        self.is_refused = false;
        if self.failure.take().is_some() {
            self.keep_event(ExportEvent::Recovered);
        }
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
