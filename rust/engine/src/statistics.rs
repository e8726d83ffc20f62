//! What happened to the rows of a shard, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::Plan;
use crate::record::Unreadable;
use crate::rules::Finding;

/// The counts of one shard. `rows_in == kept + rejected`; unreadable rows are among the rejected.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Statistics {
    /// Lines that are not blank.
    pub rows_in: u64,
    /// Rows that break no rule.
    pub kept: u64,
    /// All other rows.
    pub rejected: u64,
    /// Rejected rows that could not be read, so that no rule was asked.
    pub unreadable: u64,
    /// Lines with nothing but whitespace. They are no rows, and are not written anywhere.
    pub blank_lines: u64,
    /// Bytes of the input, uncompressed.
    pub bytes_in: u64,
    /// Bytes of the kept rows, uncompressed.
    pub bytes_kept: u64,
    /// In declared order.
    pub rules: Vec<RuleStatistics>,
    /// Rows by the reason why they could not be read. A row with several unreadable fields counts
    /// once for each.
    pub unreadable_reasons: BTreeMap<String, u64>,
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
    /// Rows that break it and no other rule.
    pub sole_hits: u64,
    /// Rows by reason; reasons that never came up are left out.
    pub reasons: BTreeMap<String, u64>,
}

/// Counts while a shard is read.
pub(crate) struct Counter<'a> {
    plan: &'a Plan,
    pub rows_in: u64,
    pub kept: u64,
    pub blank_lines: u64,
    pub bytes_in: u64,
    pub bytes_kept: u64,
    unreadable: u64,
    unreadable_reasons: BTreeMap<&'static str, u64>,
    rules: Vec<RuleCounter>,
}

struct RuleCounter {
    hits: u64,
    sole_hits: u64,
    /// By the index of the reason.
    reasons: Vec<u64>,
}

impl Counter<'_> {
    pub fn new(plan: &Plan) -> Counter<'_> {
        let rules = plan.rules().iter().map(|rule| RuleCounter {
            hits: 0,
            sole_hits: 0,
            reasons: vec![0; rule.matcher.reasons().len()],
        });
        Counter {
            plan,
            rows_in: 0,
            kept: 0,
            blank_lines: 0,
            bytes_in: 0,
            bytes_kept: 0,
            unreadable: 0,
            unreadable_reasons: BTreeMap::new(),
            rules: rules.collect(),
        }
    }

    pub fn unreadable(&mut self, reasons: &[Unreadable]) {
        self.unreadable += 1;
        for reason in reasons {
            *self.unreadable_reasons.entry(reason.reason()).or_default() += 1;
        }
    }

    pub fn broken(&mut self, mask: u64, findings: &[(usize, Finding)]) {
        let is_sole = mask.is_power_of_two();
        for (index, rule) in self.rules.iter_mut().enumerate() {
            if mask >> index & 1 == 1 {
                rule.hits += 1;
                rule.sole_hits += u64::from(is_sole);
            }
        }
        for (rule, finding) in findings {
            self.rules[*rule].reasons[finding.reason] += 1;
        }
    }

    pub fn finish(self) -> Statistics {
        let rules = self.plan.rules().iter().zip(self.rules).map(|(rule, counter)| {
            let mut reasons = BTreeMap::new();
            for (reason, count) in rule.matcher.reasons().iter().zip(counter.reasons) {
                if count > 0 {
                    *reasons.entry(reason.clone()).or_default() += count;
                }
            }
            RuleStatistics {
                name: rule.name.clone(),
                kind: rule.kind.to_owned(),
                hits: counter.hits,
                sole_hits: counter.sole_hits,
                reasons,
            }
        });
        Statistics {
            rows_in: self.rows_in,
            kept: self.kept,
            rejected: self.rows_in - self.kept,
            unreadable: self.unreadable,
            blank_lines: self.blank_lines,
            bytes_in: self.bytes_in,
            bytes_kept: self.bytes_kept,
            rules: rules.collect(),
            unreadable_reasons: self
                .unreadable_reasons
                .into_iter()
                .map(|(reason, count)| (reason.to_owned(), count))
                .collect(),
        }
    }
}
