//! All filters of a configuration.

use pathflow_common::flow::FILTER_RESULTS;
use pathflow_common::layout::FILTER_INSTRUCTIONS;

use super::classic::Operation;
use super::{Filter, FilterError, translate};

/// The filter that says which packets are accounted, and the expressions whose results a packet's flow key has
/// ([`KeyFields::filter_results`](pathflow_common::flow::KeyFields)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSet {
    required: Option<Filter>,
    /// By the number of their bit.
    results: Vec<(String, Filter)>,
}

impl FilterSet {
    /// Packets to account are those that `required` matches; `None` = all.
    #[must_use]
    pub const fn new(required: Option<Filter>) -> Self {
        Self { required, results: Vec::new() }
    }

    /// The number of the bit (from 0) that is set in the results of packets that `expression` matches. An expression
    /// that is there already, but for white space, has the bit that it has.
    ///
    /// # Errors
    /// [`FilterError`]: as [`Filter::compile`], and [`FilterError::TooMany`] if there are as many as there are bits.
    pub fn add(&mut self, expression: &str) -> Result<u8, FilterError> {
        match self.bit(expression) {
            Some(bit) => Ok(bit),
            None => self.add_filter(expression, Filter::compile(expression)?),
        }
    }

    /// The same with a filter under a name.
    ///
    /// # Errors
    /// [`FilterError::TooMany`] if there are as many as there are bits, [`FilterError::TooLong`] if it has no room
    /// with the others.
    pub fn add_filter(&mut self, name: &str, filter: Filter) -> Result<u8, FilterError> {
        if self.results.len() >= FILTER_RESULTS {
            return Err(FilterError::TooMany { limit: FILTER_RESULTS });
        }
        let bit = self.results.len() as u8;
        self.results.push((normal(name), filter));
        if let Err(error) = self.kernel_code(FILTER_INSTRUCTIONS) {
            self.results.pop();
            return Err(error);
        }
        Ok(bit)
    }

    /// The number of the bit of `expression`, if it is in the set.
    #[must_use]
    pub fn bit(&self, expression: &str) -> Option<u8> {
        let expression = normal(expression);
        (0..).zip(&self.results).find(|(_, (present, _))| *present == expression).map(|(bit, _)| bit)
    }

    /// The expressions, by the number of their bit.
    pub fn expressions(&self) -> impl Iterator<Item = &str> {
        self.results.iter().map(|(expression, _)| expression.as_str())
    }

    /// Whether the packets to account are those that `other` has.
    #[must_use]
    pub fn requires_the_same_as(&self, other: &Self) -> bool {
        self.required == other.required
    }

    /// Whether there is nothing to be asked of a packet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.required.is_none() && self.results.is_empty()
    }

    /// The results of a frame, of which `octets` were captured, and which had `wire_length` octets on the wire, without
    /// the frame check sequence; `None` if it is not to be accounted.
    #[must_use]
    pub fn results(&self, octets: &[u8], wire_length: u32) -> Option<u8> {
        if self.required.as_ref().is_some_and(|filter| !filter.matches(octets, wire_length)) {
            return None;
        }
        let bits = (0..)
            .zip(&self.results)
            .map(|(bit, (_, filter))| u8::from(filter.matches(octets, wire_length)) << bit);
        Some(bits.fold(0, |results, bit| results | bit))
    }

    /// The filters as a function of the kernel program: `room` instructions in the machine's byte order, that
    /// call nothing and refer to nothing. Arguments and result are those of `pathflow_filter` in
    /// `probe-ebpf/src/filter.rs`.
    ///
    /// # Errors
    /// [`FilterError::TooLong`]; not from [`FILTER_INSTRUCTIONS`] up.
    pub fn kernel_code(&self, room: usize) -> Result<Vec<u64>, FilterError> {
        let others: Vec<&[Operation]> = self.results.iter().map(|(_, filter)| &*filter.program).collect();
        translate::translate(self.required.as_ref().map(|filter| &*filter.program), &others, room)
    }
}

/// The expression with single spaces.
fn normal(expression: &str) -> String {
    expression.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::filter::Instruction;

    #[test]
    fn an_expression_has_one_bit_and_the_ninth_is_refused() {
        let mut set = FilterSet::new(None);
        assert!(set.is_empty());
        for bit in 0..8 {
            assert_eq!(set.add(&format!("port {bit}")), Ok(bit));
        }
        assert_eq!(set.add(" port  3 "), Ok(3));
        assert_eq!(set.bit("port 7"), Some(7));
        assert_eq!(set.add("port 8"), Err(FilterError::TooMany { limit: 8 }));
        assert_eq!(set.bit("port 8"), None);
        assert_eq!(set.expressions().count(), 8);
        let error = set.add("port 8").unwrap_err().to_string();
        assert!(error.contains("can have 8 different ones"), "{error}");
    }

    #[test]
    fn what_has_no_room_with_the_others_is_refused_and_left_out() {
        // A load, five hundred times; then, a return.
        let mut program = vec![Instruction { code: 0x28, jt: 0, jf: 0, k: 12 }; 500];
        program.push(Instruction { code: 0x06, jt: 0, jf: 0, k: 1 });
        let long = Filter::new(&program).unwrap();
        let mut set = FilterSet::new(Some(long.clone()));
        assert_eq!(
            set.add_filter("long", long.clone()),
            Err(FilterError::TooLong { instructions: 6075, limit: 4095 })
        );
        assert_eq!(set.add("port 53"), Ok(0));
    }

    #[test]
    fn without_the_required_filter_there_are_no_results() {
        let mut set = FilterSet::new(Some(Filter::compile("less 64").unwrap()));
        assert_eq!(set.add("ether[0] = 1"), Ok(0));
        assert_eq!(set.add("ether[1] = 2"), Ok(1));
        assert_eq!(set.results(&[1, 2], 65), None);
        assert_eq!(set.results(&[1, 2], 64), Some(3));
        assert_eq!(set.results(&[0, 2], 64), Some(2));
        assert_eq!(set.results(&[], 64), Some(0));
        assert_eq!(FilterSet::default().results(&[], 64), Some(0));
    }
}
