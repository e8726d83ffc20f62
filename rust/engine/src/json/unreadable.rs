//! Why a line is no row that rules can look at, as statistics count it and rejects explain it.

use std::fmt;

/// How deep objects and arrays may nest: one bit of a `u128` each.
pub const MAX_DEPTH: usize = 128;

/// Why a line is not a row that rules can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Longer than `max_line_bytes`.
    LineTooLong {
        /// The length of the line in bytes, terminator included.
        length: u64,
    },
    /// Not UTF-8 from byte `at` on.
    InvalidUtf8 {
        /// The offset in the line, without a byte-order mark.
        at: usize,
    },
    /// Not JSON from byte `at` on.
    InvalidJson {
        /// The offset in the line, without a byte-order mark.
        at: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// Objects and arrays nest more than [`MAX_DEPTH`] deep.
    TooDeep,
    /// A `\u` escape is half of a surrogate pair: no text corresponds to it.
    LoneSurrogate {
        /// The offset of the escape in the line.
        at: usize,
    },
    /// Valid JSON, but not an object.
    NotAnObject,
    /// The object lacks a needed field.
    MissingField {
        /// The index of the field.
        field: usize,
    },
    /// A needed field is not a string.
    NotAString {
        /// The index of the field.
        field: usize,
        /// What it is instead.
        found: &'static str,
    },
    /// The row has the key already under which its tags would be.
    FieldTaken,
}

impl Unreadable {
    /// The reason as statistics count it: without details.
    pub fn reason(&self) -> &'static str {
        match self {
            Unreadable::LineTooLong { .. } => "line too long",
            Unreadable::InvalidUtf8 { .. } => "invalid UTF-8",
            Unreadable::InvalidJson { .. } => "invalid JSON",
            Unreadable::TooDeep => "nested too deeply",
            Unreadable::LoneSurrogate { .. } => "lone surrogate",
            Unreadable::NotAnObject => "not a JSON object",
            Unreadable::MissingField { .. } => "missing field",
            Unreadable::NotAString { .. } => "field is not a string",
            Unreadable::FieldTaken => "tag field exists",
        }
    }

    /// The index of the field concerned, where it is about one.
    pub fn field(&self) -> Option<usize> {
        match self {
            Unreadable::MissingField { field } | Unreadable::NotAString { field, .. } => {
                Some(*field)
            }
            _ => None,
        }
    }
}

/// The details behind [`Unreadable::reason`].
impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::LineTooLong { length } => write!(f, "{length} bytes"),
            Unreadable::InvalidUtf8 { at } => write!(f, "at byte {at}"),
            Unreadable::InvalidJson { at, expected } => {
                write!(f, "expected {expected} at byte {at}")
            }
            Unreadable::TooDeep => write!(f, "more than {MAX_DEPTH} levels"),
            Unreadable::LoneSurrogate { at } => write!(f, "at byte {at}"),
            Unreadable::NotAnObject => write!(f, "expected an object"),
            Unreadable::MissingField { .. } => write!(f, "expected a string"),
            Unreadable::NotAString { found, .. } => write!(f, "expected a string, found {found}"),
            Unreadable::FieldTaken => write!(f, "choose another tag_field"),
        }
    }
}
