//! The kernel object: embedded at build time, given its table sizes before it is loaded.

use std::ops::Range;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use pathflow_common::layout::{
    FILTER_FUNCTION, FILTER_INSTRUCTIONS, IPV4_SLOTS_MARK, SPILL_SLOTS_MARK, WIDE_SLOTS_MARK,
};

use super::CaptureError;
use super::filter::FilterSet;
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
        (WIDE_SLOTS_MARK, sizes.ipv6_slots),
        (SPILL_SLOTS_MARK, sizes.spill_slots),
    ] {
        replace_once(btf, mark as u32, slots)?;
    }
    Ok(bytes)
}

/// The object with `filters` in place of the function that is kept for it. The function keeps its size, so
/// everything else in the object stays valid.
///
/// # Errors
/// [`CaptureError::Object`] if the object has no such function, or with too little room, or with relocations
/// in it, which would change the instructions.
pub fn with_filters(mut bytes: Vec<u8>, filters: &FilterSet) -> Result<Vec<u8>, CaptureError> {
    let place = {
        let file = object::File::parse(&*bytes).map_err(|error| CaptureError::Object(error.to_string()))?;
        filter_place(&file).map_err(CaptureError::Object)?
    };
    let room = place.len() / size_of::<u64>();
    let function = bytes
        .get_mut(place)
        .filter(|_| room >= FILTER_INSTRUCTIONS)
        .ok_or_else(|| CaptureError::Object(format!("too little room in {FILTER_FUNCTION}")))?;
    for (old, new) in function.chunks_exact_mut(size_of::<u64>()).zip(filters.kernel_code(room)?) {
        old.copy_from_slice(&new.to_ne_bytes());
    }
    Ok(bytes)
}

/// Where in the file the function for the filters is.
fn filter_place(file: &object::File<'_>) -> Result<Range<usize>, String> {
    let mut symbols = file.symbols().filter(|symbol| {
        symbol.kind() == SymbolKind::Text && symbol.name().is_ok_and(|name| name.contains(FILTER_FUNCTION))
    });
    let (Some(symbol), None) = (symbols.next(), symbols.next()) else {
        return Err(format!("not one function {FILTER_FUNCTION}"));
    };
    let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
    let section = section.ok_or_else(|| format!("no section for {FILTER_FUNCTION}"))?;
    let (start, _) = section.file_range().ok_or_else(|| format!("no code of {FILTER_FUNCTION}"))?;
    let function = symbol.address()..symbol.address() + symbol.size();
    if section.relocations().any(|(offset, _)| function.contains(&offset)) {
        return Err(format!("relocations in {FILTER_FUNCTION}"));
    }
    Ok((start + function.start) as usize..(start + function.end) as usize)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Filter;

    fn filters() -> FilterSet {
        FilterSet::new(Some(Filter::compile("not port 22").unwrap()))
    }

    #[test]
    fn filters_change_nothing_but_its_function() {
        let filters = filters();
        let place = filter_place(&object::File::parse(OBJECT).unwrap()).unwrap();
        let bytes = with_filters(OBJECT.to_vec(), &filters).unwrap();
        assert_eq!(bytes.len(), OBJECT.len());
        assert_eq!(bytes[..place.start], OBJECT[..place.start]);
        assert_eq!(bytes[place.end..], OBJECT[place.end..]);
        let function: Vec<u8> = filters
            .kernel_code(place.len() / 8)
            .unwrap()
            .iter()
            .flat_map(|code| code.to_ne_bytes())
            .collect();
        assert_eq!(bytes[place], function);
    }

    #[test]
    fn an_object_without_the_function_is_refused() {
        let filters = filters();
        let mut bytes = OBJECT.to_vec();
        let name = FILTER_FUNCTION.as_bytes();
        for place in 0..bytes.len() - name.len() {
            if bytes[place..].starts_with(name) {
                bytes[place] = b'x';
            }
        }
        let error = with_filters(bytes, &filters).unwrap_err().to_string();
        assert!(error.contains("not one function pathflow_filter"), "{error}");
        assert!(with_filters(Vec::new(), &filters).is_err());
    }
}
