//! The kinds of rules, one file each.
//!
//! A rule answers two questions. [`Matcher::breaks`] is asked for every row and must be fast: does
//! the value break the rule? [`Matcher::find`] is asked only for rows that are rejected: why, and
//! where? Both always agree: `breaks` is true exactly when `find` finds something.

mod literal;
mod numbers;
mod regex;

use serde::Deserialize;

use crate::error::PlanError;

pub use literal::LiteralSpec;
pub use numbers::NumbersSpec;
pub use regex::{Mode, RegexSpec};

/// One rule as written in a plan; `kind` says which.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuleSpec {
    /// A list of integers, as in the paper's number sequences.
    Numbers(NumbersSpec),
    /// Regular expressions, in linear time.
    Regex(RegexSpec),
    /// Fixed words, thousands of them.
    Literal(LiteralSpec),
}

impl RuleSpec {
    /// The name that results and rejects use.
    pub fn name(&self) -> &str {
        match self {
            RuleSpec::Numbers(spec) => &spec.name,
            RuleSpec::Regex(spec) => &spec.name,
            RuleSpec::Literal(spec) => &spec.name,
        }
    }

    /// The top-level field that the rule looks at.
    pub fn field(&self) -> &str {
        match self {
            RuleSpec::Numbers(spec) => &spec.field,
            RuleSpec::Regex(spec) => &spec.field,
            RuleSpec::Literal(spec) => &spec.field,
        }
    }

    /// The kind as written in a plan.
    pub fn kind(&self) -> &'static str {
        match self {
            RuleSpec::Numbers(_) => "numbers",
            RuleSpec::Regex(_) => "regex",
            RuleSpec::Literal(_) => "literal",
        }
    }
}

fn default_field() -> String {
    "completion".to_owned()
}

/// One reason why a value breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// An index into [`Matcher::reasons`].
    pub reason: usize,
    /// Byte offsets into the decoded value; `None` if the reason is about the value as a whole.
    pub span: Option<(usize, usize)>,
}

/// A compiled rule.
pub enum Matcher {
    /// See [`NumbersSpec`].
    Numbers(numbers::Numbers),
    /// See [`RegexSpec`].
    Regex(regex::Regex),
    /// See [`LiteralSpec`].
    Literal(literal::Literal),
}

/// Buffers that matching reuses from row to row.
#[derive(Default)]
pub struct Scratch {
    folded: String,
}

impl Matcher {
    /// Compiles a rule.
    pub fn new(spec: &RuleSpec) -> Result<Matcher, PlanError> {
        Ok(match spec {
            RuleSpec::Numbers(spec) => Matcher::Numbers(numbers::Numbers::new(spec)?),
            RuleSpec::Regex(spec) => Matcher::Regex(regex::Regex::new(spec)?),
            RuleSpec::Literal(spec) => Matcher::Literal(literal::Literal::new(spec)?),
        })
    }

    /// Does the value break the rule?
    pub fn breaks(&self, value: &str, scratch: &mut Scratch) -> bool {
        match self {
            Matcher::Numbers(numbers) => numbers.breaks(value),
            Matcher::Regex(regex) => regex.breaks(value),
            Matcher::Literal(literal) => literal.breaks(value, &mut scratch.folded),
        }
    }

    /// Appends every reason why the value breaks the rule, in the order of [`Matcher::reasons`].
    pub fn find(&self, value: &str, scratch: &mut Scratch, findings: &mut Vec<Finding>) {
        match self {
            Matcher::Numbers(numbers) => numbers.find(value, findings),
            Matcher::Regex(regex) => regex.find(value, findings),
            Matcher::Literal(literal) => literal.find(value, &mut scratch.folded, findings),
        }
    }

    /// Every reason that [`Matcher::find`] can give.
    pub fn reasons(&self) -> &[String] {
        match self {
            Matcher::Numbers(numbers) => numbers.reasons(),
            Matcher::Regex(regex) => regex.reasons(),
            Matcher::Literal(literal) => literal.reasons(),
        }
    }

    /// Relative cost of [`Matcher::breaks`]; the plan asks cheap rules first.
    pub fn cost(&self) -> u32 {
        match self {
            Matcher::Numbers(_) => 0,
            Matcher::Literal(_) => 1,
            Matcher::Regex(_) => 2,
        }
    }
}
