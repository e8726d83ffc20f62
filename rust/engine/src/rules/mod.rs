//! The kinds of rules, one file each.
//!
//! A rule answers two questions. Does the value break it? That is asked for every row and must be
//! fast. Why, and where? That is asked only for rows that break it. Both always agree: a value
//! breaks a rule exactly when something is found.
//!
//! Rules that look for texts (`regex`, `literal`) are searched for together, by [`crate::scan`].
//! Rules about rules (`all`, `any`, `none`) need no value; [`crate::plan`] knows what they mean.

pub(crate) mod characters;
pub(crate) mod length;
pub(crate) mod literal;
pub(crate) mod numbers;
pub(crate) mod regex;
pub(crate) mod repetition;
pub(crate) mod tokens;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::duplicates::DuplicateSpec;
use crate::json::Value;

pub use characters::CharactersSpec;
pub use length::LengthSpec;
pub use literal::LiteralSpec;
pub use numbers::NumbersSpec;
pub use regex::{Mode, RegexSpec};
pub use repetition::RepetitionSpec;
pub use tokens::{Score, TokenEntry, TokensSpec};

/// One rule as written in a plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Map<String, Json>")]
pub struct RuleSpec {
    /// Unique within the plan; results and rejects use it.
    pub name: String,
    /// Where the text is, as a path; "completion" unless given. Rules about rules have none.
    pub field: Option<String>,
    /// What happens to a row that breaks the rule.
    pub action: Action,
    /// What the rule demands.
    pub kind: Kind,
}

/// What happens to a row that breaks a rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It goes to the rejects.
    #[default]
    Drop,
    /// It is kept, if no other rule drops it, with the name of the rule in its tags.
    Tag,
    /// It is counted, and nothing else.
    Count,
}

/// What a rule demands; `kind` says which.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A list of integers, as in the paper's number sequences.
    Numbers(NumbersSpec),
    /// Regular expressions, in linear time.
    Regex(RegexSpec),
    /// Fixed words, thousands of them.
    Literal(LiteralSpec),
    /// Bounds on characters, bytes and words.
    Length(LengthSpec),
    /// Scripts, characters that nobody sees, and shares of characters and words.
    Characters(CharactersSpec),
    /// How much of the value repeats.
    Repetition(RepetitionSpec),
    /// Tokens of a model's vocabulary.
    Tokens(TokensSpec),
    /// A value that an earlier row has too.
    Duplicate(DuplicateSpec),
    /// Broken if all of these rules are.
    All(Parts),
    /// Broken if one of these rules is.
    Any(Parts),
    /// Broken if none of these rules is.
    None(Parts),
}

/// The rules that a rule is about.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// Names of rules that are declared before this one.
    pub rules: Vec<String>,
}

impl Action {
    /// The action as written in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Action::Drop => "drop",
            Action::Tag => "tag",
            Action::Count => "count",
        }
    }
}

impl TryFrom<Map<String, Json>> for RuleSpec {
    type Error = String;

    fn try_from(mut map: Map<String, Json>) -> Result<RuleSpec, String> {
        let name = match map.remove("name") {
            Some(Json::String(name)) => name,
            _ => return Err("a rule has no name".to_owned()),
        };
        let named = |message: String| format!("rule `{name}`: {message}");
        let field = match map.remove("field") {
            None | Some(Json::Null) => None,
            Some(Json::String(field)) => Some(field),
            Some(other) => return Err(named(format!("field is {other}, expected a string"))),
        };
        let action = match map.remove("action") {
            None => Action::default(),
            Some(action) => {
                serde_json::from_value(action).map_err(|error| named(error.to_string()))?
            }
        };
        let kind: Kind =
            serde_json::from_value(Json::Object(map)).map_err(|error| named(error.to_string()))?;
        let field = match (&kind, field) {
            (Kind::All(_) | Kind::Any(_) | Kind::None(_), None) => None,
            (Kind::All(_) | Kind::Any(_) | Kind::None(_), Some(_)) => {
                return Err(named("a rule about rules has no field".to_owned()));
            }
            (_, field) => Some(field.unwrap_or_else(|| "completion".to_owned())),
        };
        Ok(RuleSpec { name, field, action, kind })
    }
}

impl Kind {
    /// The kind as written in a plan.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Numbers(_) => "numbers",
            Kind::Regex(_) => "regex",
            Kind::Literal(_) => "literal",
            Kind::Length(_) => "length",
            Kind::Characters(_) => "characters",
            Kind::Repetition(_) => "repetition",
            Kind::Tokens(_) => "tokens",
            Kind::Duplicate(_) => "duplicate",
            Kind::All(_) => "all",
            Kind::Any(_) => "any",
            Kind::None(_) => "none",
        }
    }
}

/// One reason why a value breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// An index into the reasons of the rule.
    pub reason: usize,
    /// Byte offsets into the decoded value; `None` if the reason is about the value as a whole.
    pub span: Option<(usize, usize)>,
}

/// A compiled rule that looks at each value by itself.
pub enum Matcher {
    /// See [`NumbersSpec`].
    Numbers(numbers::Numbers),
    /// See [`LengthSpec`].
    Length(length::Length),
    /// See [`CharactersSpec`].
    Characters(characters::Characters),
    /// See [`RepetitionSpec`].
    Repetition(repetition::Repetition),
    /// See [`TokensSpec`].
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
