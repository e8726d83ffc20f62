//! The kinds of rules, one file each.
//!
//! A rule answers two questions. Does the value break it? That is asked for every row and must be
//! fast. Why, and where? That is asked only for rows that break it. Both always agree: a value
//! breaks a rule exactly when something is found.
//!
//! Most rules look at texts. `number` looks at a number, and at a value that is none, which makes a
//! row unreadable for others.
//! Rules that look for texts (`regex`, `literal`) are searched for together, by `plan/scan`.
//! Rules about rules (`all`, `any`, `none`) need no value; [`crate::Plan`] knows what they mean.

pub(crate) mod characters;
mod finding;
pub(crate) mod length;
pub(crate) mod literal;
mod matcher;
pub(crate) mod number;
pub(crate) mod numbers;
pub(crate) mod regex;
pub(crate) mod repetition;
mod spec;
pub(crate) mod tokens;

pub use characters::CharactersSpec;
pub(crate) use finding::Finding;
pub use length::LengthSpec;
pub use literal::LiteralSpec;
pub(crate) use matcher::{Matcher, Scratch};
pub use number::NumberSpec;
pub use numbers::NumbersSpec;
pub use regex::{Mode, RegexSpec};
pub use repetition::RepetitionSpec;
pub use spec::{Action, Kind, Parts, RuleSpec};
pub use tokens::{Score, TokenEntry, TokensSpec};
