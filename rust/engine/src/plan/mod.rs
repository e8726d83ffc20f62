//! Compiles a list of rules into one plan that judges rows.
//!
//! A row is judged in two steps. [`Plan::broken`] answers for every row which rules it breaks, as a
//! mask with one bit a rule, in declared order. Only for a row that breaks one does [`Plan::find`]
//! ask why, and where.

mod comparisons;
mod compile;
mod explain;
mod reasons;
mod scan;
mod statistics;

use std::sync::Arc;

use crate::duplicates::Signer;
use crate::json::{Index, Locator, Record, Row, Tree, Unreadable, Value, bits};
use crate::rules::number::Number;
use crate::rules::{self, Action, Finding, Matcher};
use scan::Scan;

pub use comparisons::Signing;
pub use compile::PlanSpec;
pub(crate) use explain::explain_row;
pub(crate) use reasons::{First, Reasons, push_number, to_json};
pub(crate) use statistics::Counts;
pub use statistics::{Sha256, Statistics};

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

/// A rule that looks for a number, by its index.
struct Numeric {
    rule: usize,
    field: usize,
    number: Number,
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
    numbers: Vec<Numeric>,
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
    /// Are there only patterns that can be looked for in strings as they are written?
    reads_written: bool,
    fields: Vec<String>,
    /// The fields that are looked at for a number, one bit each.
    numeric: u64,
    tree: Arc<Tree>,
    tag_field: String,
    max_line_bytes: usize,
}

/// Buffers that judging reuses from row to row; each thread has its own.
#[derive(Default)]
pub struct Scratch {
    scan: scan::Scratch,
    matcher: rules::Scratch,
    findings: Vec<Finding>,
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

    /// The paths of the fields that the rules look at; their order is their index. A path that is
    /// looked at for texts and for a number is two fields.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Is the field with this index looked at for a number? Others are for texts.
    pub fn is_number(&self, field: usize) -> bool {
        self.numeric >> field & 1 == 1
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
            return Locator::new(tree, fields).with_nulls_of(self.numeric);
        }
        // A second key of this name would be in the row's way, whatever the first one holds.
        Locator::new(tree, fields + 1).with_nulls_of(self.numeric | 1 << fields)
    }

    /// Can rows be asked [`Plan::is_kept_as_written`]?
    pub fn reads_written(&self) -> bool {
        self.reads_written
    }

    /// Is it certain that a row breaks no rule, before its escapes are decoded? `index` is that of its
    /// block.
    #[inline]
    pub fn is_kept_as_written(
        &self,
        row: &Record<'_>,
        index: &Index,
        scratch: &mut Scratch,
    ) -> bool {
        self.scans.iter().all(|(field, scan)| {
            row.all_written(*field, |value| {
                value.is_some_and(|value| scan.is_out(value, index, &mut scratch.scan))
            })
        })
    }

    /// Why the plan cannot judge this row: needed fields that are missing or not strings.
    pub fn unreadable(&self, row: &impl Row) -> Vec<Unreadable> {
        let fields = 0..self.fields.len();
        let mut all: Vec<_> = fields.filter_map(|field| self.read(row, field).err()).collect();
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
                self.read(row, single.field)?;
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
        for numeric in &self.numbers {
            let found = row.number(numeric.field)?;
            mask |= u64::from(numeric.number.reason(found).is_some()) << numeric.rule;
        }
        for (field, scan) in &self.scans {
            let rules = scan.rules() & asked;
            if rules == 0 {
                self.read(row, *field)?;
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
            self.read(row, comparison.field)?;
        }
        for combination in &self.combinations {
            mask |= u64::from((combination.test)(mask, combination.parts)) << combination.rule;
        }
        Ok(mask)
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
        for numeric in self.numbers.iter().filter(|numeric| broken >> numeric.rule & 1 == 1) {
            let found = row.number(numeric.field).ok();
            if let Some(reason) = found.and_then(|found| numeric.number.reason(found)) {
                let finding = Finding { reason, span: None };
                findings.push(PlanFinding { rule: numeric.rule, value: 0, finding });
            }
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

    /// Can the field be read?
    #[inline]
    fn read(&self, row: &impl Row, field: usize) -> Result<(), Unreadable> {
        if self.is_number(field) {
            return row.number(field).map(drop);
        }
        if row.single(field).is_some() { Ok(()) } else { row.for_each(field, &mut |_| true) }
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn a_row_that_is_kept_as_it_is_written_breaks_no_rule(
            plan in 0usize..4,
            pieces in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "owl", "OWLS", "x", "_", "\u{17F}", "\u{212A}", "kis", "s", "\u{E9}", "\n", "\"",
                        "\\", "/", " ", "n", "u00", "\u{41E}", "\u{4E2D}", "\u{1F600}", "\u{1}", "e\u{301}",
                        "bird of prey", "a long text in which nothing is looked for, past 64 bytes, ",
                    ]),
                    0u8..4,
                ),
                0..12,
            ),
        ) {
            let rules = [
                r#"{"name": "a", "kind": "regex", "patterns": ["\\bowls?\\b", "kiss", "d.{1,9}of"],
                   "ignore_case": true}"#,
                r#"{"name": "a", "kind": "regex", "patterns": ["owl", "n_", "u00e9", "D83D"]}"#,
                r#"{"name": "a", "kind": "literal", "words": ["owl", "kiss", "bird of prey"],
                   "ignore_case": true}"#,
                r#"{"name": "a", "kind": "literal", "words": ["x", "s"], "ignore_diacritics": true}"#,
            ][plan];
            let plan = Plan::from_json(&format!(r#"{{"rules": [{rules}]}}"#)).unwrap();
            prop_assert!(plan.reads_written());
            let mut line = String::from("{\"completion\":\"");
            for (text, way) in &pieces {
                for (at, c) in text.chars().enumerate() {
                    let must = matches!(c, '"' | '\\') || c < ' ';
                    match *way {
                        _ if c == '\n' && *way < 2 => line += "\\n",
                        0 if !must => line.push(c),
                        1 if c == '/' || must && c > ' ' => line.extend(['\\', c]),
                        1 if c.is_ascii() && !must => line.push(c),
                        2 if at > 0 && !must => line.push(c),
                        _ => {
                            for unit in c.encode_utf16(&mut [0; 2]) {
                                line += &format!("\\u{unit:04x}");
                            }
                        }
                    }
                }
            }
            line += "\"}";
            let mut index = Index::default();
            index.build(line.as_bytes());
            let mut locator = plan.locator().leaving_escapes();
            let record = locator.locate(line.as_bytes(), &index, 0, line.len()).unwrap();
            let is_kept = plan.is_kept_as_written(&record, &index, &mut Scratch::default());
            let all: String = pieces.iter().map(|(text, _)| *text).collect();
            let decoded = locator.decode(line.as_bytes(), &index, line.is_ascii());
            prop_assert_eq!(decoded.single(0).unwrap().text(), all);
            let broken = plan.broken(&decoded, 0, &mut Scratch::default()).unwrap();
            prop_assert!(broken == 0 || !is_kept, "{}", line);
        }
    }
}
