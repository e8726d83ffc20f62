//! From the rules as they are written to a [`Plan`].

use std::sync::Arc;

use serde::Deserialize;

use super::{Combination, Comparison, Numeric, Plan, Rule, Single, scan};
use crate::duplicates::{Method, Signer};
use crate::error::PlanError;
use crate::json::{MAX_PATHS, Tree};
use crate::rules::characters::Characters;
use crate::rules::length::Length;
use crate::rules::literal::Literal;
use crate::rules::number::Number;
use crate::rules::numbers::Numbers;
use crate::rules::repetition::Repetition;
use crate::rules::tokens::Tokens;
use crate::rules::{Action, Kind, Matcher, Mode, Parts, RuleSpec};

/// How many rules a plan may have: the bits of the mask.
const MAX_RULES: usize = 64;

/// The plan as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// In the order in which reasons are reported.
    pub rules: Vec<RuleSpec>,
    /// Longer lines are rejected unread. 16 MiB unless given.
    #[serde(default = "default_max_line_bytes")]
    pub max_line_bytes: usize,
    /// The key under which a kept row says which `tag` rules it breaks.
    #[serde(default = "default_tag_field")]
    pub tag_field: String,
}

fn default_max_line_bytes() -> usize {
    16 << 20
}

fn default_tag_field() -> String {
    "filter_tags".to_owned()
}

impl Plan {
    /// Compiles a plan from the JSON of a [`PlanSpec`].
    pub fn from_json(json: &str) -> Result<Plan, PlanError> {
        Plan::new(serde_json::from_str(json)?)
    }

    /// Compiles a plan.
    pub fn new(spec: PlanSpec) -> Result<Plan, PlanError> {
        let error = |message: String| Err(PlanError::Plan(message));
        if spec.rules.is_empty() {
            return error("no rules".to_owned());
        }
        if spec.rules.len() > MAX_RULES {
            let count = spec.rules.len();
            return error(format!("{count} rules, expected at most {MAX_RULES}"));
        }
        if spec.max_line_bytes == 0 {
            return error("max_line_bytes is 0".to_owned());
        }
        let mut builder = Builder::default();
        for rule in spec.rules {
            if builder.rules.iter().any(|other| other.name == rule.name) {
                return error(format!("two rules are named `{}`", rule.name));
            }
            builder.add(rule)?;
        }
        builder.build(spec.max_line_bytes, spec.tag_field)
    }
}

#[derive(Default)]
struct Builder {
    rules: Vec<Rule>,
    singles: Vec<Single>,
    numbers: Vec<Numeric>,
    scans: Vec<(usize, scan::Builder)>,
    comparisons: Vec<Comparison>,
    combinations: Vec<Combination>,
    require: u64,
    fields: Vec<String>,
    /// The fields that are looked at for a number, one bit each.
    numeric: u64,
}

impl Builder {
    fn add(&mut self, spec: RuleSpec) -> Result<(), PlanError> {
        let index = self.rules.len();
        let is_number = matches!(spec.kind, Kind::Number(_));
        let field = spec.field.as_deref().map(|field| self.field(field, is_number));
        let kind = spec.kind.name();
        let name = spec.name;
        let error = |message: String| PlanError::Rule { rule: name.clone(), message };
        let mut remarks = Vec::new();
        let reasons = match (spec.kind, field) {
            (Kind::Numbers(spec), Some(field)) => {
                let numbers = Numbers::new(&spec).map_err(error)?;
                self.single(index, field, Matcher::Numbers(numbers))
            }
            (Kind::Number(spec), Some(field)) => {
                let number = Number::new(&spec).map_err(error)?;
                self.numbers.push(Numeric { rule: index, field, number });
                Number::reasons()
            }
            (Kind::Length(spec), Some(field)) => {
                let length = Length::new(&spec).map_err(error)?;
                self.single(index, field, Matcher::Length(length))
            }
            (Kind::Characters(spec), Some(field)) => {
                let characters = Characters::new(&spec).map_err(error)?;
                self.single(index, field, Matcher::Characters(characters))
            }
            (Kind::Repetition(spec), Some(field)) => {
                let repetition = Repetition::new(&spec).map_err(error)?;
                self.single(index, field, Matcher::Repetition(repetition))
            }
            (Kind::Tokens(spec), Some(field)) => {
                let tokens = Tokens::new(&spec).map_err(error)?;
                self.single(index, field, Matcher::Tokens(Box::new(tokens)))
            }
            (Kind::Regex(spec), Some(field)) => {
                if spec.patterns.is_empty() {
                    return Err(error("patterns is empty".to_owned()));
                }
                let scan = self.scan(field);
                for (reason, pattern) in spec.patterns.iter().enumerate() {
                    spec.parse(reason)
                        .and_then(|parsed| {
                            let remark = parsed.remark().map(|it| format!("`{pattern}` {it}"));
                            remarks.extend(remark);
                            scan.regex(index as u32, reason, parsed)
                        })
                        .map_err(|message| PlanError::Pattern {
                            rule: name.clone(),
                            pattern: pattern.clone(),
                            message,
                        })?;
                }
                match spec.mode {
                    Mode::Forbid => {
                        spec.patterns.iter().map(|text| format!("matched `{text}`")).collect()
                    }
                    Mode::Require => {
                        self.require |= 1 << index;
                        vec!["matched no required pattern".to_owned()]
                    }
                }
            }
            (Kind::Literal(spec), Some(field)) => {
                let literal = Literal::new(&spec).map_err(error)?;
                self.scan(field).literal(index as u32, &spec.words, literal);
                spec.words.iter().map(|word| format!("contains `{word}`")).collect()
            }
            (Kind::Duplicate(spec), Some(field)) => {
                let signer = Signer::new(&name, &self.fields[field], &spec).map_err(error)?;
                self.comparisons.push(Comparison { rule: index, field, signer });
                let reason = match spec.method {
                    Method::Minhash => "is similar to an earlier row, directly or by way of others",
                    Method::Exact | Method::Normalized => "repeats an earlier row",
                };
                vec![reason.to_owned()]
            }
            (Kind::All(parts), None) => self
                .combination(index, parts, "all of", |mask, parts| mask & parts == parts)
                .map_err(error)?,
            (Kind::Any(parts), None) => self
                .combination(index, parts, "one of", |mask, parts| mask & parts != 0)
                .map_err(error)?,
            (Kind::None(parts), None) => self
                .combination(index, parts, "none of", |mask, parts| mask & parts == 0)
                .map_err(error)?,
            _ => unreachable!("a rule about rules has no field, every other rule has one"),
        };
        self.rules.push(Rule { name, kind, action: spec.action, field, reasons, remarks });
        Ok(())
    }

    fn field(&mut self, path: &str, is_number: bool) -> usize {
        let mut fields = self.fields.iter().enumerate();
        let is_same = |at: usize| (self.numeric >> at & 1 == 1) == is_number;
        let known = fields.find(|(at, field)| *field == path && is_same(*at));
        if let Some((at, _)) = known {
            return at;
        }
        let at = self.fields.len();
        self.numeric |= u64::from(is_number) << at.min(MAX_PATHS - 1);
        self.fields.push(path.to_owned());
        at
    }

    fn single(&mut self, rule: usize, field: usize, matcher: Matcher) -> Vec<String> {
        let reasons = matcher.reasons().to_vec();
        self.singles.push(Single { rule, field, matcher });
        reasons
    }

    fn scan(&mut self, field: usize) -> &mut scan::Builder {
        let known = self.scans.iter().position(|(other, _)| *other == field);
        let index = known.unwrap_or_else(|| {
            self.scans.push((field, scan::Builder::default()));
            self.scans.len() - 1
        });
        &mut self.scans[index].1
    }

    fn combination(
        &mut self,
        rule: usize,
        parts: Parts,
        text: &str,
        test: fn(u64, u64) -> bool,
    ) -> Result<Vec<String>, String> {
        if parts.rules.is_empty() {
            return Err("rules is empty".to_owned());
        }
        let mut mask = 0;
        for name in &parts.rules {
            let index = self.rules.iter().position(|rule| rule.name == *name);
            mask |= 1 << index.ok_or_else(|| format!("no rule `{name}` before this one"))?;
        }
        self.combinations.push(Combination { rule, parts: mask, test });
        let names: Vec<_> = parts.rules.iter().map(|name| format!("`{name}`")).collect();
        Ok(vec![format!("{text} {}", names.join(", "))])
    }

    fn build(self, max_line_bytes: usize, tag_field: String) -> Result<Plan, PlanError> {
        let with = |action| {
            let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.action == action);
            rules.fold(0, |mask, (index, _)| mask | 1u64 << index)
        };
        let (drops, tags) = (with(Action::Drop), with(Action::Tag));
        let mut paths = self.fields.clone();
        if tags != 0 {
            paths.push(serde_json::Value::from(tag_field.as_str()).to_string());
        }
        if paths.len() > MAX_PATHS {
            return Err(PlanError::Plan(format!("more than {MAX_PATHS} fields")));
        }
        let tree =
            Tree::new(&paths).map_err(|message| PlanError::Plan(format!("field {message}")))?;
        for comparison in &self.comparisons {
            if tree.is_list(comparison.field) {
                return Err(PlanError::Rule {
                    rule: self.rules[comparison.rule].name.clone(),
                    message: "rows are compared by a field with one value".to_owned(),
                });
            }
        }
        for numeric in &self.numbers {
            if tree.is_list(numeric.field) {
                return Err(PlanError::Rule {
                    rule: self.rules[numeric.rule].name.clone(),
                    message: "a number is looked for in a field with one value".to_owned(),
                });
            }
        }
        let mut scans = Vec::new();
        for (field, builder) in self.scans {
            scans.push((field, builder.build().map_err(PlanError::Plan)?));
        }
        let reads_written = self.singles.is_empty()
            && self.numbers.is_empty()
            && self.comparisons.is_empty()
            && self.combinations.is_empty()
            && (self.require | tags) == 0
            && scans.iter().all(|(_, scan)| scan.reads_written());
        let mut plan = Plan {
            reads_written,
            rules: self.rules,
            singles: self.singles,
            numbers: self.numbers,
            scans,
            comparisons: self.comparisons,
            combinations: self.combinations,
            require: self.require,
            deciding: 0,
            drops,
            tags,
            fields: self.fields,
            numeric: self.numeric,
            tree: Arc::new(tree),
            tag_field,
            max_line_bytes,
        };
        plan.deciding = plan.drops & !plan.is_about_other_rows();
        // A rule is declared after those that it is about.
        for combination in plan.combinations.iter().rev() {
            if plan.deciding >> combination.rule & 1 == 1 {
                plan.deciding |= combination.parts;
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Plan::from_json(json).err().unwrap().to_string()
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
        let one = |rest: &str| error(&format!(r#"{{"rules": [{{"name": "a", {rest}}}]}}"#));
        let has = |rest: &str, part: &str| assert!(one(rest).contains(part), "{}", one(rest));
        has(r#""kind": "numbers", "max_valu": 3"#, "rule `a`: unknown field `max_valu`");
        has(r#""kind": "nunbers""#, "nunbers");
        has(r#""kind": "numbers", "field": "a..b""#, "field `a..b`: expected a key");
        has(r#""kind": "numbers", "action": "keep""#, "rule `a`: unknown variant `keep`");
        has(r#""kind": "all", "rules": []"#, "rule `a`: rules is empty");
        has(r#""kind": "all", "rules": ["b"]"#, "rule `a`: no rule `b` before this one");
        has(r#""kind": "all", "rules": ["b"], "field": "x""#, "has no field");
        has(r#""kind": "duplicate", "method": "exact", "field": "m[].c""#, "with one value");
        has(r#""kind": "duplicate", "method": "exact", "ngram": 3"#, "needs method minhash");
        has(r#""kind": "number", "min": 1"#, "rule `a`: needs a field");
        has(r#""kind": "number", "field": "x""#, "rule `a`: sets no bound");
        has(r#""kind": "number", "field": "x[]", "min": 1"#, "in a field with one value");
        has(r#""kind": "regex", "patterns": []"#, "rule `a`: patterns is empty");
        has(r#""kind": "regex", "patterns": ["fine", "(x"]"#, "rule `a`: pattern `(x`: ");
        has(r#""kind": "literal", "words": ["x", ""]"#, "rule `a`: word 2 is empty");
    }
}
