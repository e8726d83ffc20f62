//! What happened to the rows of a shard, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Plan, PlanFinding};
use crate::json::{Unreadable, bits};

/// The counts of one shard. `rows_in == kept + rejected`; unreadable rows are among the rejected.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Statistics {
    /// Lines that are not blank.
    pub rows_in: u64,
    /// Rows that no rule drops.
    pub kept: u64,
    /// All other rows.
    pub rejected: u64,
    /// Rejected rows that could not be read, so that no rule was asked.
    pub unreadable: u64,
    /// Kept rows with tags.
    pub tagged: u64,
    /// Lines with nothing but whitespace. They are no rows, and are not written anywhere.
    pub blank_lines: u64,
    /// Bytes of the input, uncompressed.
    pub bytes_in: u64,
    /// Bytes of the kept rows, uncompressed.
    pub bytes_kept: u64,
    /// Kept rows by file: one, or as many as they were split into.
    pub parts: Vec<u64>,
    /// Of the files, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// In declared order.
    pub rules: Vec<RuleStatistics>,
    /// Rows by the reason why they could not be read. A row with several unreadable fields counts
    /// once for each.
    pub unreadable_reasons: BTreeMap<String, u64>,
}

/// sha256 of a shard's files as they are on the disk, in hexadecimal digits.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Sha256 {
    /// The file that was read.
    pub input: String,
    /// Of each file of kept rows.
    pub kept: Vec<String>,
    /// The file of rejects.
    pub rejects: String,
}

/// The counts of one rule.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct RuleStatistics {
    /// The name of the rule.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Rows that break it.
    pub hits: u64,
    /// Rows that would be kept without it.
    pub sole_hits: u64,
    /// Rows by reason; reasons that never came up are left out.
    pub reasons: BTreeMap<String, u64>,
}

/// Counts while a shard is read. Those of its parts can be added up.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Counts {
    pub rows_in: u64,
    pub kept: u64,
    pub tagged: u64,
    pub blank_lines: u64,
    pub bytes_in: u64,
    pub bytes_kept: u64,
    unreadable: u64,
    unreadable_reasons: BTreeMap<String, u64>,
    rules: Vec<RuleCounts>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
struct RuleCounts {
    hits: u64,
    sole_hits: u64,
    /// By the index of the reason.
    reasons: Vec<u64>,
}

impl Counts {
    pub fn new(plan: &Plan) -> Counts {
        let rules = plan.rules().iter().map(|rule| RuleCounts {
            reasons: vec![0; rule.reasons.len()],
            ..RuleCounts::default()
        });
        Counts { rules: rules.collect(), ..Counts::default() }
    }

    pub fn unreadable(&mut self, plan: &Plan, reasons: &[Unreadable]) {
        self.unreadable += 1;
        for reason in reasons {
            let mut text = reason.reason().to_owned();
            if let Some(field) = reason.field() {
                text = format!("{text}: {}", plan.fields()[field]);
            }
            *self.unreadable_reasons.entry(text).or_default() += 1;
        }
    }

    pub fn broken(&mut self, plan: &Plan, mask: u64, findings: &[PlanFinding]) {
        let dropped = mask & plan.drops();
        for rule in bits(mask) {
            self.rules[rule].hits += 1;
            self.rules[rule].sole_hits += u64::from(dropped == 1 << rule);
        }
        for (index, found) in findings.iter().enumerate() {
            let is_same = |other: &PlanFinding| {
                (other.rule, other.finding.reason) == (found.rule, found.finding.reason)
            };
            if found.value == 0 || !findings[..index].iter().any(is_same) {
                self.rules[found.rule].reasons[found.finding.reason] += 1;
            }
        }
    }

    /// Adds those of another part of the shard, and sets them to 0.
    pub fn take(&mut self, other: &mut Counts) {
        for (count, other) in [
            (&mut self.rows_in, &mut other.rows_in),
            (&mut self.kept, &mut other.kept),
            (&mut self.tagged, &mut other.tagged),
            (&mut self.blank_lines, &mut other.blank_lines),
            (&mut self.bytes_in, &mut other.bytes_in),
            (&mut self.bytes_kept, &mut other.bytes_kept),
            (&mut self.unreadable, &mut other.unreadable),
        ] {
            *count += std::mem::take(other);
        }
        for (reason, count) in std::mem::take(&mut other.unreadable_reasons) {
            *self.unreadable_reasons.entry(reason).or_default() += count;
        }
        for (rule, other) in self.rules.iter_mut().zip(&mut other.rules) {
            if other.hits == 0 {
                continue;
            }
            rule.hits += std::mem::take(&mut other.hits);
            rule.sole_hits += std::mem::take(&mut other.sole_hits);
            for (count, other) in rule.reasons.iter_mut().zip(&mut other.reasons) {
                *count += std::mem::take(other);
            }
        }
    }

    /// `parts`: the kept rows by file.
    pub fn finish(self, plan: &Plan, parts: Vec<u64>) -> Statistics {
        let rules = plan.rules().iter().zip(self.rules).map(|(rule, counts)| {
            let reasons = rule.reasons.iter().zip(counts.reasons);
            RuleStatistics {
                name: rule.name.clone(),
                kind: rule.kind.to_owned(),
                hits: counts.hits,
                sole_hits: counts.sole_hits,
                // Two reasons may have the same text; both count.
                reasons: reasons.filter(|(_, count)| *count > 0).fold(
                    BTreeMap::new(),
                    |mut all, (reason, count)| {
                        *all.entry(reason.clone()).or_default() += count;
                        all
                    },
                ),
            }
        });
        Statistics {
            rows_in: self.rows_in,
            kept: self.kept,
            rejected: self.rows_in - self.kept,
            unreadable: self.unreadable,
            tagged: self.tagged,
            blank_lines: self.blank_lines,
            bytes_in: self.bytes_in,
            bytes_kept: self.bytes_kept,
            parts,
            sha256: None,
            rules: rules.collect(),
            unreadable_reasons: self.unreadable_reasons,
        }
    }
}
