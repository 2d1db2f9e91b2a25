//! Instructions of the kernel's BPF (RFC 9669), with jumps to labels.

use super::FilterError;

/// Registers; the kernel's calling convention fixes their roles (RFC 9669, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(pub(super) u8);

/// Operations on 32 bits; the upper half of the result is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alu {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    Divide = 0x30,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Negate = 0x80,
    Modulo = 0x90,
    ExclusiveOr = 0xa0,
    Move = 0xb0,
}

/// Conditions of jumps, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    AnyBit = 0x40,
    NotEqual = 0x50,
    Less = 0xa0,
    LessOrEqual = 0xb0,
}

/// The right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Constant(i32),
    Register(Register),
}

/// Octets of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Octet = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// A place in the code that a jump goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(pub(super) usize);

/// Operand is a register, not a constant.
const REGISTER_OPERAND: u8 = 0x08;
const CLASS_LOAD: u8 = 0x61;
const CLASS_STORE_CONSTANT: u8 = 0x62;
const CLASS_STORE: u8 = 0x63;
const CLASS_ALU: u8 = 0x04;
const CLASS_JUMP: u8 = 0x05;
const CLASS_JUMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
const EXIT: u8 = 0x95;
const TO_BIG_ENDIAN: u8 = 0xdc;

/// One instruction; a jump has its label until it is known how far that is.
#[derive(Clone, Copy, Debug)]
struct Code {
    operation: u8,
    destination: Register,
    source: Register,
    offset: i16,
    constant: i32,
    label: Option<Label>,
}

/// Code in the making.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Code>,
    /// Positions by label.
    labels: Vec<Option<usize>>,
}

impl Assembler {
    /// Further labels in a row; returns the number of the first.
    pub(super) fn labels(&mut self, labels: usize) -> usize {
        let first = self.labels.len();
        self.labels.resize(first + labels, None);
        first
    }

    /// A further label.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    /// Whether a jump goes to the label.
    pub(super) fn is_used(&self, label: Label) -> bool {
        self.code.iter().any(|code| code.label == Some(label))
    }

    fn push(
        &mut self,
        operation: u8,
        destination: Register,
        value: Value,
        offset: i16,
        label: Option<Label>,
    ) {
        let (source, constant, flag) = match value {
            Value::Constant(constant) => (Register(0), constant, 0),
            Value::Register(source) => (source, 0, REGISTER_OPERAND),
        };
        self.code.push(Code { operation: operation | flag, destination, source, offset, constant, label });
    }

    /// `destination = destination operation value`, 32 bits.
    pub(super) fn alu(&mut self, operation: Alu, destination: Register, value: Value) {
        self.push(operation as u8 | CLASS_ALU, destination, value, 0, None);
    }

    /// The same with 64 bits, as pointers need.
    pub(super) fn alu64(&mut self, operation: Alu, destination: Register, value: Value) {
        self.push(operation as u8 | CLASS_ALU64, destination, value, 0, None);
    }

    /// `destination = octets at base + offset`, in the machine's byte order.
    pub(super) fn load(&mut self, width: Width, destination: Register, base: Register, offset: i16) {
        self.code.push(Code {
            operation: width as u8 | CLASS_LOAD,
            destination,
            source: base,
            offset,
            constant: 0,
            label: None,
        });
    }

    /// `octets at base + offset = source`.
    pub(super) fn store(&mut self, width: Width, base: Register, offset: i16, value: Value) {
        let (operation, source, constant) = match value {
            Value::Constant(constant) => (CLASS_STORE_CONSTANT, Register(0), constant),
            Value::Register(source) => (CLASS_STORE, source, 0),
        };
        self.code.push(Code {
            operation: width as u8 | operation,
            destination: base,
            source,
            offset,
            constant,
            label: None,
        });
    }

    /// Turns the low octets of `register` from big-endian order into the machine's or back; the others
    /// become zero.
    pub(super) fn big_endian(&mut self, register: Register, bits: i32) {
        self.push(TO_BIG_ENDIAN, register, Value::Constant(bits), 0, None);
    }

    /// Jumps.
    pub(super) fn jump(&mut self, label: Label) {
        self.push(CLASS_JUMP, Register(0), Value::Constant(0), 0, Some(label));
    }

    /// Jumps if the condition holds for 32 bits.
    pub(super) fn jump_if(&mut self, condition: Jump, left: Register, right: Value, label: Label) {
        self.push(condition as u8 | CLASS_JUMP32, left, right, 0, Some(label));
    }

    /// Jumps if the condition holds for 64 bits.
    pub(super) fn jump_if64(&mut self, condition: Jump, left: Register, right: Value, label: Label) {
        self.push(condition as u8 | CLASS_JUMP, left, right, 0, Some(label));
    }

    /// Returns register 0.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, Register(0), Value::Constant(0), 0, None);
    }

    /// Instructions so far.
    pub(super) fn len(&self) -> usize {
        self.code.len()
    }

    /// The instructions.
    ///
    /// # Errors
    /// [`FilterError::TooLong`] if a jump reaches further than it can.
    pub(super) fn finish(self) -> Result<Vec<u64>, FilterError> {
        let instructions = self.code.len();
        let encoded = self.code.iter().enumerate().map(|(index, code)| {
            let offset = match code.label {
                None => Some(code.offset),
                Some(Label(label)) => {
                    let place = self.labels.get(label).copied().flatten();
                    place.and_then(|place| i16::try_from(place as i64 - index as i64 - 1).ok())
                }
            };
            offset.map(|offset| encode(code, offset))
        });
        encoded.collect::<Option<_>>().ok_or(FilterError::TooLong { instructions, limit: i16::MAX as usize })
    }
}

/// In the machine's byte order; the two registers share an octet.
fn encode(code: &Code, offset: i16) -> u64 {
    let (destination, source) = (code.destination.0, code.source.0);
    let registers =
        if cfg!(target_endian = "big") { destination << 4 | source } else { source << 4 | destination };
    let [o0, o1] = offset.to_ne_bytes();
    let [c0, c1, c2, c3] = code.constant.to_ne_bytes();
    u64::from_ne_bytes([code.operation, registers, o0, o1, c0, c1, c2, c3])
}
