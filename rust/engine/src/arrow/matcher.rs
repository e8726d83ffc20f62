//! Says what a plan says about rows in memory, in rows of its own.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, LargeStringBuilder, ListBuilder, StringBuilder, UInt64Builder,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::batch::Batch;
use crate::error::PlanError;
use crate::json::bits;
use crate::plan::{Plan, PlanFinding, Reasons, Scratch};

/// Rows are matched in slices: what their reasons take is bounded.
const SLICE_ROWS: usize = 1 << 14;

/// Matches the rows of one batch after the other, and writes nothing.
pub struct BatchMatcher<'a> {
    plan: &'a Plan,
    reasons: Option<Reasons<'a>>,
    schema: SchemaRef,
    scratch: Scratch,
    findings: Vec<PlanFinding>,
    text: Vec<u8>,
}

impl<'a> BatchMatcher<'a> {
    /// Prepares to match, and with `reasons` to say why rows break rules. Rules that compare rows
    /// are an error: a batch does not hold all of them.
    pub fn new(plan: &'a Plan, reasons: bool) -> Result<BatchMatcher<'a>, PlanError> {
        if let Some(comparison) = plan.comparisons().first() {
            return Err(PlanError::Rule {
                rule: plan.rules()[comparison.rule].name.clone(),
                message: "compares all rows, and a batch does not hold them; filter files instead"
                    .to_owned(),
            });
        }
        Ok(BatchMatcher {
            plan,
            reasons: reasons.then(|| Reasons::new(plan)),
            schema: matches_schema(reasons),
            scratch: Scratch::default(),
            findings: Vec::new(),
            text: Vec::new(),
        })
    }

    /// Appends what the plan says about these rows: batches of [`matches_schema`], as many rows as
    /// there are in `rows`.
    ///
    /// - `kept`: can the row be read, and does no rule drop it?
    /// - `broken`: bit `i` for rule `i`; 0 where the row cannot be read
    /// - `tags`: the names of the `tag` rules that a kept row breaks
    /// - `reasons`: as in the rejects, for every rule that is broken or why the row cannot be read;
    ///   null where there is nothing to say
    pub fn append(&mut self, rows: &StructArray, matches: &mut Vec<RecordBatch>) {
        for start in (0..rows.len()).step_by(SLICE_ROWS) {
            let slice = rows.slice(start, SLICE_ROWS.min(rows.len() - start));
            matches.push(self.judge(&Batch::new(self.plan, &slice)));
        }
    }

    /// The same for rows that are lines of JSON, each with a line feed at its end. Those that are
    /// too long for a file are read here: they are in memory already.
    pub fn append_lines(&mut self, lines: &[u8], matches: &mut Vec<RecordBatch>) {
        matches.push(self.judge(&Batch::of_lines(self.plan, lines)));
    }

    fn judge(&mut self, rows: &Batch<'_>) -> RecordBatch {
        let plan = self.plan;
        let mut kept = BooleanBuilder::with_capacity(rows.len());
        let mut masks = UInt64Builder::with_capacity(rows.len());
        let mut tags = ListBuilder::new(StringBuilder::new());
        let mut texts = LargeStringBuilder::new();
        for row in 0..rows.len() {
            let row = rows.row(row);
            self.text.clear();
            let broken = plan.broken(&row, 0, &mut self.scratch);
            let mask = *broken.as_ref().unwrap_or(&0);
            let is_kept = broken.is_ok() && mask & plan.drops() == 0;
            if let Some(reasons) = &self.reasons {
                if broken.is_err() {
                    reasons.write_unreadable(&plan.unreadable(&row), &mut self.text);
                } else if mask != 0 {
                    plan.find(&row, mask, &mut self.scratch, &mut self.findings);
                    reasons.write(&row, &self.findings, &[], &mut self.text);
                }
                let text = std::str::from_utf8(&self.text).expect("reasons are text");
                texts.append_option((!text.is_empty()).then_some(text));
            }
            kept.append_value(is_kept);
            masks.append_value(mask);
            for rule in bits(if is_kept { mask & plan.tags() } else { 0 }) {
                tags.values().append_value(&plan.rules()[rule].name);
            }
            tags.append(true);
        }
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(kept.finish()), Arc::new(masks.finish()), Arc::new(tags.finish())];
        if self.reasons.is_some() {
            columns.push(Arc::new(texts.finish()));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .expect("the columns have the schema")
    }
}

/// The columns that a [`BatchMatcher`] makes.
pub fn matches_schema(reasons: bool) -> SchemaRef {
    let tag = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let mut fields = vec![
        Field::new("kept", DataType::Boolean, false),
        Field::new("broken", DataType::UInt64, false),
        Field::new("tags", DataType::List(tag), false),
    ];
    if reasons {
        fields.push(Field::new("reasons", DataType::LargeUtf8, true));
    }
    Arc::new(Schema::new(fields))
}
