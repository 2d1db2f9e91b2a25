//! In-program cost: runs an XDP program many times on one frame whose flow changes every time.
//!
//! `BPF_PROG_TEST_RUN` gives a program the same packet again and again. A wrapper writes the flow into
//! the packet and goes on with the program by a tail call; the cost of wrapper and tail call is that of
//! the same wrapper around an empty program.

use aya::Ebpf;
use aya::TestRunResult;
use aya::maps::{MapData, MapError, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp};

use crate::cpu;
use crate::frames::Frame;
pub use crate::object::{ObjectError, Order};
use crate::object::{Output, classifier, load, load_plain, program, verify, verify_classifier};

const WRAPPER: &str = "vary";
const EMPTY: &str = "pass";
const EMPTY_TC: &str = "pass_tc";
const TARGET: &str = "TARGET";

/// Why a program could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum VaryError {
    /// The wrapper could not be loaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The wrapper could not be given its target.
    #[error("cannot set the program to measure: {0}")]
    Target(#[from] MapError),
    /// The run failed.
    #[error("cannot run the program: {0}")]
    Run(#[from] ProgramError),
    /// The wrapper came back: its tail call failed, so nothing was measured.
    #[error("the program to measure was not reached")]
    NotReached,
}

/// A loaded wrapper for the flows of one frame.
pub struct Vary {
    ebpf: Ebpf,
    target: ProgramArray<MapData>,
    frame: Frame,
}

impl Vary {
    /// Loads the wrapper.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load(frame: Frame, flows: u32, order: Order) -> Result<Self, VaryError> {
        let mut ebpf = load(&frame, flows, order, Output::default())?;
        verify(&mut ebpf, WRAPPER)?;
        verify(&mut ebpf, EMPTY)?;
        let target = ebpf.take_map(TARGET).ok_or(ObjectError::Missing(TARGET))?.try_into()?;
        Ok(Self { ebpf, target, frame })
    }

    /// Time per packet of the wrapper around `target`, or around the empty program, over `packets` runs.
    ///
    /// # Errors
    /// If the kernel refuses the run.
    pub fn wrapped(&mut self, target: Option<&Xdp>, packets: u32) -> Result<f64, VaryError> {
        let empty = program(&self.ebpf, EMPTY)?;
        self.target.set(0, target.unwrap_or(empty).fd()?, 0)?;
        run(program(&self.ebpf, WRAPPER)?, self.frame.octets(), packets)
    }

    /// Time per packet of the empty program alone, always on the same packet.
    ///
    /// # Errors
    /// If the kernel refuses the run.
    pub fn empty(&self, packets: u32) -> Result<f64, VaryError> {
        run(program(&self.ebpf, EMPTY)?, self.frame.octets(), packets)
    }
}

/// Time per packet of `program` alone over `packets` runs, always on the same packet, in nanoseconds.
///
/// What the kernel reports is a mean in whole nanoseconds; the time of this thread is finer, and the call itself is
/// microseconds of it.
///
/// # Errors
/// If the kernel refuses the run.
pub fn run<P: Runnable>(program: &P, frame: &[u8], packets: u32) -> Result<f64, VaryError> {
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = packets;
    let begin = cpu::thread_time();
    let result = program.test_run(options)?;
    let taken = cpu::thread_time().saturating_sub(begin);
    // XDP_ABORTED is what the wrapper returns when its tail call does not happen; no program for tc here
    // returns 0.
    if result.return_value == 0 {
        Err(VaryError::NotReached)
    } else {
        Ok(taken.as_nanos() as f64 / f64::from(packets))
    }
}

/// A program that `BPF_PROG_TEST_RUN` runs on a packet.
pub trait Runnable: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult> {}

impl<P> Runnable for P where P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult> {}

/// The empty program at both hooks.
pub struct Empty(Ebpf);

impl Empty {
    /// Loads it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load() -> Result<Self, VaryError> {
        let mut ebpf = load_plain()?;
        verify(&mut ebpf, EMPTY)?;
        verify_classifier(&mut ebpf, EMPTY_TC)?;
        Ok(Self(ebpf))
    }

    /// For XDP.
    ///
    /// # Errors
    /// If the object does not fit.
    pub fn xdp(&self) -> Result<&Xdp, VaryError> {
        Ok(program(&self.0, EMPTY)?)
    }

    /// For tc.
    ///
    /// # Errors
    /// If the object does not fit.
    pub fn classifier(&self) -> Result<&SchedClassifier, VaryError> {
        Ok(classifier(&self.0, EMPTY_TC)?)
    }
}
