//! Random programs of classic BPF: the kernel's translation of one, and its evaluation for packets of files,
//! return what a slow interpreter says, which is written from the description of the machine alone.

use std::cell::Cell;

use pathflow::capture::filter::Instruction;
use pathflow::capture::{Filter, FilterSet};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::filter::bits;
use crate::filter_run::{Beside, KernelFilters, sets};
use crate::say;

/// Every operation that there is.
const CODES: [u16; 52] = [
    // ld: word, half, octet at k; at X + k; constant, length, memory.
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x80, 0x60,
    // ldx: constant, length, memory, header length; st, stx.
    0x01, 0x81, 0x61, 0xb1, 0x02, 0x03,
    // alu with k: add, sub, mul, div, or, and, lsh, rsh, mod, xor; with X; neg.
    0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0x94, 0xa4, 0x0c, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x6c,
    0x7c, 0x9c, 0xac, 0x84, // jmp: always; jeq, jgt, jge, jset with k; with X.
    0x05, 0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d, // tax, txa; ret k, ret A.
    0x07, 0x87, 0x06, 0x16, // The most frequent ones once more.
    0x30, 0x50, 0x48,
];

/// What a program returns for a frame, as written in the paper.
fn interpret(program: &[Instruction], frame: &[u8], length: u32) -> u32 {
    let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
    let load = |at: u64, octets: u64| -> Option<u32> {
        (at..at + octets).try_fold(0, |value: u32, at| Some(value << 8 | u32::from(*frame.get(at as usize)?)))
    };
    let mut next = 0;
    loop {
        let Instruction { code, jt, jf, k } = program[next];
        next += 1;
        let right = if code & 8 != 0 { x } else { k };
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        let mut branch = |holds: bool| next += usize::from(if holds { jt } else { jf });
        let value = match code {
            0x20 | 0x28 | 0x30 => load(k.into(), size),
            0x40 | 0x48 | 0x50 => load(u64::from(x) + u64::from(k), size),
            0x00 | 0x01 => Some(k),
            0x80 | 0x81 => Some(length),
            0x60 | 0x61 => Some(memory[k as usize]),
            0xb1 => load(k.into(), 1).map(|octet| 4 * (octet & 15)),
            0x04 | 0x0c => Some(a.wrapping_add(right)),
            0x14 | 0x1c => Some(a.wrapping_sub(right)),
            0x24 | 0x2c => Some(a.wrapping_mul(right)),
            0x34 | 0x3c => a.checked_div(right),
            0x44 | 0x4c => Some(a | right),
            0x54 | 0x5c => Some(a & right),
            0x64 | 0x6c => Some(if right < 32 { a << right } else { 0 }),
            0x74 | 0x7c => Some(if right < 32 { a >> right } else { 0 }),
            0x94 | 0x9c => a.checked_rem(right),
            0xa4 | 0xac => Some(a ^ right),
            0x84 => Some(0_u32.wrapping_sub(a)),
            0x02 => Some({
                memory[k as usize] = a;
                a
            }),
            0x03 => Some({
                memory[k as usize] = x;
                a
            }),
            0x05 => Some({
                next += k as usize;
                a
            }),
            0x15 | 0x1d => Some({
                branch(a == right);
                a
            }),
            0x25 | 0x2d => Some({
                branch(a > right);
                a
            }),
            0x35 | 0x3d => Some({
                branch(a >= right);
                a
            }),
            0x45 | 0x4d => Some({
                branch(a & right != 0);
                a
            }),
            0x07 => Some(a),
            0x87 => Some(x),
            0x06 => return k,
            0x16 => return a,
            _ => unreachable!("no such operation: {code:#x}"),
        };
        let Some(value) = value else { return 0 };
        // What sets X: ldx and tax.
        if code & 7 == 1 || code == 7 { x = value } else { a = value }
    }
}

/// Offsets, constants and operands of every interesting size.
fn operand() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => 0_u32..24,
        4 => 0_u32..80,
        1 => select(vec![0, 1, 31, 32, 33, 0xfeff, 0xff00, 0xffff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xff, 0xdfff_ffff]),
        1 => 0_u32..0xffe0_0000,
    ]
}

/// A program: jumps go forward to an instruction that exists, and the last one returns.
fn program() -> impl Strategy<Value = Vec<Instruction>> {
    let raw = (select(CODES.to_vec()), any::<u8>(), any::<u8>(), operand());
    vec(raw, 0..40).prop_map(|raw| {
        let length = raw.len() + 1;
        let instructions = raw.into_iter().enumerate().map(|(index, (code, jt, jf, k))| {
            let behind = length - index - 1;
            // Most jumps are short, so that a program does not end with the first one.
            let short = |jump: u8| (usize::from(jump % 4) % behind) as u8;
            let k = match code {
                0x60 | 0x61 | 0x02 | 0x03 => k % 16,
                0x05 => u32::from(short(jt)),
                _ => k,
            };
            let is_condition = code & 7 == 5 && code != 5;
            let (jt, jf) = if is_condition { (short(jt), short(jf)) } else { (0, 0) };
            Instruction { code, jt, jf, k }
        });
        instructions.chain([Instruction { code: 0x16, jt: 0, jf: 0, k: 0 }]).collect()
    })
}

/// Eight programs that go on where this one ends, each with another half octet of what it returns there.
fn parts(program: &[Instruction]) -> [Vec<Instruction>; 8] {
    std::array::from_fn(|half| {
        let mut part = program.to_vec();
        let mask = Instruction { code: 0x54, jt: 0, jf: 0, k: 0xf << (4 * half) };
        part.insert(program.len() - 1, mask);
        part
    })
}

/// A frame, its length on the wire, and what is beside it.
fn frame() -> impl Strategy<Value = (Vec<u8>, u32, Beside)> {
    let octet = prop_oneof![2 => 0_u8..20, 1 => any::<u8>()];
    let octets = prop_oneof![vec(octet.clone(), 0..26), vec(octet, 0..80)];
    let beside = prop_oneof![
        2 => Just(Beside::Nothing),
        2 => any::<(u16, u16)>().prop_map(|(identifier, control)| Beside::Tag(identifier, control)),
        1 => any::<u16>().prop_map(Beside::LinkHeader),
    ];
    (octets, any::<u32>(), beside).prop_filter("what is beside it belongs to it", |(octets, _, beside)| {
        octets.len()
            >= match beside {
                Beside::Nothing => 0,
                Beside::Tag(..) => 14,
                Beside::LinkHeader(_) => 5,
            }
    })
}

/// The frame with what is beside it.
fn whole(octets: &[u8], beside: Beside) -> Vec<u8> {
    let mut whole = octets.to_vec();
    match beside {
        Beside::Nothing => {}
        Beside::Tag(identifier, control) => {
            whole.splice(12..12, [identifier.to_be_bytes(), control.to_be_bytes()].concat());
        }
        Beside::LinkHeader(ether_type) => {
            whole.splice(0..0, [&[0; 12][..], &ether_type.to_be_bytes()].concat());
        }
    }
    whole
}

#[test]
fn random_programs_return_the_same_in_the_kernel() {
    const CASES: u32 = 30;
    const PROGRAMS: usize = 40;
    const FRAMES: usize = 16;
    let runs = [Cell::new(0_u64), Cell::new(0)];
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(vec(program(), 1..=PROGRAMS), vec(frame(), FRAMES)), |(programs, frames)| {
            let filters: Vec<Filter> =
                programs.iter().map(|program| Filter::new(program).expect("a valid program")).collect();
            // Eight together, each of them as the one that is required, and what each returns half octet by half octet.
            let required = filters.iter().map(|filter| FilterSet::new(Some(filter.clone())));
            let together = sets(&filters);
            let parts = programs.iter().flat_map(|program| parts(program));
            let parts: Vec<Filter> = parts.map(|part| Filter::new(&part).expect("a valid program")).collect();
            let all: Vec<FilterSet> = together.iter().cloned().chain(required).chain(sets(&parts)).collect();
            let mut kernel = KernelFilters::load(&all);
            for (octets, wire_length, beside) in &frames {
                let whole = whole(octets, *beside);
                let expected: Vec<u32> =
                    programs.iter().map(|program| interpret(program, &whole, *wire_length)).collect();
                let mut run = |position| kernel.run(position, octets, *wire_length, *beside);
                for (position, (expected, programs)) in expected.chunks(8).zip(programs.chunks(8)).enumerate()
                {
                    let bits = bits(expected.iter().map(|returned| *returned != 0));
                    prop_assert_eq!(run(position), Some(bits), "{:?} {:?} {:02x?}", programs, beside, octets);
                    prop_assert_eq!(together[position].results(&whole, *wire_length), Some(bits));
                }
                for (position, (expected, program)) in expected.iter().zip(&programs).enumerate() {
                    let verdict = (*expected != 0).then_some(0);
                    let (one, halves) =
                        (together.len() + position, together.len() + programs.len() + position);
                    prop_assert_eq!(run(one), verdict, "{:?} {:?} {:02x?}", program, beside, octets);
                    prop_assert_eq!(all[one].results(&whole, *wire_length), verdict);
                    let half =
                        |number: usize| interpret(&self::parts(program)[number], &whole, *wire_length) != 0;
                    let bits = bits((0..8).map(half));
                    prop_assert_eq!(run(halves), Some(bits), "{:?} {:?} {:02x?}", program, beside, octets);
                    let count = &runs[usize::from(*expected != 0)];
                    count.set(count.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let [unmatched, matched] = runs.map(Cell::into_inner);
    say(&format!("filter: random programs, {matched} runs returned something, {unmatched} zero"));
    assert!(matched > 1000 && unmatched > 1000, "{matched} and {unmatched}");
}
