//! Rows for people: columns as wide as what is in them.

/// Between two cells of what [`aligned`] takes: no value has it.
pub const CELL_SEPARATOR: char = '\u{1f}';
/// Blanks between two columns.
const GAP: usize = 2;

/// Lines of cells, the first of which are titles, in columns. Columns of numbers are aligned at their right.
#[must_use]
pub fn aligned(lines: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(lines);
    let mut columns: Vec<Column> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (position, cell) in line.split(CELL_SEPARATOR).enumerate() {
            if position == columns.len() {
                columns.push(Column { width: 0, is_number: true });
            }
            if let Some(column) = columns.get_mut(position) {
                column.width = column.width.max(cell.chars().count());
                column.is_number &= number == 0 || cell.bytes().all(|octet| octet.is_ascii_digit());
            }
        }
    }
    let mut out = Vec::with_capacity(2 * lines.len());
    for line in text.lines() {
        let mut blanks = 0;
        for (cell, column) in line.split(CELL_SEPARATOR).zip(&columns) {
            let missing = column.width - cell.chars().count();
            let (before, after) = if column.is_number { (missing, 0) } else { (0, missing) };
            // Blanks at the end of a line are left out.
            out.resize(out.len() + blanks + before, b' ');
            out.extend_from_slice(cell.as_bytes());
            blanks = after + GAP;
        }
        out.push(b'\n');
    }
    out
}

struct Column {
    width: usize,
    is_number: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines =
            "SRC_IP|AS_PATH|PACKETS\n192.0.2.1|1_2|7\n2001:db8::1||1234567890\n".replace('|', "\u{1f}");
        let expected = "SRC_IP       AS_PATH     PACKETS\n\
                        192.0.2.1    1_2               7\n\
                        2001:db8::1           1234567890\n";
        assert_eq!(String::from_utf8(aligned(lines.as_bytes())).unwrap(), expected);
        assert_eq!(aligned(b""), b"");
    }
}
