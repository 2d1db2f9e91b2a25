//! The kernel object: embedded at build time, given its table sizes before it is loaded.

use object::{Object as _, ObjectSection as _};
use pathflow_common::layout::{IPV4_SLOTS_MARK, IPV6_SLOTS_MARK, SPILL_SLOTS_MARK};

use super::CaptureError;
use super::program::TableSizes;

static OBJECT: &[u8] = include_bytes!(env!("PATHFLOW_EBPF"));

/// The object with the sizes of the inner maps set to `sizes`.
///
/// The kernel inlines the lookup in an inner map only if the map has exactly the size that the template
/// was created with, and the template comes from the object's BTF, where a size is the length of an array
/// type. aya sets sizes of plain and outer maps, but not of templates, so the three lengths are replaced
/// here; the object declares them as marks that occur nowhere else in its BTF.
///
/// # Errors
/// [`CaptureError::Object`] if a mark does not occur exactly once: the object is not of this build.
pub fn with_sizes(sizes: &TableSizes) -> Result<Vec<u8>, CaptureError> {
    let mut bytes = OBJECT.to_vec();
    let (start, length) = {
        let file = object::File::parse(&*bytes).map_err(|error| CaptureError::Object(error.to_string()))?;
        file.section_by_name(".BTF")
            .and_then(|section| section.file_range())
            .ok_or_else(|| CaptureError::Object("no .BTF section".to_owned()))?
    };
    let btf = bytes
        .get_mut(start as usize..(start + length) as usize)
        .ok_or_else(|| CaptureError::Object(".BTF section outside the file".to_owned()))?;
    for (mark, slots) in [
        (IPV4_SLOTS_MARK, sizes.ipv4_slots),
        (IPV6_SLOTS_MARK, sizes.ipv6_slots),
        (SPILL_SLOTS_MARK, sizes.spill_slots),
    ] {
        replace_once(btf, mark as u32, slots)?;
    }
    Ok(bytes)
}

fn replace_once(btf: &mut [u8], mark: u32, value: u32) -> Result<(), CaptureError> {
    let mark_bytes = mark.to_ne_bytes();
    let mut found = btf.chunks_exact_mut(4).filter(|word| **word == mark_bytes);
    match (found.next(), found.next()) {
        (Some(word), None) => {
            word.copy_from_slice(&value.to_ne_bytes());
            Ok(())
        }
        (first, _) => Err(CaptureError::Object(format!(
            "size mark {mark:#x} occurs {} in its BTF",
            if first.is_some() { "more than once" } else { "nowhere" }
        ))),
    }
}
