//! Sampling: which packets are accounted, and of which the header goes to user space (sFlow v5).

use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use aya_ebpf::helpers::bpf_get_prandom_u32;
use pathflow_common::PacketBytes;
use pathflow_common::layout::{
    HEADER_SAMPLE_OCTETS, HeaderSample, SAMPLING_RANDOM, Sampling, SamplingState, point_index,
};

use crate::hook::{Hook, Segments};
use crate::maps::{HEADER_SAMPLES, SAMPLING, SAMPLING_STATES};

/// One observation point on this CPU.
pub struct Sampler {
    settings: Sampling,
    state: *mut SamplingState,
}

impl Sampler {
    /// Of `observation_point` on `cpu`.
    #[inline(always)]
    pub fn new(cpu: u32, observation_point: u16) -> Option<Self> {
        let settings = SAMPLING.get_ptr(observation_point as u32)?;
        // SAFETY: points to an element of an array map. User space may be changing it; then this packet is
        // sampled by a mixture of both settings, and the next one is not.
        let settings = unsafe { read_volatile(settings) };
        let state = SAMPLING_STATES.get_ptr_mut(point_index(cpu, observation_point))?;
        Some(Self { settings, state })
    }

    /// How many of `packets` are to be accounted.
    #[inline(always)]
    pub fn select(&self, packets: u32) -> u32 {
        if self.settings.interval <= 1 {
            return packets;
        }
        // SAFETY: points to an element of an array map that only this CPU writes to.
        unsafe { draw(&raw mut (*self.state).skip, packets, self.settings.interval, self.settings.algorithm) }
    }

    /// Sends the header of the packet to user space, if its turn has come.
    #[inline(always)]
    pub fn header<H: Hook, P: PacketBytes>(
        &self,
        hook: &H,
        frame: &P,
        cpu: u32,
        observation_point: u16,
        segments: Segments,
        packets: u32,
    ) {
        let interval = self.settings.header_interval;
        if interval == 0 {
            return;
        }
        // SAFETY: points to an element of an array map that only this CPU writes to.
        let state = unsafe { &mut *self.state };
        state.header_pool += packets as u64;
        // SAFETY: as above.
        if unsafe { draw(&raw mut state.header_skip, packets, interval, self.settings.algorithm) } == 0 {
            return;
        }
        let Some(mut entry) = HEADER_SAMPLES.reserve(0) else {
            state.header_drops += 1;
            return;
        };
        let sample: &mut MaybeUninit<HeaderSample> = &mut entry;
        let sample = sample.as_mut_ptr();
        // SAFETY: the whole entry is written, by fields, before it is submitted.
        unsafe {
            (*sample).observation_point = observation_point;
            (*sample).frame_length = frame.wire_length();
            (*sample).segment_payload = segments.payload;
            (*sample).cpu = cpu;
            (*sample).tag = hook.tag();
            (*sample).ingress_interface = if H::EGRESS { hook.ingress_interface_index() } else { 0 };
            (*sample).pool = state.header_pool;
            (*sample).drops = state.header_drops;
            (*sample).captured = copy(frame, &raw mut (*sample).header);
        }
        entry.submit(0);
    }
}

/// Takes `packets` off the distance to the next selected one; returns how many of them are selected.
///
/// More than one packet at a time is what the kernel has merged or will cut. Once one of them is selected at
/// random, of the rest as many are as on average.
///
/// # Safety
/// `skip` must point into an element of a map of which this CPU is the only writer.
#[inline(always)]
unsafe fn draw(skip: *mut u32, packets: u32, interval: u32, algorithm: u32) -> u32 {
    // SAFETY: by the caller's guarantee.
    let distance = unsafe { *skip };
    if distance >= packets {
        // SAFETY: by the caller's guarantee.
        unsafe { *skip = distance - packets };
        return 0;
    }
    let rest = packets - 1 - distance;
    let (whole, part) = (rest / interval, rest % interval);
    let (more, next) = if algorithm == SAMPLING_RANDOM {
        // SAFETY: the helper takes no argument and has no precondition.
        let (once, next) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
        (u32::from(once % interval < part), next % (2 * interval - 1))
    } else {
        (0, interval - 1 - part)
    };
    // SAFETY: by the caller's guarantee.
    unsafe { *skip = next };
    1 + whole + more
}

/// Copies the start of the frame; returns how many octets. What is beyond is zero.
///
/// # Safety
/// `header` must be writable.
#[inline(always)]
unsafe fn copy<P: PacketBytes>(frame: &P, header: *mut [u8; HEADER_SAMPLE_OCTETS]) -> u16 {
    const WORD: usize = 8;
    let start = header.cast::<u8>();
    let mut offset = 0;
    let mut captured = 0;
    while offset < HEADER_SAMPLE_OCTETS {
        let word = match frame.read::<WORD>(offset) {
            Some(word) => {
                captured = offset + WORD;
                word
            }
            None => [0; WORD],
        };
        // SAFETY: `offset` is a multiple of the word's size below the size of `header`.
        unsafe { start.add(offset).cast::<[u8; WORD]>().write_unaligned(word) };
        offset += WORD;
    }
    // The last octets, short of a word. (A single octet at the very start the verifier does not grant; there is
    // no frame that short.)
    let mut rest = 0;
    while rest < WORD - 1 && captured > 0 && captured < HEADER_SAMPLE_OCTETS {
        let Some([octet]) = frame.read::<1>(captured) else { break };
        // SAFETY: `captured` is below the size of `header`.
        unsafe { start.add(captured).write(octet) };
        captured += 1;
        rest += 1;
    }
    captured as u16
}
