//! The rules that look at each value by itself, compiled.

use super::finding::Finding;
use super::{characters, length, numbers, repetition, tokens};
use crate::json::Value;

/// A compiled rule that looks at each value by itself.
pub enum Matcher {
    /// See [`super::NumbersSpec`].
    Numbers(numbers::Numbers),
    /// See [`super::LengthSpec`].
    Length(length::Length),
    /// See [`super::CharactersSpec`].
    Characters(characters::Characters),
    /// See [`super::RepetitionSpec`].
    Repetition(repetition::Repetition),
    /// See [`super::TokensSpec`].
    Tokens(Box<tokens::Tokens>),
}

/// Buffers that matching reuses from row to row; each thread has its own.
#[derive(Default)]
pub struct Scratch {
    length: length::Scratch,
    tokens: tokens::Scratch,
    repetition: repetition::Buffers,
}

impl Matcher {
    /// Does the value break the rule?
    #[inline]
    pub fn breaks(&self, value: Value<'_>, scratch: &mut Scratch) -> bool {
        match self {
            Matcher::Numbers(numbers) => numbers.breaks(value.bytes),
            Matcher::Length(length) => length.breaks(value.text(), &mut scratch.length),
            Matcher::Characters(characters) => characters.breaks(value.text()),
            Matcher::Repetition(repetition) => {
                repetition.breaks(value.text(), &mut scratch.repetition)
            }
            Matcher::Tokens(tokens) => tokens.breaks(value.text(), &mut scratch.tokens),
        }
    }

    /// Appends every reason why the value breaks the rule.
    pub fn find(&self, value: Value<'_>, scratch: &mut Scratch, findings: &mut Vec<Finding>) {
        match self {
            Matcher::Numbers(numbers) => numbers.find(value.bytes, findings),
            Matcher::Length(length) => length.find(value.text(), &mut scratch.length, findings),
            Matcher::Characters(characters) => characters.find(value.text(), findings),
            Matcher::Repetition(repetition) => {
                repetition.find(value.text(), &mut scratch.repetition, findings);
            }
            Matcher::Tokens(tokens) => tokens.find(value.text(), &mut scratch.tokens, findings),
        }
    }

    /// Every reason that [`Matcher::find`] can give.
    pub fn reasons(&self) -> &[String] {
        match self {
            Matcher::Numbers(numbers) => numbers.reasons(),
            Matcher::Length(length) => length.reasons(),
            Matcher::Characters(characters) => characters.reasons(),
            Matcher::Repetition(repetition) => repetition.reasons(),
            Matcher::Tokens(tokens) => tokens.reasons(),
        }
    }
}
