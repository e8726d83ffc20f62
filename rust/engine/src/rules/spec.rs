//! A rule as it is written in a plan.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::characters::CharactersSpec;
use super::length::LengthSpec;
use super::literal::LiteralSpec;
use super::number::NumberSpec;
use super::numbers::NumbersSpec;
use super::regex::RegexSpec;
use super::repetition::RepetitionSpec;
use super::tokens::TokensSpec;
use crate::duplicates::DuplicateSpec;

/// One rule as written in a plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Map<String, Json>")]
pub struct RuleSpec {
    /// Unique within the plan; results and rejects use it.
    pub name: String,
    /// Where the value is, as a path; "completion" unless given, but for a number. Rules about rules
    /// have none.
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
    /// A number in a field of its own, within bounds.
    Number(NumberSpec),
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
            (Kind::Number(_), None) => return Err(named("needs a field".to_owned())),
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
            Kind::Number(_) => "number",
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
