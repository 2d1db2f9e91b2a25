//! A row in the making, with room behind its text: what is short is copied at a fixed width, which is an instruction
//! or two where a copy of any length is a call.

/// Octets of one copy.
pub(super) const CHUNK: usize = 32;
/// Room for most rows.
const ROOM: usize = 4096;

/// The text of a row.
#[derive(Debug, Default)]
pub struct Line {
    /// The text, and anything behind it.
    octets: Vec<u8>,
    /// Octets of the text.
    length: usize,
}

/// A text that goes into row after row.
#[derive(Debug, Default)]
pub(super) struct Constant {
    /// The text, and anything behind it.
    chunks: Vec<[u8; CHUNK]>,
    /// Octets of the text.
    length: usize,
}

/// A text that is the same in row after row, as long as bin and purge are.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// Start of the bin, and time of the purge.
    of: Option<(Option<u64>, u64)>,
    text: Constant,
}

impl Line {
    /// Octets.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// The text.
    pub fn text(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    /// The text behind the first `start` octets.
    pub(super) fn text_mut(&mut self, start: usize) -> &mut [u8] {
        self.octets.get_mut(start..self.length).unwrap_or_default()
    }

    /// Takes away what is behind the first `length` octets.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Appends one octet.
    #[inline]
    pub(super) fn push(&mut self, octet: u8) {
        self.put_first([octet], 1);
    }

    /// Appends a text.
    pub(super) fn put(&mut self, text: &[u8]) {
        match self.octets.get_mut(self.length..self.length + text.len()) {
            Some(room) => room.copy_from_slice(text),
            None => self.grow(text),
        }
        self.length += text.len();
    }

    /// Appends the first `length` of the octets; the others fall where the next text will be.
    #[inline]
    pub(super) fn put_first<const N: usize>(&mut self, octets: [u8; N], length: usize) {
        debug_assert!(length <= N);
        match self.octets.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut) {
            Some(room) => *room = octets,
            None => self.grow(&octets),
        }
        self.length += length;
    }

    /// Appends a text that is ready.
    #[inline]
    pub(super) fn put_constant(&mut self, constant: &Constant) {
        self.put_chunks(&constant.chunks, constant.length);
    }

    /// Appends the first `length` octets of `chunks`.
    #[inline]
    pub(super) fn put_chunks(&mut self, chunks: &[[u8; CHUNK]], length: usize) {
        let end = self.length + length;
        for chunk in chunks.iter().take(length.div_ceil(CHUNK)) {
            self.put_first(*chunk, CHUNK);
        }
        self.length = end;
    }

    /// Writes `text` behind the text, and makes room behind it.
    #[cold]
    fn grow(&mut self, text: &[u8]) {
        self.octets.truncate(self.length);
        self.octets.extend_from_slice(text);
        self.octets.resize(2 * self.octets.len() + ROOM, 0);
    }
}

impl Constant {
    /// The text.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut constant = Self::default();
        constant.set(text);
        constant
    }

    /// Takes another text.
    pub(super) fn set(&mut self, text: &[u8]) {
        let (whole, rest) = text.as_chunks();
        self.chunks.clear();
        self.chunks.extend_from_slice(whole);
        if !rest.is_empty() {
            let mut last = [0; CHUNK];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.chunks.push(last);
        }
        self.length = text.len();
    }
}

impl Memo {
    /// Appends the text of `of`, which `write` appends if it is not known.
    #[inline]
    pub(super) fn put(&mut self, out: &mut Line, of: (Option<u64>, u64), write: impl FnOnce(&mut Line)) {
        if self.of == Some(of) {
            return out.put_constant(&self.text);
        }
        let start = out.len();
        write(out);
        self.text.set(out.text_mut(start));
        self.of = Some(of);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_what_was_put_into_it() {
        let pieces =
            proptest::collection::vec((0..5_u8, proptest::collection::vec(any::<u8>(), 0..100)), 0..200);
        proptest!(|(pieces in pieces)| {
            let (mut line, mut model) = (Line::default(), Vec::new());
            for (kind, piece) in &pieces {
                match (kind, piece.first_chunk::<8>()) {
                    (0, Some(octets)) => {
                        let length = usize::from(octets[0] % 9);
                        line.put_first(*octets, length);
                        model.extend_from_slice(&octets[..length]);
                    }
                    (1, _) => {
                        line.put_constant(&Constant::new(piece));
                        model.extend_from_slice(piece);
                    }
                    (2, _) => {
                        line.truncate(piece.len() * 10);
                        model.truncate(piece.len() * 10);
                    }
                    _ => {
                        line.put(piece);
                        model.extend_from_slice(piece);
                    }
                }
                prop_assert_eq!(line.len(), model.len());
            }
            prop_assert_eq!(line.text(), &model);
            prop_assert_eq!(line.text_mut(model.len() / 2), &model[model.len() / 2..]);
        });
    }

    #[test]
    fn a_memo_follows_what_it_is_of() {
        let mut memo = Memo::default();
        for (bin, updated) in [(None, 1), (None, 1), (Some(0), 1), (Some(0), 2), (Some(0), 2), (None, 2)] {
            let expected = format!("{bin:?} {updated}");
            let mut line = Line::default();
            memo.put(&mut line, (bin, updated), |out| out.put(expected.as_bytes()));
            assert_eq!(line.text(), expected.as_bytes());
        }
    }
}
