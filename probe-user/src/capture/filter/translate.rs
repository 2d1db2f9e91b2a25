//! From classic BPF to a function of the kernel program.
//!
//! The function runs one program after the other: what each returns becomes a bit of the function's result.
//!
//! The function gets where the frame starts and ends, its length on the wire, and perhaps what is to be read as
//! if it were in the frame: a VLAN tag that the kernel has taken out of it, or the Ethernet header of a packet
//! that has none. Every offset is then one of the frame with it:
//! - `BASE` points before the frame by as many octets as are added, so that what follows is at its own offset;
//! - the first nineteen octets are put together on the stack, for loads that begin in the first sixteen.
//!
//! In the programs where nothing is ever added the verifier knows that, and leaves these parts out.
//!
//! The kernel wants a proof of each load: a comparison with the end of the frame on every way to it. One
//! comparison is enough for all loads up to the same offset; [`translate`] keeps account of the offset that
//! has been compared on all ways to an instruction. There are forward jumps only, so one pass does.
//!
//! It also follows every way through the programs, unless it has been at a place before in a state like the
//! present one. So that all ways through one program come to the next one alike, it must not know
//! - the result so far: that begins as a zero which the kernel does not know to be one (two equal values,
//!   xor-ed), and bits are added, not or-ed;
//! - how far the frame was found to reach: each program has a `BASE` of its own, at a distance from the start
//!   of the frame that is a zero of that kind.

use super::FilterError;
use super::assembler::{Alu, Assembler, Jump, Label, Register, Value, Width};
use super::classic::{Condition, Operand, Operation, Operator, Size};

/// The accumulator; at the end, the result.
const A: Register = Register(0);
/// Start of the frame, less the octets that are added.
const BASE: Register = Register(1);
/// End of what can be read of the frame.
const END: Register = Register(2);
/// Length of the frame on the wire.
const LENGTH: Register = Register(3);
/// What is beside the frame; behind the start of the function: how many octets are added.
const ADDED: Register = Register(4);
const SCRATCH: Register = Register(5);
const X: Register = Register(6);
const POINTER: Register = Register(7);
/// The result so far.
const RESULT: Register = Register(8);
/// What `BASE` is at the start of each program.
const ORIGIN: Register = Register(9);
/// End of the stack.
const STACK: Register = Register(10);

/// Offset of the `EtherType`, before which a tag is put.
const TAG_OFFSET: i16 = 12;
/// Octets of a tag.
const TAG_LENGTH: i16 = 4;
/// Octets of an Ethernet header.
const HEADER_LENGTH: i16 = 14;
/// From this offset on all is in the frame, whatever is added.
const IN_FRAME: i16 = TAG_OFFSET + TAG_LENGTH;
/// Where the start of the frame is put together with what is added, from the end of the stack.
const IMAGE: i16 = -24;
/// The last octet that is put together: as far as a word at the offset before [`IN_FRAME`] reaches.
const LAST: i16 = IN_FRAME + 2;
/// The words of memory are before that.
const MEMORY: i16 = IMAGE - 64;
/// Loads end here at the latest. The kernel proves loads up to 0xffff (`MAX_PACKET_OFF`) in its own buffer, in
/// which a frame need not be at the start; no first buffer is that long.
const HIGHEST: u32 = 0xff00;

/// The bit of the result that says that a packet is to be accounted.
pub(super) const ACCOUNTED: u32 = 1;
/// The first of the bits that say which of the other programs match it.
pub(super) const FIRST_RESULT: u32 = 8;

/// The function for decoded programs, filled up to `room` instructions. It returns 0 if `required` does not match;
/// otherwise [`ACCOUNTED`], and a bit from [`FIRST_RESULT`] up for each of the `others` that does.
pub(super) fn translate(
    required: Option<&[Operation]>,
    others: &[&[Operation]],
    room: usize,
) -> Result<Vec<u64>, FilterError> {
    let mut assembler = Assembler::default();
    let [filling, fails, end] = [assembler.label(), assembler.label(), assembler.label()];
    let mut translator = Translator {
        assembler,
        filling,
        end,
        first: 0,
        bit: 0,
        done: end,
        no_match: end,
        compared: Vec::new(),
    };
    let programs = || required.into_iter().chain(others.iter().copied());
    translator.prologue(required.is_some(), programs().flatten());
    let goes_on = required.is_none_or(|program| translator.program(program, ACCOUNTED, Some(fails)));
    // Nothing leads to the others if the first one never matches.
    if goes_on {
        for (program, bit) in others.iter().zip(FIRST_RESULT..) {
            translator.program(program, 1 << bit, None);
        }
    }
    translator.end(fails, goes_on, room)
}

struct Translator {
    assembler: Assembler,
    /// Behind all programs: what fills the room.
    filling: Label,
    /// Behind the last program.
    end: Label,
    /// Number of the label of the present program's first instruction.
    first: usize,
    /// What the present program adds to the result if it matches.
    bit: u32,
    /// Behind the present program.
    done: Label,
    /// Where the present program goes on if it does not match.
    no_match: Label,
    /// For each of its instructions that some way leads to: the offset up to which the frame is known to reach on
    /// all of them.
    compared: Vec<Option<u32>>,
}

impl Translator {
    fn prologue<'a>(&mut self, has_required: bool, mut operations: impl Iterator<Item = &'a Operation>) {
        let asm = &mut self.assembler;
        asm.alu(Alu::Move, A, Value::Constant(0));
        asm.jump_if(Jump::NotEqual, A, Value::Constant(0), self.filling);
        self.unknown_zero(RESULT);
        if !has_required {
            self.assembler.alu(Alu::Add, RESULT, constant(ACCOUNTED));
        }
        let reads = |operation: &Operation| {
            matches!(operation, Operation::Load { .. } | Operation::LoadXHeaderLength(_))
        };
        if operations.any(reads) {
            self.put_together();
        }
        self.assembler.alu64(Alu::Move, ORIGIN, Value::Register(BASE));
    }

    /// A zero that the kernel does not know.
    fn unknown_zero(&mut self, register: Register) {
        let asm = &mut self.assembler;
        asm.alu(Alu::Move, register, Value::Register(LENGTH));
        asm.alu(Alu::Move, SCRATCH, Value::Register(LENGTH));
        asm.alu(Alu::ExclusiveOr, register, Value::Register(SCRATCH));
    }

    /// A program that adds `bit` to the result if it matches, and otherwise goes on at `no_match`, or behind it. False
    /// if no way leads behind it.
    fn program(&mut self, program: &[Operation], bit: u32, no_match: Option<Label>) -> bool {
        let asm = &mut self.assembler;
        self.done = asm.label();
        self.no_match = no_match.unwrap_or(self.done);
        self.first = asm.labels(program.len());
        self.bit = bit;
        self.compared = vec![None; program.len()];
        self.reach(0, 0);
        self.unknown_zero(POINTER);
        let asm = &mut self.assembler;
        asm.alu(Alu::And, POINTER, Value::Constant(1));
        asm.alu64(Alu::Move, BASE, Value::Register(ORIGIN));
        asm.alu64(Alu::Add, BASE, Value::Register(POINTER));
        asm.alu(Alu::Move, A, Value::Constant(0));
        asm.alu(Alu::Move, X, Value::Constant(0));
        let mut words: Vec<u8> = program.iter().filter_map(read_word).collect();
        words.sort_unstable();
        words.dedup();
        for word in words {
            asm.store(Width::Word, STACK, memory(word), Value::Constant(0));
        }
        for (index, operation) in program.iter().enumerate() {
            self.assembler.bind(self.label(index));
            // The kernel refuses instructions that no way leads to.
            if let Some(compared) = self.compared.get(index).copied().flatten() {
                self.operation(index, *operation, compared);
            }
        }
        self.assembler.bind(self.done);
        self.assembler.is_used(self.done)
    }

    /// The label of an instruction of the present program.
    fn label(&self, index: usize) -> Label {
        Label(self.first + index)
    }

    /// Puts the start of the frame together with what is added.
    fn put_together(&mut self) {
        let asm = &mut self.assembler;
        let (header, added, done) = (asm.label(), asm.label(), asm.label());
        asm.jump_if64(Jump::Equal, ADDED, Value::Constant(0), done);
        asm.alu64(Alu::Move, SCRATCH, Value::Register(ADDED));
        asm.alu64(Alu::ShiftRight, SCRATCH, Value::Constant(33));
        asm.jump_if64(Jump::NotEqual, SCRATCH, Value::Constant(0), header);

        // A tag. It was taken out of a frame with addresses and EtherType; there may be no more.
        self.reaches(HEADER_LENGTH);
        self.copy(Width::Double, 0, 0);
        self.copy(Width::Word, 8, 8);
        self.copy(Width::Half, TAG_OFFSET, TAG_OFFSET + TAG_LENGTH);
        let asm = &mut self.assembler;
        asm.big_endian(ADDED, 32);
        asm.store(Width::Word, STACK, IMAGE + TAG_OFFSET, Value::Register(ADDED));
        asm.store(Width::Octet, STACK, IMAGE + LAST, Value::Constant(0));
        asm.alu64(Alu::Move, ADDED, Value::Constant(TAG_LENGTH.into()));
        asm.alu64(Alu::Move, SCRATCH, Value::Register(BASE));
        asm.alu64(Alu::Add, SCRATCH, Value::Constant((HEADER_LENGTH + 1).into()));
        asm.jump_if64(Jump::Greater, SCRATCH, Value::Register(END), added);
        self.copy(Width::Octet, HEADER_LENGTH, LAST);
        let asm = &mut self.assembler;
        asm.jump(added);

        // A header before an IP packet: no addresses, only the type.
        asm.bind(header);
        self.reaches(LAST + 1 - HEADER_LENGTH);
        self.copy(Width::Half, 0, HEADER_LENGTH);
        self.copy(Width::Half, 2, HEADER_LENGTH + 2);
        self.copy(Width::Octet, 4, HEADER_LENGTH + 4);
        let asm = &mut self.assembler;
        asm.store(Width::Double, STACK, IMAGE, Value::Constant(0));
        asm.store(Width::Word, STACK, IMAGE + 8, Value::Constant(0));
        asm.alu64(Alu::ShiftRight, ADDED, Value::Constant(16));
        asm.big_endian(ADDED, 16);
        asm.store(Width::Half, STACK, IMAGE + TAG_OFFSET, Value::Register(ADDED));
        asm.alu64(Alu::Move, ADDED, Value::Constant(HEADER_LENGTH.into()));

        asm.bind(added);
        asm.alu64(Alu::Subtract, BASE, Value::Register(ADDED));
        asm.bind(done);
    }

    /// Goes on if the frame has this many octets; otherwise no program matches it.
    fn reaches(&mut self, octets: i16) {
        let asm = &mut self.assembler;
        asm.alu64(Alu::Move, SCRATCH, Value::Register(BASE));
        asm.alu64(Alu::Add, SCRATCH, Value::Constant(octets.into()));
        asm.jump_if64(Jump::Greater, SCRATCH, Value::Register(END), self.no_match);
    }

    /// Copies from an offset of the frame to an offset of what is put together.
    fn copy(&mut self, width: Width, from: i16, to: i16) {
        self.assembler.load(width, SCRATCH, BASE, from);
        self.assembler.store(width, STACK, IMAGE + to, Value::Register(SCRATCH));
    }

    /// A way leads to `index` on which the frame is known to reach up to `compared`.
    fn reach(&mut self, index: usize, compared: u32) {
        if let Some(known) = self.compared.get_mut(index) {
            *known = Some(known.map_or(compared, |known| known.min(compared)));
        }
    }

    fn operation(&mut self, index: usize, operation: Operation, compared: u32) {
        let next = index + 1;
        let asm = &mut self.assembler;
        // Up to where the frame is known to reach behind this instruction; `None` if nothing follows it.
        let mut after = Some(compared);
        match operation {
            Operation::Load { size, indexed: false, offset } => {
                after = self.load(A, size, offset, compared);
            }
            Operation::Load { size, indexed: true, offset } => {
                if !self.load_indexed(size, offset) {
                    after = None;
                }
            }
            Operation::LoadXHeaderLength(offset) => {
                after = self.load(X, Size::Octet, offset, compared);
                if after.is_some() {
                    self.assembler.alu(Alu::And, X, Value::Constant(0xf));
                    self.assembler.alu(Alu::ShiftLeft, X, Value::Constant(2));
                }
            }
            Operation::LoadConstant(value) => asm.alu(Alu::Move, A, constant(value)),
            Operation::LoadLength => asm.alu(Alu::Move, A, Value::Register(LENGTH)),
            Operation::LoadMemory(word) => asm.load(Width::Word, A, STACK, memory(word)),
            Operation::LoadXConstant(value) => asm.alu(Alu::Move, X, constant(value)),
            Operation::LoadXLength => asm.alu(Alu::Move, X, Value::Register(LENGTH)),
            Operation::LoadXMemory(word) => asm.load(Width::Word, X, STACK, memory(word)),
            Operation::StoreA(word) => asm.store(Width::Word, STACK, memory(word), Value::Register(A)),
            Operation::StoreX(word) => asm.store(Width::Word, STACK, memory(word), Value::Register(X)),
            Operation::Calculate(operator, operand) => {
                if !self.calculate(operator, operand) {
                    after = None;
                }
            }
            Operation::Negate => asm.alu(Alu::Negate, A, Value::Constant(0)),
            Operation::Jump(target) => {
                self.go(target, next);
                self.reach(target, compared);
                after = None;
            }
            Operation::JumpIf { condition, operand, then, otherwise } => {
                self.branch(condition, operand, [then, otherwise], next);
                self.reach(then, compared);
                self.reach(otherwise, compared);
                after = None;
            }
            Operation::ReturnConstant(0) => {
                asm.jump(self.no_match);
                after = None;
            }
            Operation::ReturnConstant(_) => {
                self.matched();
                after = None;
            }
            Operation::ReturnA => {
                asm.jump_if(Jump::Equal, A, Value::Constant(0), self.no_match);
                self.matched();
                after = None;
            }
            Operation::MoveAToX => asm.alu(Alu::Move, X, Value::Register(A)),
            Operation::MoveXToA => asm.alu(Alu::Move, A, Value::Register(X)),
        }
        if let Some(compared) = after {
            self.reach(next, compared);
        }
    }

    /// A load at a constant offset. Returns up to where the frame is known to reach then; `None` if it never
    /// reaches that far.
    fn load(&mut self, to: Register, size: Size, offset: u32, compared: u32) -> Option<u32> {
        let end = offset.saturating_add(size as u32);
        let asm = &mut self.assembler;
        if end > HIGHEST {
            asm.jump(self.no_match);
            return None;
        }
        let near = i16::try_from(offset).ok();
        if end > compared || near.is_none() {
            asm.alu64(Alu::Move, SCRATCH, Value::Register(BASE));
            asm.alu64(Alu::Add, SCRATCH, constant(end));
            asm.jump_if64(Jump::Greater, SCRATCH, Value::Register(END), self.no_match);
        }
        match near {
            None => self.load_field(to, size, SCRATCH, -(size as i16)),
            Some(offset) if offset >= IN_FRAME => self.load_field(to, size, BASE, offset),
            Some(offset) => {
                let (together, done) = (asm.label(), asm.label());
                asm.jump_if64(Jump::NotEqual, ADDED, Value::Constant(0), together);
                self.load_field(to, size, BASE, offset);
                self.assembler.jump(done);
                self.assembler.bind(together);
                if (IMAGE + offset) % size as i16 == 0 {
                    self.load_field(to, size, STACK, IMAGE + offset);
                } else {
                    self.load_octets(to, size, STACK, IMAGE + offset);
                }
                self.assembler.bind(done);
            }
        }
        Some(end.max(compared))
    }

    /// A load at X and a constant offset. False if the frame never reaches that far.
    fn load_indexed(&mut self, size: Size, offset: u32) -> bool {
        let octets = i32::from(size as i16);
        let asm = &mut self.assembler;
        if offset > HIGHEST {
            asm.jump(self.no_match);
            return false;
        }
        let no_match = self.no_match;
        let (in_frame, compare, done) = (asm.label(), asm.label(), asm.label());
        // 64 bits: X and the offset do not wrap.
        asm.alu(Alu::Move, SCRATCH, Value::Register(X));
        asm.alu64(Alu::Add, SCRATCH, constant(offset));
        asm.jump_if64(Jump::Greater, SCRATCH, Value::Constant(HIGHEST as i32 - octets), no_match);
        asm.alu64(Alu::Move, POINTER, Value::Register(BASE));
        asm.jump_if64(Jump::Equal, ADDED, Value::Constant(0), compare);
        asm.jump_if64(Jump::GreaterOrEqual, SCRATCH, Value::Constant(IN_FRAME.into()), in_frame);

        // On the stack, where the kernel allows no misaligned loads.
        asm.alu64(Alu::Move, POINTER, Value::Register(END));
        asm.alu64(Alu::Subtract, POINTER, Value::Register(BASE));
        asm.alu64(Alu::Subtract, POINTER, Value::Constant(octets));
        asm.jump_if64(Jump::Greater, SCRATCH, Value::Register(POINTER), no_match);
        asm.alu64(Alu::Move, POINTER, Value::Register(STACK));
        asm.alu64(Alu::Add, POINTER, Value::Register(SCRATCH));
        self.load_octets(A, size, POINTER, IMAGE);
        let asm = &mut self.assembler;
        asm.jump(done);

        // The kernel counts from the start of the frame, so what is added is taken off the offset, not off
        // the pointer.
        asm.bind(in_frame);
        asm.alu64(Alu::Add, POINTER, Value::Register(ADDED));
        asm.alu64(Alu::Subtract, SCRATCH, Value::Register(ADDED));

        asm.bind(compare);
        asm.alu64(Alu::Add, POINTER, Value::Register(SCRATCH));
        asm.alu64(Alu::Move, SCRATCH, Value::Register(POINTER));
        asm.alu64(Alu::Add, SCRATCH, Value::Constant(octets));
        asm.jump_if64(Jump::Greater, SCRATCH, Value::Register(END), no_match);
        self.load_field(A, size, POINTER, 0);
        self.assembler.bind(done);
        true
    }

    /// A big-endian field that is read whole.
    fn load_field(&mut self, to: Register, size: Size, base: Register, offset: i16) {
        let asm = &mut self.assembler;
        match size {
            Size::Octet => asm.load(Width::Octet, to, base, offset),
            Size::Half => {
                asm.load(Width::Half, to, base, offset);
                asm.big_endian(to, 16);
            }
            Size::Word => {
                asm.load(Width::Word, to, base, offset);
                asm.big_endian(to, 32);
            }
        }
    }

    /// A big-endian field that is read octet by octet.
    fn load_octets(&mut self, to: Register, size: Size, base: Register, offset: i16) {
        let asm = &mut self.assembler;
        asm.load(Width::Octet, to, base, offset);
        for further in 1..size as i16 {
            asm.load(Width::Octet, SCRATCH, base, offset + further);
            asm.alu(Alu::ShiftLeft, to, Value::Constant(8));
            asm.alu(Alu::Or, to, Value::Register(SCRATCH));
        }
    }

    /// False if the program ends here, for a division by zero.
    fn calculate(&mut self, operator: Operator, operand: Operand) -> bool {
        let asm = &mut self.assembler;
        let operation = match operator {
            Operator::Add => Alu::Add,
            Operator::Subtract => Alu::Subtract,
            Operator::Multiply => Alu::Multiply,
            Operator::Divide => Alu::Divide,
            Operator::Modulo => Alu::Modulo,
            Operator::Or => Alu::Or,
            Operator::And => Alu::And,
            Operator::ExclusiveOr => Alu::ExclusiveOr,
            Operator::ShiftLeft => Alu::ShiftLeft,
            Operator::ShiftRight => Alu::ShiftRight,
        };
        let is_division = matches!(operator, Operator::Divide | Operator::Modulo);
        let is_shift = matches!(operator, Operator::ShiftLeft | Operator::ShiftRight);
        match operand {
            Operand::Constant(0) if is_division => {
                asm.jump(self.no_match);
                return false;
            }
            Operand::Constant(32..) if is_shift => asm.alu(Alu::Move, A, Value::Constant(0)),
            Operand::Constant(value) => asm.alu(operation, A, constant(value)),
            Operand::X => {
                if is_division {
                    asm.jump_if(Jump::Equal, X, Value::Constant(0), self.no_match);
                }
                let fits = asm.label();
                if is_shift {
                    // The kernel would shift by the low five bits.
                    asm.jump_if(Jump::Less, X, Value::Constant(32), fits);
                    asm.alu(Alu::Move, A, Value::Constant(0));
                }
                asm.bind(fits);
                asm.alu(operation, A, Value::Register(X));
            }
        }
        true
    }

    /// The present program matches.
    fn matched(&mut self) {
        self.assembler.alu(Alu::Add, RESULT, constant(self.bit));
        self.assembler.jump(self.done);
    }

    fn go(&mut self, target: usize, next: usize) {
        if target != next {
            self.assembler.jump(self.label(target));
        }
    }

    fn branch(&mut self, condition: Condition, operand: Operand, [then, otherwise]: [usize; 2], next: usize) {
        let (holds, fails) = match condition {
            Condition::Equal => (Jump::Equal, Some(Jump::NotEqual)),
            Condition::Greater => (Jump::Greater, Some(Jump::LessOrEqual)),
            Condition::GreaterOrEqual => (Jump::GreaterOrEqual, Some(Jump::Less)),
            Condition::AnyBit => (Jump::AnyBit, None),
        };
        let operand = match operand {
            Operand::Constant(value) => constant(value),
            Operand::X => Value::Register(X),
        };
        match fails {
            _ if then == otherwise => self.go(then, next),
            Some(fails) if then == next => {
                self.assembler.jump_if(fails, A, operand, self.label(otherwise));
            }
            _ => {
                self.assembler.jump_if(holds, A, operand, self.label(then));
                self.go(otherwise, next);
            }
        }
    }

    /// What the function ends with, and what fills the rest of the room. There is a way to the filling, or the
    /// kernel would refuse it: a jump that is never taken, as the verifier finds out; it then removes it all.
    fn end(self, fails: Label, goes_on: bool, room: usize) -> Result<Vec<u64>, FilterError> {
        let Self { mut assembler, filling, end, .. } = self;
        assembler.bind(end);
        if goes_on || assembler.is_used(end) {
            assembler.alu(Alu::Move, A, Value::Register(RESULT));
            assembler.exit();
        }
        assembler.bind(fails);
        if assembler.is_used(fails) {
            assembler.alu(Alu::Move, A, Value::Constant(0));
            assembler.exit();
        }
        let used = assembler.len();
        if used >= room {
            return Err(FilterError::TooLong { instructions: used, limit: room.saturating_sub(1) });
        }
        assembler.bind(filling);
        for _ in used + 1..room {
            assembler.alu(Alu::Move, A, Value::Constant(0));
        }
        assembler.exit();
        assembler.finish()
    }
}

/// The bits of a 32-bit constant; operations on 64 bits get none above `i32::MAX`.
fn constant(value: u32) -> Value {
    Value::Constant(value as i32)
}

/// Where a word of memory is, from the end of the stack.
fn memory(word: u8) -> i16 {
    MEMORY + 4 * i16::from(word)
}

/// The word of memory that an operation reads.
fn read_word(operation: &Operation) -> Option<u8> {
    match operation {
        Operation::LoadMemory(word) | Operation::LoadXMemory(word) => Some(*word),
        _ => None,
    }
}
