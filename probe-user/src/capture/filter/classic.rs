//! Classic BPF as libpcap makes it: decoding and evaluation.
//!
//! The machine is that of `McCanne` and Jacobson, "The BSD Packet Filter" (USENIX Winter 1993), with the
//! operators MOD and XOR: accumulator A, index register X, sixteen words of memory, all of 32 bits. Loads are
//! big-endian. A load beyond the frame and a division by zero end the program: the frame does not match.

use std::fmt;
use std::str::FromStr;

use super::FilterError;

/// Words of memory.
const MEMORY: usize = 16;
/// First of the offsets that mean something else than a place in the frame to Linux (`SKF_LL_OFF`).
const ANCILLARY: u32 = 0xffe0_0000;

/// One instruction, as in `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.code, self.jt, self.jf, self.k)
    }
}

/// Reads the four numbers that [`Display`](fmt::Display) writes, which is also how libpcap's wrapper shows an
/// instruction.
impl FromStr for Instruction {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split_ascii_whitespace();
        let mut next = || numbers.next().unwrap_or("");
        Ok(Self { code: next().parse()?, jt: next().parse()?, jf: next().parse()?, k: next().parse()? })
    }
}

/// Octets of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Octet = 1,
    Half = 2,
    Word = 4,
}

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Or,
    And,
    ExclusiveOr,
    ShiftLeft,
    ShiftRight,
}

/// Comparisons, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equal,
    Greater,
    GreaterOrEqual,
    /// The operands have a bit in common.
    AnyBit,
}

/// The right operand of an operator or comparison; the left one is A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Constant(u32),
    X,
}

/// One decoded instruction. Positions are valid, and beyond the instruction itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A = octets of the frame at `offset`, or at X + `offset`.
    Load {
        size: Size,
        indexed: bool,
        offset: u32,
    },
    LoadConstant(u32),
    /// A = length of the frame on the wire.
    LoadLength,
    LoadMemory(u8),
    LoadXConstant(u32),
    LoadXLength,
    LoadXMemory(u8),
    /// X = four times the low half of the octet at this offset: the length of an IPv4 header.
    LoadXHeaderLength(u32),
    StoreA(u8),
    StoreX(u8),
    /// A = A operator operand.
    Calculate(Operator, Operand),
    Negate,
    Jump(usize),
    JumpIf {
        condition: Condition,
        operand: Operand,
        then: usize,
        otherwise: usize,
    },
    ReturnConstant(u32),
    ReturnA,
    MoveAToX,
    MoveXToA,
}

/// Decodes and checks a program.
pub(super) fn decode(program: &[Instruction]) -> Result<Vec<Operation>, FilterError> {
    let decoded: Result<Vec<_>, _> = program
        .iter()
        .enumerate()
        .map(|(index, instruction)| operation(program, index, *instruction))
        .collect();
    let decoded = decoded?;
    match (decoded.last(), program.last()) {
        (Some(Operation::ReturnConstant(_) | Operation::ReturnA), _) => Ok(decoded),
        (_, Some(last)) => Err(FilterError::Instruction { index: program.len() - 1, instruction: *last }),
        (_, None) => Err(FilterError::Expression { reason: "its program is empty".to_owned() }),
    }
}

fn operation(
    program: &[Instruction],
    index: usize,
    instruction: Instruction,
) -> Result<Operation, FilterError> {
    let Instruction { code, jt, jf, k } = instruction;
    let unknown = || FilterError::Instruction { index, instruction };
    let target = |skipped: u32| {
        let target = index + 1 + skipped as usize;
        if target < program.len() { Ok(target) } else { Err(unknown()) }
    };
    let memory = || if (k as usize) < MEMORY { Ok(k as u8) } else { Err(unknown()) };
    let operand = if code & 0x08 == 0 { Operand::Constant(k) } else { Operand::X };
    Ok(match (code & 0x07, code & 0xf8) {
        (0x00, 0x20 | 0x28 | 0x30) if k >= ANCILLARY => return Err(FilterError::NotInFrame),
        (0x00, 0x20) => Operation::Load { size: Size::Word, indexed: false, offset: k },
        (0x00, 0x28) => Operation::Load { size: Size::Half, indexed: false, offset: k },
        (0x00, 0x30) => Operation::Load { size: Size::Octet, indexed: false, offset: k },
        (0x00, 0x40) => Operation::Load { size: Size::Word, indexed: true, offset: k },
        (0x00, 0x48) => Operation::Load { size: Size::Half, indexed: true, offset: k },
        (0x00, 0x50) => Operation::Load { size: Size::Octet, indexed: true, offset: k },
        (0x00, 0x00) => Operation::LoadConstant(k),
        (0x00, 0x80) => Operation::LoadLength,
        (0x00, 0x60) => Operation::LoadMemory(memory()?),
        (0x01, 0x00) => Operation::LoadXConstant(k),
        (0x01, 0x80) => Operation::LoadXLength,
        (0x01, 0x60) => Operation::LoadXMemory(memory()?),
        (0x01, 0xb0) => Operation::LoadXHeaderLength(k),
        (0x02, 0x00) => Operation::StoreA(memory()?),
        (0x03, 0x00) => Operation::StoreX(memory()?),
        (0x04, 0x80) => Operation::Negate,
        (0x04, rest) => Operation::Calculate(operator(rest & 0xf0).ok_or_else(unknown)?, operand),
        // A negative distance is a loop, which only protochain makes.
        (0x05, 0x00) if (k as i32) < 0 => return Err(FilterError::Loop),
        (0x05, 0x00) => Operation::Jump(target(k)?),
        (0x05, rest) => Operation::JumpIf {
            condition: condition(rest & 0xf0).ok_or_else(unknown)?,
            operand,
            then: target(jt.into())?,
            otherwise: target(jf.into())?,
        },
        (0x06, 0x00) => Operation::ReturnConstant(k),
        (0x06, 0x10) => Operation::ReturnA,
        (0x07, 0x00) => Operation::MoveAToX,
        (0x07, 0x80) => Operation::MoveXToA,
        _ => return Err(unknown()),
    })
}

fn operator(code: u16) -> Option<Operator> {
    Some(match code {
        0x00 => Operator::Add,
        0x10 => Operator::Subtract,
        0x20 => Operator::Multiply,
        0x30 => Operator::Divide,
        0x40 => Operator::Or,
        0x50 => Operator::And,
        0x60 => Operator::ShiftLeft,
        0x70 => Operator::ShiftRight,
        0x90 => Operator::Modulo,
        0xa0 => Operator::ExclusiveOr,
        _ => return None,
    })
}

fn condition(code: u16) -> Option<Condition> {
    Some(match code {
        0x10 => Condition::Equal,
        0x20 => Condition::Greater,
        0x30 => Condition::GreaterOrEqual,
        0x40 => Condition::AnyBit,
        _ => return None,
    })
}

/// Runs a decoded program over a frame.
pub(super) fn run(program: &[Operation], octets: &[u8], wire_length: u32) -> u32 {
    Machine { octets, wire_length, a: 0, x: 0, memory: [0; MEMORY] }.run(program).unwrap_or(0)
}

struct Machine<'a> {
    octets: &'a [u8],
    wire_length: u32,
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Machine<'_> {
    /// The returned value; `None` if the program ends for another reason.
    fn run(&mut self, program: &[Operation]) -> Option<u32> {
        let mut position = 0;
        loop {
            let operation = program.get(position)?;
            position += 1;
            match *operation {
                Operation::Load { size, indexed, offset } => {
                    // Nothing wraps: an offset that is too large is beyond every frame.
                    let start = if indexed { u64::from(self.x) } else { 0 } + u64::from(offset);
                    self.a = self.load(start, size)?;
                }
                Operation::LoadConstant(value) => self.a = value,
                Operation::LoadLength => self.a = self.wire_length,
                Operation::LoadMemory(word) => self.a = *self.memory.get(usize::from(word))?,
                Operation::LoadXConstant(value) => self.x = value,
                Operation::LoadXLength => self.x = self.wire_length,
                Operation::LoadXMemory(word) => self.x = *self.memory.get(usize::from(word))?,
                Operation::LoadXHeaderLength(offset) => {
                    self.x = (self.load(offset.into(), Size::Octet)? & 0xf) * 4;
                }
                Operation::StoreA(word) => *self.memory.get_mut(usize::from(word))? = self.a,
                Operation::StoreX(word) => *self.memory.get_mut(usize::from(word))? = self.x,
                Operation::Calculate(operator, operand) => {
                    self.a = calculate(operator, self.a, self.operand(operand))?;
                }
                Operation::Negate => self.a = self.a.wrapping_neg(),
                Operation::Jump(target) => position = target,
                Operation::JumpIf { condition, operand, then, otherwise } => {
                    let operand = self.operand(operand);
                    let holds = match condition {
                        Condition::Equal => self.a == operand,
                        Condition::Greater => self.a > operand,
                        Condition::GreaterOrEqual => self.a >= operand,
                        Condition::AnyBit => self.a & operand != 0,
                    };
                    position = if holds { then } else { otherwise };
                }
                Operation::ReturnConstant(value) => return Some(value),
                Operation::ReturnA => return Some(self.a),
                Operation::MoveAToX => self.x = self.a,
                Operation::MoveXToA => self.a = self.x,
            }
        }
    }

    fn load(&self, start: u64, size: Size) -> Option<u32> {
        let start = usize::try_from(start).ok()?;
        let octets = self.octets.get(start..start.checked_add(size as usize)?)?;
        Some(octets.iter().fold(0, |value, octet| value << 8 | u32::from(*octet)))
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(value) => value,
            Operand::X => self.x,
        }
    }
}

fn calculate(operator: Operator, a: u32, operand: u32) -> Option<u32> {
    Some(match operator {
        Operator::Add => a.wrapping_add(operand),
        Operator::Subtract => a.wrapping_sub(operand),
        Operator::Multiply => a.wrapping_mul(operand),
        Operator::Divide => a.checked_div(operand)?,
        Operator::Modulo => a.checked_rem(operand)?,
        Operator::Or => a | operand,
        Operator::And => a & operand,
        Operator::ExclusiveOr => a ^ operand,
        Operator::ShiftLeft => a.checked_shl(operand).unwrap_or(0),
        Operator::ShiftRight => a.checked_shr(operand).unwrap_or(0),
    })
}
