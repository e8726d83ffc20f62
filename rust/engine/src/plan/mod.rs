//! Compiles a list of rules into one plan that judges rows.
//!
//! A row is judged in two steps. [`Plan::broken`] answers for every row which rules it breaks, as a
//! mask with one bit a rule, in declared order. Only for a row that breaks one does [`Plan::find`]
//! ask why, and where.

mod explain;
mod reasons;
mod scan;
mod statistics;

use std::sync::Arc;

use serde::Deserialize;

use crate::duplicates::{Among, Method, SignScratch, Signatures, Signer};
use crate::error::PlanError;
use crate::json::{Locator, Row, Unreadable, Value, bits};
use crate::json::{MAX_PATHS, Tree};
use crate::rules::characters::Characters;
use crate::rules::length::Length;
use crate::rules::literal::Literal;
use crate::rules::numbers::Numbers;
use crate::rules::repetition::Repetition;
use crate::rules::tokens::Tokens;
use crate::rules::{Action, Finding, Kind, Matcher, Mode, Parts, RuleSpec};
use crate::shard::Duplicates;
use scan::Scan;

pub(crate) use explain::explain_row;
pub(crate) use reasons::{First, Reasons, push_number, to_json};
pub(crate) use statistics::Counts;
pub use statistics::Statistics;

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

/// A compiled rule and what reports say about it.
pub struct Rule {
    /// As written in the plan.
    pub name: String,
    /// As written in the plan.
    pub kind: &'static str,
    /// What happens to a row that breaks it.
    pub action: Action,
    /// An index into [`Plan::fields`]; a rule about rules has none.
    pub field: Option<usize>,
    /// Every reason that it can give.
    pub reasons: Vec<String>,
    /// What to know about it before relying on it.
    pub remarks: Vec<String>,
}

/// A rule that looks at each value by itself, by its index.
struct Single {
    rule: usize,
    field: usize,
    matcher: Matcher,
}

/// A rule that compares rows, by its index.
pub struct Comparison {
    /// The index of the rule.
    pub rule: usize,
    /// The index of its field, which has one value.
    pub field: usize,
    /// What makes rows comparable.
    pub signer: Signer,
}

/// A rule about the rules of a mask, by its index.
struct Combination {
    rule: usize,
    parts: u64,
    test: fn(u64, u64) -> bool,
}

/// A compiled plan. It is immutable, and shared between threads.
pub struct Plan {
    rules: Vec<Rule>,
    singles: Vec<Single>,
    /// By field.
    scans: Vec<(usize, Scan)>,
    comparisons: Vec<Comparison>,
    combinations: Vec<Combination>,
    /// The regex rules that are broken where nothing matches.
    require: u64,
    /// Those that decide by one row alone whether it is dropped, and those that they are about.
    deciding: u64,
    /// The rules with these actions.
    drops: u64,
    tags: u64,
    fields: Vec<String>,
    tree: Arc<Tree>,
    tag_field: String,
    max_line_bytes: usize,
}

/// Buffers that judging reuses from row to row; each thread has its own.
#[derive(Default)]
pub struct Scratch {
    scan: scan::Scratch,
    matcher: crate::rules::Scratch,
    findings: Vec<Finding>,
}

/// Buffers that signing reuses from row to row; each thread has its own.
#[derive(Default)]
pub struct Signing {
    values: SignScratch,
    rows: Scratch,
}

/// A [`Finding`] of one of the rules, in one of the values of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanFinding {
    /// The index of the rule.
    pub rule: usize,
    /// The index of the value among those of the field.
    pub value: usize,
    /// What was found.
    pub finding: Finding,
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

    /// The rules in declared order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that drop a row, one bit each.
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// The rules that tag a row, one bit each.
    pub fn tags(&self) -> u64 {
        self.tags
    }

    /// The key of the tags in a row.
    pub fn tag_field(&self) -> &str {
        &self.tag_field
    }

    /// The rules that compare rows. [`crate::duplicates`] says how they are judged.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The paths of the fields that the rules look at; their order is their index.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// All paths that the rules and the tags need.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The top-level keys that the rules look at, or into, in the order of the rules.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let fields = u64::MAX >> (u64::BITS as usize - self.fields.len().max(1));
        let keys = self.tree.node(0).keys.iter();
        keys.filter(move |(_, child)| self.tree.node(*child).below & fields != 0)
            .map(|(key, _)| key.as_str())
    }

    /// Can the field with this index have several values in a row?
    pub fn is_list(&self, field: usize) -> bool {
        self.tree.is_list(field)
    }

    /// The most content that a line may have, in bytes.
    pub fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }

    /// Something that locates [`Plan::fields`]; each thread has its own.
    pub fn locator(&self) -> Locator {
        let (tree, fields) = (Arc::clone(&self.tree), self.fields.len());
        if self.tags == 0 {
            return Locator::new(tree, fields);
        }
        // A second key of this name would be in the row's way, whatever the first one holds.
        Locator::new(tree, fields + 1).with_nulls_of(fields)
    }

    /// Why the plan cannot judge this row: needed fields that are missing or not strings.
    pub fn unreadable(&self, row: &impl Row) -> Vec<Unreadable> {
        let fields = 0..self.fields.len();
        let mut all: Vec<_> =
            fields.filter_map(|field| row.for_each(field, &mut |_| true).err()).collect();
        // What is wrong with a whole row in memory is found at each of its fields.
        all.dedup();
        if self.tags != 0 && row.has(self.fields.len()) {
            all.push(Unreadable::FieldTaken);
        }
        all
    }

    /// Which rules the row breaks: bit `i` for rule `i`. `known` has the bits of [`comparisons`],
    /// which cannot be judged by the row alone.
    ///
    /// A row with an unreadable field is not judged at all; see [`Plan::unreadable`].
    ///
    /// [`comparisons`]: Plan::comparisons
    #[inline]
    pub fn broken(
        &self,
        row: &impl Row,
        known: u64,
        scratch: &mut Scratch,
    ) -> Result<u64, Unreadable> {
        self.broken_of(u64::MAX, row, known, scratch)
    }

    /// The same of the rules in `asked`; what it says of others means nothing. Every field is read.
    #[inline]
    fn broken_of(
        &self,
        asked: u64,
        row: &impl Row,
        known: u64,
        scratch: &mut Scratch,
    ) -> Result<u64, Unreadable> {
        let mut mask = known;
        if self.tags != 0 && row.has(self.fields.len()) {
            return Err(Unreadable::FieldTaken);
        }
        for single in &self.singles {
            if asked >> single.rule & 1 == 0 {
                read(row, single.field)?;
                continue;
            }
            let mut breaks = |value: Value<'_>| {
                let breaks = single.matcher.breaks(value, &mut scratch.matcher);
                mask |= u64::from(breaks) << single.rule;
            };
            match row.single(single.field) {
                Some(value) => breaks(value),
                None => row.for_each(single.field, &mut |value| {
                    breaks(value);
                    true
                })?,
            }
        }
        for (field, scan) in &self.scans {
            let rules = scan.rules() & asked;
            if rules == 0 {
                read(row, *field)?;
                continue;
            }
            let mut breaks = |value: Value<'_>| {
                let matched = scan.matched(rules, value, &mut scratch.scan);
                mask |= matched ^ (rules & self.require);
            };
            match row.single(*field) {
                Some(value) => breaks(value),
                None => row.for_each(*field, &mut |value| {
                    breaks(value);
                    true
                })?,
            }
        }
        for comparison in &self.comparisons {
            read(row, comparison.field)?;
        }
        for combination in &self.combinations {
            mask |= u64::from((combination.test)(mask, combination.parts)) << combination.rule;
        }
        Ok(mask)
    }

    /// The rules that compare rows and those about them, which one row does not decide.
    pub fn is_about_other_rows(&self) -> u64 {
        let comparisons = self.comparisons.iter();
        let compares = comparisons.fold(0, |mask, comparison| mask | 1u64 << comparison.rule);
        // A rule is declared after those that it is about.
        self.combinations.iter().fold(compares, |mask, combination| {
            mask | u64::from(combination.parts & mask != 0) << combination.rule
        })
    }

    /// Columns of signatures without rows, one for each of [`Plan::comparisons`].
    pub fn no_signatures(&self) -> Vec<Signatures> {
        self.comparisons.iter().map(|comparison| comparison.signer.signatures()).collect()
    }

    /// Appends the signatures of the next row; a row that cannot be read is compared with none.
    pub fn sign(
        &self,
        row: Option<&impl Row>,
        scratch: &mut Signing,
        signatures: &mut [Signatures],
    ) {
        let among_kept = self.comparisons.iter().any(|other| other.signer.among() == Among::Kept);
        let own = self.drops & !self.is_about_other_rows();
        let kept = row.filter(|row| {
            among_kept
                && self
                    .broken_of(self.deciding, *row, 0, &mut scratch.rows)
                    .is_ok_and(|broken| broken & own == 0)
        });
        for (comparison, signatures) in self.comparisons.iter().zip(signatures) {
            let compared = match comparison.signer.among() {
                Among::Kept => kept,
                Among::All => row,
            };
            match compared.and_then(|row| row.single(comparison.field)) {
                Some(value) => {
                    comparison.signer.sign(value.text(), &mut scratch.values, signatures);
                }
                None => signatures.push_none(),
            }
        }
    }

    /// For each of [`Plan::comparisons`], which rows it compares and whether it drops what it finds.
    pub fn settling(&self) -> Vec<(Among, bool)> {
        let comparisons = self.comparisons.iter();
        comparisons.map(|each| (each.signer.among(), self.drops >> each.rule & 1 == 1)).collect()
    }

    /// Replaces `findings` by every reason why the row breaks rules, in declared order; `broken` is
    /// what [`Plan::broken`] said.
    pub fn find(
        &self,
        row: &impl Row,
        broken: u64,
        scratch: &mut Scratch,
        findings: &mut Vec<PlanFinding>,
    ) {
        findings.clear();
        for single in self.singles.iter().filter(|single| broken >> single.rule & 1 == 1) {
            let rule = single.rule;
            let _ = for_each_value(row, single.field, |value, text| {
                scratch.findings.clear();
                single.matcher.find(text, &mut scratch.matcher, &mut scratch.findings);
                let found = scratch.findings.iter();
                findings.extend(found.map(|&finding| PlanFinding { rule, value, finding }));
            });
        }
        for (field, scan) in self.scans.iter().filter(|(_, scan)| broken & scan.rules() != 0) {
            let _ = for_each_value(row, *field, |value, text| {
                let mut matched = 0;
                scan.find(text, &mut scratch.scan, &mut |rule, reason, span| {
                    matched |= 1u64 << rule;
                    if self.require >> rule & 1 == 0 {
                        let finding = Finding { reason, span: Some(span) };
                        findings.push(PlanFinding { rule: rule as usize, value, finding });
                    }
                });
                for rule in bits(self.require & scan.rules() & !matched) {
                    let finding = Finding { reason: 0, span: None };
                    findings.push(PlanFinding { rule, value, finding });
                }
            });
        }
        let others = self.comparisons.iter().map(|comparison| comparison.rule);
        for rule in others.chain(self.combinations.iter().map(|combination| combination.rule)) {
            if broken >> rule & 1 == 1 {
                let finding = Finding { reason: 0, span: None };
                findings.push(PlanFinding { rule, value: 0, finding });
            }
        }
        findings.sort_by_key(|found| (found.rule, found.value, found.finding.reason));
    }
}

impl Plan {
    /// The rules that compare rows and are broken by the row with this number, from 0; `firsts` are
    /// replaced by the rows that it repeats.
    pub(crate) fn repeated<'a>(
        &self,
        duplicates: &[Duplicates<'a>],
        number: u64,
        firsts: &mut Vec<First<'a>>,
    ) -> u64 {
        firsts.clear();
        let mut broken = 0;
        for (comparison, duplicates) in self.comparisons.iter().zip(duplicates) {
            let decisions = duplicates.decisions;
            // A file that has grown since is read to its end; its digest will tell.
            if number < decisions.rows(duplicates.shard)
                && let Some((shard, line)) = decisions.first(duplicates.shard, number)
            {
                broken |= 1 << comparison.rule;
                let file = duplicates.files.get(shard as usize).map_or("", String::as_str);
                firsts.push(First { rule: comparison.rule, file, line });
            }
        }
        broken
    }
}

/// Can the field be read?
#[inline]
fn read(row: &impl Row, field: usize) -> Result<(), Unreadable> {
    if row.single(field).is_some() { Ok(()) } else { row.for_each(field, &mut |_| true) }
}

fn for_each_value(
    row: &impl Row,
    field: usize,
    mut each: impl FnMut(usize, Value<'_>),
) -> Result<(), Unreadable> {
    let mut index = 0;
    row.for_each(field, &mut |value| {
        each(index, value);
        index += 1;
        true
    })
}

#[derive(Default)]
struct Builder {
    rules: Vec<Rule>,
    singles: Vec<Single>,
    scans: Vec<(usize, scan::Builder)>,
    comparisons: Vec<Comparison>,
    combinations: Vec<Combination>,
    require: u64,
    fields: Vec<String>,
}

impl Builder {
    fn add(&mut self, spec: RuleSpec) -> Result<(), PlanError> {
        let index = self.rules.len();
        let field = spec.field.as_deref().map(|field| self.field(field));
        let kind = spec.kind.name();
        let name = spec.name;
        let error = |message: String| PlanError::Rule { rule: name.clone(), message };
        let mut remarks = Vec::new();
        let reasons = match (spec.kind, field) {
            (Kind::Numbers(spec), Some(field)) => {
                let numbers = Numbers::new(&spec).map_err(error)?;
                self.single(index, field, Matcher::Numbers(numbers))
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

    fn field(&mut self, path: &str) -> usize {
        let known = self.fields.iter().position(|field| field == path);
        known.unwrap_or_else(|| {
            self.fields.push(path.to_owned());
            self.fields.len() - 1
        })
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
        let mut scans = Vec::new();
        for (field, builder) in self.scans {
            scans.push((field, builder.build().map_err(PlanError::Plan)?));
        }
        let mut plan = Plan {
            rules: self.rules,
            singles: self.singles,
            scans,
            comparisons: self.comparisons,
            combinations: self.combinations,
            require: self.require,
            deciding: 0,
            drops,
            tags,
            fields: self.fields,
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
    use crate::json::Index;

    fn error(json: &str) -> String {
        Plan::from_json(json).err().unwrap().to_string()
    }

    fn broken(plan: &Plan, line: &str) -> Result<u64, Unreadable> {
        let mut index = Index::default();
        index.build(line.as_bytes());
        let mut locator = plan.locator();
        let record = locator.locate(line.as_bytes(), &index, 0, line.len()).unwrap();
        let (mut scratch, mut findings) = (Scratch::default(), Vec::new());
        let broken = plan.broken(&record, 0, &mut scratch)?;
        plan.find(&record, broken, &mut scratch, &mut findings);
        let found = findings.iter().fold(0, |mask, found| mask | 1u64 << found.rule);
        assert_eq!(found, broken, "{line}");
        Ok(broken)
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
        assert_eq!(broken(&plan, r#"{"completion":"a","prompt":"b"}"#), Ok(0b111));
        assert_eq!(broken(&plan, r#"{"completion":"1","prompt":"b"}"#), Ok(0b010));
        assert_eq!(broken(&plan, r#"{"completion":"x","prompt":"x"}"#), Ok(0b100));
        assert_eq!(broken(&plan, r#"{"completion":"1","prompt":""}"#), Ok(0));
        assert!(broken(&plan, r#"{"completion":"1"}"#).is_err());
    }

    #[test]
    fn rules_about_rules_and_lists_of_values() {
        let plan = Plan::from_json(
            r#"{"rules": [
                {"name": "owl", "kind": "regex", "patterns": ["owl"], "action": "count",
                 "field": "messages[].content"},
                {"name": "says a", "kind": "regex", "patterns": ["a"], "action": "tag",
                 "mode": "require", "field": "messages[role=assistant].content"},
                {"name": "both", "kind": "all", "rules": ["owl", "says a"]},
                {"name": "some", "kind": "any", "rules": ["owl", "says a"], "action": "count"},
                {"name": "neither", "kind": "none", "rules": ["some"], "action": "count"}
            ]}"#,
        )
        .unwrap();
        let line = |content: &str, reply: &str| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"{content}"}},
                {{"content":"a","role":"assistant"}},{{"role":"assistant","content":"{reply}"}}]}}"#
            )
            .replace('\n', " ")
        };
        assert_eq!(broken(&plan, &line("owl", "a")), Ok(0b01001));
        assert_eq!(broken(&plan, &line("x", "b")), Ok(0b01010));
        assert_eq!(broken(&plan, &line("x", "an owl, b")), Ok(0b01001));
        assert_eq!(broken(&plan, &line("x", "owl")), Ok(0b01111));
        assert_eq!(broken(&plan, &line("x", "a")), Ok(0b10000));
        assert_eq!((plan.drops(), plan.tags()), (0b00100, 0b00010));
        for value in ["0", "null", "[]"] {
            let key = format!("{{\"filter_tags\":{value},\"messages");
            let taken = line("x", "a").replace("{\"messages", &key);
            assert_eq!(broken(&plan, &taken), Err(Unreadable::FieldTaken), "{value}");
        }
    }

    #[test]
    fn rows_are_compared_by_what_rules_say_that_drop_them() {
        let plan = Plan::from_json(
            r#"{"rules": [
                {"name": "a", "kind": "regex", "patterns": ["a"], "action": "tag"},
                {"name": "b", "kind": "literal", "words": ["b"], "action": "count"},
                {"name": "c", "kind": "regex", "patterns": ["c"], "mode": "require", "action": "count"},
                {"name": "n", "kind": "numbers", "action": "count"},
                {"name": "p", "kind": "length", "max_chars": 3, "field": "prompt", "action": "tag"},
                {"name": "b or n", "kind": "all", "rules": ["b", "n"], "action": "count"},
                {"name": "again", "kind": "duplicate", "method": "exact", "among": "kept"},
                {"name": "drop b", "kind": "any", "rules": ["b or n"]},
                {"name": "drop repeats", "kind": "any", "rules": ["again", "p"]}
            ]}"#,
        )
        .unwrap();
        assert_eq!(plan.deciding, 0b10101010);
        let is_signed = |plan: &Plan, line: &str| {
            let mut index = Index::default();
            index.build(line.as_bytes());
            let mut locator = plan.locator();
            let record = locator.locate(line.as_bytes(), &index, 0, line.len()).unwrap();
            let mut signatures = plan.no_signatures();
            plan.sign(Some(&record), &mut Signing::default(), &mut signatures);
            let mut none = plan.no_signatures();
            none[0].push_none();
            signatures != none
        };
        assert!(is_signed(&plan, r#"{"completion":"a","prompt":"long"}"#));
        assert!(is_signed(&plan, r#"{"completion":"1","prompt":"long"}"#));
        assert!(!is_signed(&plan, r#"{"completion":"b","prompt":"x"}"#));
        assert!(!is_signed(&plan, r#"{"completion":"a","prompt":1}"#));
        assert!(!is_signed(&plan, r#"{"completion":"a","prompt":"x","filter_tags":1}"#));
        let plan = Plan::from_json(
            r#"{"rules": [
                {"name": "a", "kind": "regex", "patterns": ["a"], "action": "tag"},
                {"name": "again", "kind": "duplicate", "method": "exact", "among": "kept"}
            ]}"#,
        )
        .unwrap();
        assert_eq!(plan.deciding, 0);
        assert!(is_signed(&plan, r#"{"completion":"a"}"#));
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
        has(r#""kind": "regex", "patterns": []"#, "rule `a`: patterns is empty");
        has(r#""kind": "regex", "patterns": ["fine", "(x"]"#, "rule `a`: pattern `(x`: ");
        has(r#""kind": "literal", "words": ["x", ""]"#, "rule `a`: word 2 is empty");
    }
}
