//! The file format: a rule in a line, `key=value` with white space between, `filter='...'` in quotes. Lines that begin
//! with `!` or `#` are comments.

use std::path::Path;

use super::{Row, TagMapError};

/// Hands over the rules of `text`, which is that of `file`, one by one.
pub(super) fn parse(
    file: &Path,
    text: &str,
    mut push: impl FnMut(Row) -> Result<(), String>,
) -> Result<(), TagMapError> {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['!', '#']) {
            continue;
        }
        let place = format!("{}:{number}", file.display());
        let row = pairs(line).and_then(|pairs| {
            Row::new(place.clone(), pairs.iter().copied()).map_err(|error| error.to_string())
        });
        row.and_then(&mut push).map_err(|reason| TagMapError::Row { place, reason })?;
    }
    Ok(())
}

/// The keys of a line with their values.
fn pairs(line: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.split_ascii_whitespace().next().unwrap_or_default();
        let Some((key, behind)) = rest.split_once('=').filter(|_| word.contains('=')) else {
            return Err(format!("{word:?} is not a key with a value, such as set_tag=1"));
        };
        let (value, behind) = match behind.strip_prefix('\'') {
            Some(quoted) => {
                quoted.split_once('\'').ok_or_else(|| format!("{key}: the quotation mark is not closed"))?
            }
            None => behind.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((behind, "")),
        };
        pairs.push((key, value));
        rest = behind.trim_start();
    }
    Ok(pairs)
}
