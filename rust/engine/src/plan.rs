//! Compiles a list of rules into one plan that judges rows.
//!
//! A row is judged in two steps. [`Plan::broken`] answers for every row which rules it breaks, as a
//! mask with one bit a rule, in declared order; cheap rules are asked first. Only for a row that is
//! rejected does [`Plan::find`] ask why, and where.

use serde::Deserialize;

use crate::error::PlanError;
use crate::record::{Locator, Record, Unreadable};
use crate::rules::{Finding, Matcher, RuleSpec, Scratch};

/// How many rules a plan may have: the bits of the mask.
pub const MAX_RULES: usize = 64;

/// The plan as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// In the order in which reasons are reported.
    pub rules: Vec<RuleSpec>,
    /// Longer lines are rejected unread. 16 MiB unless given.
    #[serde(default = "default_max_line_bytes")]
    pub max_line_bytes: usize,
}

fn default_max_line_bytes() -> usize {
    16 << 20
}

/// A compiled rule and what reports say about it.
pub struct Rule {
    /// As written in the plan.
    pub name: String,
    /// As written in the plan.
    pub kind: &'static str,
    /// An index into [`Plan::fields`].
    pub field: usize,
    /// The compiled rule.
    pub matcher: Matcher,
}

/// A compiled plan. It is immutable, and shared between threads.
pub struct Plan {
    rules: Vec<Rule>,
    /// Indices into `rules`, cheapest first.
    order: Vec<usize>,
    fields: Vec<String>,
    max_line_bytes: usize,
}

impl Plan {
    /// Compiles a plan from the JSON of a [`PlanSpec`].
    pub fn from_json(json: &str) -> Result<Plan, PlanError> {
        Plan::new(&serde_json::from_str(json)?)
    }

    /// Compiles a plan.
    pub fn new(spec: &PlanSpec) -> Result<Plan, PlanError> {
        if spec.rules.is_empty() {
            return Err(PlanError::Plan("no rules".to_owned()));
        }
        if spec.rules.len() > MAX_RULES {
            let count = spec.rules.len();
            return Err(PlanError::Plan(format!("{count} rules, expected at most {MAX_RULES}")));
        }
        if spec.max_line_bytes == 0 {
            return Err(PlanError::Plan("max_line_bytes is 0".to_owned()));
        }
        let mut fields: Vec<String> = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        for rule in &spec.rules {
            if rules.iter().any(|other| other.name == rule.name()) {
                return Err(PlanError::Plan(format!("two rules are named `{}`", rule.name())));
            }
            let known = fields.iter().position(|field| field == rule.field());
            let field = known.unwrap_or_else(|| {
                fields.push(rule.field().to_owned());
                fields.len() - 1
            });
            let matcher = Matcher::new(rule)?;
            rules.push(Rule { name: rule.name().to_owned(), kind: rule.kind(), field, matcher });
        }
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by_key(|&index| rules[index].matcher.cost());
        Ok(Plan { rules, order, fields, max_line_bytes: spec.max_line_bytes })
    }

    /// The rules in declared order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The fields that the rules look at; their order is their index.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The most content that a line may have, in bytes.
    pub fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }

    /// Something that locates [`Plan::fields`]; each thread has its own.
    pub fn locator(&self) -> Locator {
        Locator::new(&self.fields)
    }

    /// Why the plan cannot judge this record: needed fields that are missing or not strings.
    pub fn unreadable(&self, record: &Record<'_>) -> Vec<Unreadable> {
        (0..self.fields.len()).filter_map(|field| record.field(field).err()).collect()
    }

    /// Which rules the record breaks: bit `i` for rule `i`.
    ///
    /// A record with an unreadable field is not judged at all; see [`Plan::unreadable`].
    pub fn broken(&self, record: &Record<'_>, scratch: &mut Scratch) -> Result<u64, Unreadable> {
        let mut mask = 0;
        for &index in &self.order {
            let rule = &self.rules[index];
            let value = record.field(rule.field)?;
            mask |= u64::from(rule.matcher.breaks(value, scratch)) << index;
        }
        Ok(mask)
    }

    /// Appends every reason why the record breaks the rule with this index.
    pub fn find(
        &self,
        rule: usize,
        record: &Record<'_>,
        scratch: &mut Scratch,
        findings: &mut Vec<Finding>,
    ) {
        let rule = &self.rules[rule];
        if let Ok(value) = record.field(rule.field) {
            rule.matcher.find(value, scratch, findings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Plan::from_json(json).err().unwrap().to_string()
    }

    #[test]
    fn bits_follow_the_declared_order() {
        let plan = Plan::from_json(
            r#"{"rules": [
                {"name": "a", "kind": "regex", "patterns": ["a"]},
                {"name": "b", "kind": "literal", "words": ["b"], "field": "prompt"},
                {"name": "n", "kind": "numbers"}
            ]}"#,
        )
        .unwrap();
        assert_eq!(plan.fields(), ["completion", "prompt"]);
        let mut locator = plan.locator();
        let mut broken = |line: &str| {
            let record = locator.locate(line.as_bytes()).unwrap();
            plan.broken(&record, &mut Scratch::default())
        };
        assert_eq!(broken(r#"{"completion":"a","prompt":"b"}"#), Ok(0b111));
        assert_eq!(broken(r#"{"completion":"1","prompt":"b"}"#), Ok(0b010));
        assert_eq!(broken(r#"{"completion":"x","prompt":"x"}"#), Ok(0b100));
        assert_eq!(broken(r#"{"completion":"1","prompt":""}"#), Ok(0));
        assert!(broken(r#"{"completion":"1"}"#).is_err());
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(error(r#"{"rules": []}"#), "invalid plan: no rules");
        let rule = |name: usize| format!(r#"{{"name": "{name}", "kind": "numbers"}}"#);
        let rules: Vec<String> = (0..65).map(rule).collect();
        let many = format!(r#"{{"rules": [{}]}}"#, rules.join(","));
        assert_eq!(error(&many), "invalid plan: 65 rules, expected at most 64");
        let twice = format!(r#"{{"rules": [{}, {}]}}"#, rule(1), rule(1));
        assert_eq!(error(&twice), "invalid plan: two rules are named `1`");
        let unknown = r#"{"rules": [{"name": "a", "kind": "numbers", "max_valu": 3}]}"#;
        assert!(error(unknown).contains("unknown field `max_valu`"), "{}", error(unknown));
        assert!(error(r#"{"rules": [{"name": "a", "kind": "nunbers"}]}"#).contains("nunbers"));
    }
}
