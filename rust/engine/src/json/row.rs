//! A row as rules see it: the values of its fields, wherever they come from.

use super::index::Index;
use super::unreadable::Unreadable;

/// What a null is called.
pub const NULL: &str = "null";

/// A decoded string of a row: valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Are they all ASCII?
    pub is_ascii: bool,
}

impl<'a> Value<'a> {
    /// Its text. Checks the bytes again, so it is for the slow paths.
    pub fn text(&self) -> &'a str {
        simdutf8::basic::from_utf8(self.bytes).expect("a value is checked when it is located")
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value { bytes: text.as_bytes(), is_ascii: text.is_ascii() }
    }
}

/// A string as it is written in a line, escapes and all; none of them hides ASCII text.
#[derive(Clone, Copy)]
pub struct Written<'a> {
    block: &'a [u8],
    start: usize,
    end: usize,
    /// Is the whole line ASCII? It may have other characters as escapes all the same.
    pub is_ascii: bool,
}

impl<'a> Written<'a> {
    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        &self.block[self.start..self.end]
    }

    /// Takes away the marks of what belongs to escapes. `index` is the block's.
    pub fn unmark_escapes(&self, index: &Index, marks: &mut [u64]) {
        for (word, marks) in marks.iter_mut().enumerate() {
            *marks &= !index.inside_escapes(self.start + 64 * word);
        }
    }
}

/// What a field holds for whoever looks for a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Nothing leads there.
    Missing,
    /// A null.
    Null,
    /// Something else than a number.
    Other,
    /// The nearest `f64`: infinite where there is none as large, and NaN where a column holds that.
    Value(f64),
}

impl Number {
    /// What a number of JSON says.
    pub fn parse(token: &[u8]) -> Number {
        let text = std::str::from_utf8(token).expect("a number is ASCII");
        Number::Value(text.parse().expect("JSON's numbers are some of Rust's"))
    }
}

/// The values of a row's fields, wherever they come from.
pub trait Row {
    /// The only value of the field with this index, if it has just one.
    fn single(&self, field: usize) -> Option<Value<'_>>;

    /// Is there anything in this field?
    fn has(&self, field: usize) -> bool;

    /// Calls `each` for every value of the field with this index, in order, until it says `false`.
    /// A row has at least one value of each field, or the field is unreadable.
    fn for_each(
        &self,
        field: usize,
        each: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> Result<(), Unreadable>;

    /// What a field that is looked at for a number holds; see [`crate::Plan::is_number`].
    fn number(&self, field: usize) -> Result<Number, Unreadable>;
}

/// One value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot {
    /// A string without escapes: a part of the block.
    Plain { start: usize, end: usize },
    /// A string with escapes that was not decoded; what they are, see `Escaping::Plain`.
    Escaped { start: usize, end: usize, is_plain: bool },
    /// A string with escapes: a part of the decoded text.
    Decoded { start: usize, end: usize, is_ascii: bool },
    /// A number: a part of the block.
    Number { start: usize, end: usize },
    /// Another type, by its name.
    Other(&'static str),
}

/// A line that is a JSON object, with the values of its fields located.
pub struct Record<'a> {
    pub(super) block: &'a [u8],
    pub(super) is_ascii: bool,
    pub(super) found: &'a [Vec<Slot>],
    pub(super) decoded: &'a [u8],
}

impl Record<'_> {
    /// All values of a field, those that are no strings too.
    pub(crate) fn values(
        &self,
        field: usize,
    ) -> impl Iterator<Item = Result<Value<'_>, Unreadable>> {
        self.found[field].iter().map(move |slot| self.value(field, *slot))
    }

    /// Is the whole line ASCII?
    pub(crate) fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// Is this true of each value of a field as it is written? `None` for one whose escapes may hide
    /// anything. Not true where the field cannot be read.
    #[inline]
    pub(crate) fn all_written(
        &self,
        field: usize,
        mut is_true: impl FnMut(Option<Written<'_>>) -> bool,
    ) -> bool {
        !self.found[field].is_empty()
            && self.found[field].iter().all(|slot| match *slot {
                Slot::Plain { start, end } | Slot::Escaped { start, end, is_plain: true } => {
                    is_true(Some(Written {
                        block: self.block,
                        start,
                        end,
                        is_ascii: self.is_ascii,
                    }))
                }
                _ => is_true(None),
            })
    }

    #[inline]
    fn value(&self, field: usize, slot: Slot) -> Result<Value<'_>, Unreadable> {
        match slot {
            Slot::Plain { start, end } => {
                let bytes = &self.block[start..end];
                Ok(Value { bytes, is_ascii: self.is_ascii || bytes.is_ascii() })
            }
            Slot::Decoded { start, end, is_ascii } => {
                Ok(Value { bytes: &self.decoded[start..end], is_ascii })
            }
            Slot::Escaped { .. } => unreachable!("it is decoded before rules see it"),
            Slot::Number { .. } => Err(Unreadable::NotAString { field, found: "a number" }),
            Slot::Other(found) => Err(Unreadable::NotAString { field, found }),
        }
    }
}

impl Row for Record<'_> {
    #[inline]
    fn single(&self, field: usize) -> Option<Value<'_>> {
        match self.found[field].as_slice() {
            [slot] => self.value(field, *slot).ok(),
            _ => None,
        }
    }

    fn has(&self, field: usize) -> bool {
        !self.found[field].is_empty()
    }

    fn for_each(
        &self,
        field: usize,
        each: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> Result<(), Unreadable> {
        if self.found[field].is_empty() {
            return Err(Unreadable::MissingField { field });
        }
        for slot in &self.found[field] {
            if !each(self.value(field, *slot)?) {
                break;
            }
        }
        Ok(())
    }

    fn number(&self, field: usize) -> Result<Number, Unreadable> {
        Ok(match self.found[field].as_slice() {
            [] => Number::Missing,
            [Slot::Number { start, end }] => Number::parse(&self.block[*start..*end]),
            [Slot::Other(NULL)] => Number::Null,
            _ => Number::Other,
        })
    }
}
