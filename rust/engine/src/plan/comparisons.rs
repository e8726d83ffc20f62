//! What a plan asks about other rows: signatures of each row in a first pass, and in the second what
//! was decided by all of them. [`crate::duplicates`] says how.

use super::reasons::First;
use super::{Comparison, Plan, Scratch};
use crate::duplicates::{Among, SignScratch, Signatures};
use crate::json::Row;
use crate::shard::Duplicates;

/// Buffers that signing reuses from row to row; each thread has its own.
#[derive(Default)]
pub struct Signing {
    values: SignScratch,
    rows: Scratch,
}

impl Plan {
    /// The rules that compare rows. [`crate::duplicates`] says how they are judged.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Index;

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
}
