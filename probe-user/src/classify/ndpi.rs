//! nDPI: finds the application protocol of a flow by its first packets.
//!
//! The only place that calls it, by the shim `ndpi.c`.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use super::{Class, ClassifyError, Verdict};

/// Behind each packet there are as many zeros, so that one that ends too early cannot be read beyond.
const ZEROS: usize = 64;
/// Octets of a packet that are looked at, at most.
const MOST_OCTETS: usize = u16::MAX as usize;

unsafe extern "C" {
    fn pathflow_ndpi_module() -> *mut c_void;
    fn pathflow_ndpi_module_free(module: *mut c_void);
    fn pathflow_ndpi_flow() -> *mut c_void;
    fn pathflow_ndpi_flow_free(flow: *mut c_void);
    fn pathflow_ndpi_packet(
        module: *mut c_void,
        flow: *mut c_void,
        packet: *const u8,
        octets: u16,
        milliseconds: u64,
        is_final: *mut u8,
    ) -> u32;
    fn pathflow_ndpi_give_up(module: *mut c_void, flow: *mut c_void, guess: u8) -> u32;
    fn pathflow_ndpi_name(module: *mut c_void, protocol: u16) -> *const c_char;
}

/// Modules must not be made, or end, at the same time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A detection module with all protocols.
pub(super) struct Detector {
    module: NonNull<c_void>,
    /// Classes of pairs of protocols that were found.
    classes: HashMap<u32, Class>,
    /// The packet in hand: nDPI gets a copy, which it may read beyond and write to.
    packet: Vec<u8>,
}

/// What is known of one conversation.
pub(super) struct FlowState(NonNull<c_void>);

// SAFETY: the module has no ties to a thread; it is used by the one that has the only reference.
unsafe impl Send for Detector {}
// SAFETY: as above; nothing in it belongs to a module or to a thread.
unsafe impl Send for FlowState {}

impl Detector {
    /// A new module.
    ///
    /// # Errors
    /// [`ClassifyError`] if nDPI cannot make one.
    pub(super) fn new() -> Result<Self, ClassifyError> {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no argument; no other module is made or ends meanwhile.
        let module = NonNull::new(unsafe { pathflow_ndpi_module() }).ok_or(ClassifyError::NoModule)?;
        Ok(Self { module, classes: HashMap::new(), packet: Vec::new() })
    }

    /// For a conversation of which nothing is known; `None` if there is no memory.
    pub(super) fn flow() -> Option<FlowState> {
        // SAFETY: no argument and no precondition.
        NonNull::new(unsafe { pathflow_ndpi_flow() }).map(FlowState)
    }

    /// Takes the next packet of a conversation, from its IP header on, seen at this time.
    pub(super) fn packet(&mut self, flow: &mut FlowState, packet: &[u8], milliseconds: u64) -> Verdict {
        let octets = packet.len().min(MOST_OCTETS);
        self.packet.clear();
        self.packet.extend_from_slice(packet.get(..octets).unwrap_or_default());
        self.packet.resize(octets + ZEROS, 0);
        let mut is_final = 0;
        // SAFETY: module and flow are alive and used by nobody else; `packet` has `octets` octets and more, and is a copy
        // of this module's own; the length fits into 16 bits.
        let pair = unsafe {
            pathflow_ndpi_packet(
                self.module.as_ptr(),
                flow.0.as_ptr(),
                self.packet.as_mut_ptr(),
                octets as u16,
                milliseconds,
                &raw mut is_final,
            )
        };
        Verdict { class: self.class(pair), is_final: is_final != 0 }
    }

    /// What the packets so far say; perhaps by ports and addresses alone, if it may `guess`.
    pub(super) fn give_up(&mut self, mut flow: FlowState, guess: bool) -> Class {
        let state = &mut flow;
        // SAFETY: module and flow are alive and used by nobody else, and no packet follows: the flow ends here.
        let pair = unsafe { pathflow_ndpi_give_up(self.module.as_ptr(), state.0.as_ptr(), guess.into()) };
        self.class(pair)
    }

    fn class(&mut self, pair: u32) -> Class {
        if let Some(class) = self.classes.get(&pair) {
            return *class;
        }
        let class = match ((pair >> 16) as u16, pair as u16) {
            (0, 0) => Class::UNKNOWN,
            (master, 0) => Class::named(&self.name(master)),
            (master, application) if master == 0 || master == application => {
                Class::named(&self.name(application))
            }
            (master, application) => {
                Class::named(&format!("{}/{}", self.name(master), self.name(application)))
            }
        };
        self.classes.insert(pair, class);
        class
    }

    fn name(&self, protocol: u16) -> String {
        // SAFETY: the module is alive.
        let name = unsafe { pathflow_ndpi_name(self.module.as_ptr(), protocol) };
        if name.is_null() {
            return protocol.to_string();
        }
        // SAFETY: not null; nDPI's names end with a zero and live as long as the module.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

impl fmt::Debug for Detector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Detector").finish_non_exhaustive()
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the module is alive, and this is its last use; no other one is made or ends meanwhile.
        unsafe { pathflow_ndpi_module_free(self.module.as_ptr()) };
    }
}

impl fmt::Debug for FlowState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FlowState").finish_non_exhaustive()
    }
}

impl Drop for FlowState {
    fn drop(&mut self) {
        // SAFETY: the flow is alive, and this is its last use.
        unsafe { pathflow_ndpi_flow_free(self.0.as_ptr()) };
    }
}
