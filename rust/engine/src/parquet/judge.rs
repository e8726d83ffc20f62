//! Decides about the rows of a row group.

use arrow_array::Array;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;

use super::errors::to_io;
use super::group::Group;
use super::input::Input;
use crate::arrow::Batch;
use crate::error::Error;
use crate::plan::{Counts, First, Plan, PlanFinding, Reasons, Scratch};
use crate::shard::Shard;

/// What was decided about the rows of a row group.
pub struct Verdicts {
    /// By row.
    pub dropped: Vec<bool>,
    /// Of the dropped rows: their numbers from 1, and why.
    pub lines: Vec<i64>,
    pub reasons: Vec<ByteArray>,
    /// By row, if there are tags: the `tag` rules that it breaks.
    pub tags: Vec<u64>,
    pub counts: Counts,
}

impl Verdicts {
    /// Takes note of the next row, whose broken rules and reasons are known.
    fn take(&mut self, plan: &Plan, first: i64, broken: u64, reasons: &[u8]) {
        let is_dropped = !reasons.is_empty();
        self.counts.rows_in += 1;
        if is_dropped {
            self.lines.push(first + self.dropped.len() as i64);
            self.reasons.push(ByteArray::from(reasons.to_vec()));
        } else {
            self.counts.kept += 1;
            self.counts.tagged += u64::from(broken & plan.tags() != 0);
        }
        if plan.tags() != 0 {
            self.tags.push(broken & plan.tags());
        }
        self.dropped.push(is_dropped);
    }

    /// By row: the piece that it goes to, or the one after the last for rejects.
    pub fn routes(&self, pieces: &[(u64, u64)]) -> Vec<u32> {
        let mut routes = Vec::with_capacity(self.dropped.len());
        let (mut piece, mut room) = (0, pieces.first().map_or(0, |piece| piece.1));
        for dropped in &self.dropped {
            if *dropped {
                routes.push(pieces.len() as u32);
                continue;
            }
            if room == 0 {
                piece += 1;
                room = pieces[piece].1;
            }
            room -= 1;
            routes.push(piece as u32);
        }
        routes
    }
}

/// Decides about one row group after the other; each thread has its own.
pub struct Judge<'a> {
    plan: &'a Plan,
    shard: Shard<'a>,
    input: &'a Input,
    reasons: Reasons<'a>,
    scratch: Scratch,
    findings: Vec<PlanFinding>,
    firsts: Vec<First<'a>>,
}

impl<'a> Judge<'a> {
    pub fn new(plan: &'a Plan, shard: Shard<'a>, input: &'a Input) -> Judge<'a> {
        Judge {
            plan,
            shard,
            input,
            reasons: Reasons::new(plan),
            scratch: Scratch::default(),
            findings: Vec::new(),
            firsts: Vec::new(),
        }
    }

    /// Judges all rows of the row group, whose first row has this number, from 1.
    /// `report` is told now and then how many rows were judged and kept.
    pub fn group(
        &mut self,
        group: &Group,
        first: i64,
        report: impl Fn(u64, u64) -> Result<(), Error>,
    ) -> Result<Verdicts, Error> {
        let Judge { plan, shard, input, reasons, scratch, findings, firsts } = self;
        let (plan, path) = (*plan, shard.input);
        let mut verdicts = Verdicts {
            dropped: Vec::new(),
            lines: Vec::new(),
            reasons: Vec::new(),
            tags: Vec::new(),
            counts: Counts::new(plan),
        };
        let mut text = Vec::new();
        for rows in input.rows_of(group).map_err(Error::read(path))? {
            let rows = rows.map_err(Error::read(path))?;
            let batch = Batch::new(plan, &rows);
            let before = verdicts.counts.kept;
            for row in 0..rows.len() {
                let row = batch.row(row);
                let number = (first - 1) as u64 + verdicts.dropped.len() as u64;
                let known = plan.repeated(shard.duplicates, number, firsts);
                let broken = plan.broken(&row, known, scratch);
                text.clear();
                match broken {
                    Ok(0) => {}
                    Ok(broken) => {
                        plan.find(&row, broken, scratch, findings);
                        verdicts.counts.broken(plan, broken, findings);
                        if broken & plan.drops() != 0 {
                            reasons.write(&row, findings, firsts, &mut text);
                        }
                    }
                    Err(_) => {
                        let unreadable = plan.unreadable(&row);
                        verdicts.counts.unreadable(plan, &unreadable);
                        reasons.write_unreadable(&unreadable, &mut text);
                    }
                }
                verdicts.take(plan, first, broken.unwrap_or(0), &text);
            }
            report(rows.len() as u64, verdicts.counts.kept - before)?;
        }
        let group = group.metadata();
        if i64::try_from(verdicts.dropped.len()) != Ok(group.num_rows()) {
            let message = "a column has fewer rows than its row group".to_owned();
            return Err(Error::read(path)(to_io(ParquetError::EOF(message))));
        }
        let bytes = group.columns().iter().map(|column| column.uncompressed_size().max(0) as u64);
        verdicts.counts.bytes_in = bytes.sum();
        Ok(verdicts)
    }
}
