//! NetFlow version 5 export datagrams (Cisco, "NetFlow Services Solutions Guide", appendix "NetFlow Export Datagram
//! Format", tables B-3 and B-4). There is no RFC.
//!
//! A header of 24 octets and up to 30 records of 48. No templates, no options data, and narrow fields: [`NetflowV5::fit`]
//! says what of a record does not go in.
//!
//! **Times.** `First` and `Last` are `sys_uptime` at the first and last packet, modulo 2^32 ms (49.7 days), where
//! `sys_uptime` is the time since the device started. A collector takes the header's wall time, less `sys_uptime`, as the
//! time of the start. A flow that began before `sys_uptime` last was 0 so has a `First` above `sys_uptime`: it wraps, and
//! collectors undo that by counting modulo 2^32 too. What lies in the future of the header, or more than [`MAX_AGE`]
//! before it, would be read as another time; it is moved to the nearest that can be told.

use std::net::{IpAddr, Ipv4Addr};

use super::{Fit, Full, Message};
use crate::account::{LimitReason, LossReason};
use crate::observation::{Selector, SelectorAlgorithm};
use crate::record::FlowRecord;
use crate::sequence::{SequenceNumber, SequenceRule};
use crate::time::ExportTime;

const VERSION: u16 = 5;
const HEADER_LENGTH: usize = 24;
const RECORD_LENGTH: usize = 48;
/// Records in one datagram; collectors refuse more.
const MAX_RECORDS: u32 = 30;

const SYS_UPTIME: usize = 4;
const UNIX_SECS: usize = 8;
const UNIX_NSECS: usize = 12;
const FLOW_SEQUENCE: usize = 16;
const ENGINE: usize = 20;
const SAMPLING: usize = 22;
/// Of a record.
const FIRST: usize = 24;
const LAST: usize = 28;

/// `AS_TRANS` stands for any AS number that does not fit two octets (RFC 6793, section 9).
const AS_TRANS: u16 = 23_456;

/// The sampling interval has 14 bits; two of mode are before it.
const MAX_SAMPLING_INTERVAL: u32 = 0x3fff;
/// Sampling modes: one packet out of every interval, or at random.
const PACKET_INTERVAL_MODE: u16 = 1 << 14;
const RANDOM_MODE: u16 = 2 << 14;

/// Milliseconds before the export that the first packet of a flow may be: 49 days, so that there is room below 2^32
/// for records that wait.
const MAX_AGE: u64 = 49 * 24 * 60 * 60 * 1000;

/// Parts of one record. Counters that need more are nothing that a link could have carried between two reports.
const MAX_PARTS: u64 = 65_536;

/// State of a NetFlow v5 export stream of one engine.
#[derive(Debug)]
pub struct NetflowV5 {
    /// `engine_type` and `engine_id`.
    engine: u16,
    pub(super) sequence: SequenceNumber,
    /// Selectors that choose at random, in order.
    random_selectors: Vec<u16>,
}

impl NetflowV5 {
    /// The low 16 bits of `observation_domain_id` are `engine_type` (8 bits) and `engine_id` (8 bits).
    pub(super) const fn new(observation_domain_id: u32) -> Self {
        Self {
            engine: observation_domain_id as u16,
            sequence: SequenceNumber::first(SequenceRule::DataRecords),
            random_selectors: Vec::new(),
        }
    }

    /// How packets are selected is in every header.
    pub(super) fn set_selectors(&mut self, selectors: &[Selector]) {
        let is_random = |selector: &&Selector| selector.algorithm == SelectorAlgorithm::Random;
        self.random_selectors.clear();
        self.random_selectors.extend(selectors.iter().filter(is_random).map(|selector| selector.id));
        self.random_selectors.sort_unstable();
    }

    pub(super) fn fit(record: &FlowRecord, now: ExportTime) -> Result<Fit, LossReason> {
        if !record.is_ipv4() {
            return Err(LossReason::FormatCannotCarryIpv6);
        }
        let mut fit = Fit::WHOLE;
        let parts = parts(record.octet_delta_count).max(parts(record.packet_delta_count));
        if parts > MAX_PARTS {
            return Err(LossReason::FormatCannotCarryCounters);
        }
        if parts > 1 {
            fit.split(parts as u32);
        }
        if is_wide(record.bgp_source_as_number) || is_wide(record.bgp_destination_as_number) {
            fit.limit(LimitReason::AsNumberOver16Bits);
        }
        if is_wide(record.ingress_interface) || is_wide(record.egress_interface) {
            fit.limit(LimitReason::InterfaceIndexOver16Bits);
        }
        if record.sampling_interval > MAX_SAMPLING_INTERVAL {
            fit.limit(LimitReason::SamplingIntervalOver14Bits);
        }
        let times = [record.flow_start_milliseconds, record.flow_end_milliseconds];
        let told = times_to_tell(times, now.unix_milliseconds);
        if told != times {
            fit.set_times(told);
        }
        Ok(fit)
    }

    pub(super) fn begin(message: &mut Message, budget: usize) -> Result<(), Full> {
        message.clear_without_sets(budget, HEADER_LENGTH)?;
        // What `push` and `finish` read.
        message.write_at(0, &[0; HEADER_LENGTH]);
        Ok(())
    }

    /// All records of a message have the sampling of its header.
    #[inline]
    pub(super) fn push(&self, message: &mut Message, record: &FlowRecord) -> Result<(), Full> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) =
            (record.source_address, record.destination_address)
        else {
            return Err(Full);
        };
        let packets = u32::try_from(record.packet_delta_count).map_err(|_| Full)?;
        let octets = u32::try_from(record.octet_delta_count).map_err(|_| Full)?;
        let sampling = self.sampling(record).to_be_bytes();
        let is_first = message.flow_records() == 0;
        if message.flow_records() == MAX_RECORDS || (!is_first && message.read_at(SAMPLING) != sampling) {
            return Err(Full);
        }
        let next_hop = match record.ip_next_hop {
            Some(IpAddr::V4(address)) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let words: [u32; RECORD_LENGTH / 4] = [
            source.to_bits(),
            destination.to_bits(),
            next_hop.to_bits(),
            pair(interface(record.ingress_interface), interface(record.egress_interface)),
            packets,
            octets,
            // Against a start at the Unix epoch, as the empty header says; `finish` corrects them.
            record.flow_start_milliseconds as u32,
            record.flow_end_milliseconds as u32,
            pair(record.source_port, record.destination_port),
            u32::from_be_bytes([
                0,
                record.tcp_control_bits as u8,
                record.protocol_identifier,
                record.ip_class_of_service,
            ]),
            pair(as_number(record.bgp_source_as_number), as_number(record.bgp_destination_as_number)),
            u32::from_be_bytes([record.source_prefix_length, record.destination_prefix_length, 0, 0]),
        ];
        let target = message.flow_record_without_set::<RECORD_LENGTH>()?;
        let (fields, _) = target.as_chunks_mut();
        for (field, word) in fields.iter_mut().zip(words) {
            *field = word.to_be_bytes();
        }
        if is_first {
            message.write_at(SAMPLING, &sampling);
        }
        Ok(())
    }

    /// May be called again for the same message: the times of records are made to fit the new header.
    pub(super) fn finish(&self, message: &mut Message, export_time: ExportTime) {
        let before = started_at(message);
        let nanoseconds = (export_time.unix_milliseconds % 1000) as u32 * 1_000_000;
        message.write_at(0, &VERSION.to_be_bytes());
        message.write_at(2, &(message.flow_records() as u16).to_be_bytes());
        message.write_at(SYS_UPTIME, &export_time.uptime_milliseconds().to_be_bytes());
        message.write_at(UNIX_SECS, &export_time.unix_seconds().to_be_bytes());
        message.write_at(UNIX_NSECS, &nanoseconds.to_be_bytes());
        message.write_at(FLOW_SEQUENCE, &self.sequence.next().to_be_bytes());
        message.write_at(ENGINE, &self.engine.to_be_bytes());
        let shift = before.wrapping_sub(started_at(message));
        for record in 0..message.flow_records() as usize {
            for field in [FIRST, LAST] {
                let offset = HEADER_LENGTH + record * RECORD_LENGTH + field;
                let time = u32::from_be_bytes(message.read_at(offset)).wrapping_add(shift);
                message.write_at(offset, &time.to_be_bytes());
            }
        }
    }

    /// Mode and interval; 0 if every packet was counted, as nfdump multiplies by anything else.
    fn sampling(&self, record: &FlowRecord) -> u16 {
        if record.sampling_interval <= 1 {
            return 0;
        }
        let is_random = self.random_selectors.binary_search(&record.selector_id).is_ok();
        let mode = if is_random { RANDOM_MODE } else { PACKET_INTERVAL_MODE };
        mode | record.sampling_interval.min(MAX_SAMPLING_INTERVAL) as u16
    }
}

/// When `sys_uptime` was 0, by the header, in milliseconds since the Unix epoch, modulo 2^32.
fn started_at(message: &Message) -> u32 {
    let [uptime, seconds, nanoseconds] =
        [SYS_UPTIME, UNIX_SECS, UNIX_NSECS].map(|offset| u32::from_be_bytes(message.read_at(offset)));
    seconds.wrapping_mul(1000).wrapping_add(nanoseconds / 1_000_000).wrapping_sub(uptime)
}

/// Records that a counter takes.
const fn parts(count: u64) -> u64 {
    count.div_ceil(u32::MAX as u64)
}

const fn is_wide(value: u32) -> bool {
    value > u16::MAX as u32
}

const fn pair(first: u16, second: u16) -> u32 {
    (first as u32) << 16 | second as u32
}

fn as_number(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(AS_TRANS)
}

/// 0 means unknown.
fn interface(index: u32) -> u16 {
    u16::try_from(index).unwrap_or(0)
}

/// The nearest first and last time that can be told at `now`. The duration stays as it is if it is not the duration that
/// is too long.
pub(super) fn times_to_tell([start, end]: [u64; 2], now: u64) -> [u64; 2] {
    let duration = end.saturating_sub(start).min(MAX_AGE);
    // `now` comes last: a clock that shows less than 49 days has flows of the future only.
    let end = end.max(now.saturating_sub(MAX_AGE - duration)).min(now);
    [end.saturating_sub(duration), end]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A message that was not sent at once is finished again.
    #[test]
    fn a_message_can_be_finished_again_at_another_time() {
        let at = |unix_milliseconds, uptime| ExportTime {
            unix_milliseconds,
            monotonic: Duration::from_millis(uptime),
        };
        let (early, late) = (at(1_795_246_800_123, (1 << 32) - 5), at(1_795_246_801_999, 7));
        let encoder = NetflowV5::new(1);
        let finished = |times: &[ExportTime]| {
            let mut message = Message::new();
            NetflowV5::begin(&mut message, 1472).unwrap();
            for start in [1_795_246_790_001, 1_795_246_795_002] {
                let record = FlowRecord {
                    flow_start_milliseconds: start,
                    flow_end_milliseconds: start + 77,
                    ..FlowRecord::between(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]))
                };
                encoder.push(&mut message, &record).unwrap();
            }
            for time in times {
                encoder.finish(&mut message, *time);
            }
            message.octets().to_vec()
        };
        assert_eq!(finished(&[early, late]), finished(&[late]));
        assert_eq!(finished(&[late, late, early]), finished(&[early]));
        assert_ne!(finished(&[early]), finished(&[late]));
    }

    #[test]
    fn times_that_cannot_be_told_move_to_the_nearest_that_can() {
        let now = 100 * MAX_AGE;
        let oldest = now - MAX_AGE;
        for (times, told) in [
            ([now - 10, now], [now - 10, now]),
            ([oldest, oldest], [oldest, oldest]),
            ([oldest, now], [oldest, now]),
            // The future, the past, longer than all that can be told, and the wrong way round.
            ([now, now + 10], [now - 10, now]),
            ([oldest - 20, oldest - 10], [oldest, oldest + 10]),
            ([oldest - 1, now], [oldest, now]),
            ([0, u64::MAX], [oldest, now]),
            ([now, now - 10], [now - 10, now - 10]),
        ] {
            assert_eq!(times_to_tell(times, now), told, "{times:?}");
        }
        assert_eq!(times_to_tell([5, 7], 6), [4, 6]);
        assert_eq!(times_to_tell([5, 7], 0), [0, 0]);
    }
}
