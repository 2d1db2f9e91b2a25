//! An XDP program that lets every packet pass, attached in native mode: what the attachment itself costs.

use aya::Ebpf;
use aya::programs::{ProgramError, Xdp, XdpMode};

use crate::frames::{Frame, FrameLengthError, FrameSettings};
use crate::object::{self, ObjectError, Order, Output};

const PROGRAM: &str = "pass";

/// Why it is not attached.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The object does not load.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The frame that the object wants for its other programs cannot be made.
    #[error(transparent)]
    Frame(#[from] FrameLengthError),
    /// The kernel refuses.
    #[error("cannot attach: {0}")]
    Attach(#[from] ProgramError),
}

/// The attached program; dropping this detaches it.
pub struct Pass {
    _ebpf: Ebpf,
}

impl Pass {
    /// Attaches it to an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel refuses the program or its attachment.
    pub fn attach(interface_index: u32) -> Result<Self, PassError> {
        let frame = Frame::new(&FrameSettings::default())?;
        let mut ebpf = object::load(&frame, 0, Order::Sequential, Output::default())?;
        object::verify(&mut ebpf, PROGRAM)?;
        let program: &mut Xdp = ebpf
            .program_mut(PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or(ObjectError::Missing(PROGRAM))?;
        program.attach_to_if_index(interface_index, XdpMode::Driver)?;
        Ok(Self { _ebpf: ebpf })
    }
}
