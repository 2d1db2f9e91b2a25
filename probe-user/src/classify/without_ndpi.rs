//! In place of nDPI where pathflow was built without it. Settings that ask for classes are refused before.

use super::{Class, ClassifyError, Verdict};

/// There is none.
#[derive(Debug)]
pub(super) enum Detector {}

/// There is none.
#[derive(Debug)]
pub(super) enum FlowState {}

impl Detector {
    pub(super) fn new() -> Result<Self, ClassifyError> {
        Err(ClassifyError::NotBuiltIn)
    }

    pub(super) fn flow() -> Option<FlowState> {
        None
    }

    pub(super) fn packet(&mut self, _: &mut FlowState, _: &[u8], _: u64) -> Verdict {
        match *self {}
    }

    pub(super) fn give_up(&mut self, _: FlowState, _: bool) -> Class {
        match *self {}
    }
}
