//! Decides about the lines of a shard, and copies them to one of two places.

use super::block::{Block, content, is_blank};
use super::pipeline::Turn;
use super::rejects::{Original, Rejects};
use crate::error::Error;
use crate::json::{Index, Locator, Unreadable, bits};
use crate::plan::{Counts, First, Plan, PlanFinding, Scratch};
use crate::shard::{Duplicates, Meter};

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is kept as it is.
    Kept,
    /// It is kept with tags; its object ends at `brace`.
    Tagged { brace: usize, broken: u64 },
    /// It was written to the rejects, or is blank.
    Gone,
}

/// Decides about lines, counts them, and copies them to one of two places.
pub(crate) struct Judge<'a> {
    plan: &'a Plan,
    index: Index,
    locator: Locator,
    pub counts: Counts,
    rejects: Rejects<'a>,
    duplicates: &'a [Duplicates<'a>],
    /// Of the next line, from 0.
    line_number: u64,
    scratch: Scratch,
    findings: Vec<PlanFinding>,
    firsts: Vec<First<'a>>,
    /// What was decided since they were cleared.
    pub kept: Vec<u8>,
    /// Lines of the rejects, likewise.
    pub rejected: Vec<u8>,
}

impl<'a> Judge<'a> {
    pub fn new(plan: &'a Plan, file: &str, duplicates: &'a [Duplicates<'a>]) -> Judge<'a> {
        let locator = plan.locator();
        let locator = if plan.reads_written() { locator.leaving_escapes() } else { locator };
        Judge {
            plan,
            index: Index::default(),
            locator,
            counts: Counts::new(plan),
            rejects: Rejects::new(plan, file),
            duplicates,
            line_number: 0,
            scratch: Scratch::default(),
            findings: Vec::new(),
            firsts: Vec::new(),
            kept: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// Decides about a block. `hand_in` takes what is pending when that is more than `most` bytes, and
    /// at the end.
    pub fn block<T>(
        &mut self,
        block: &Block,
        turn: &mut Turn<'_, T>,
        meter: &Meter<'_>,
        most: usize,
        mut hand_in: impl FnMut(&mut Self, &mut Turn<'_, T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.line_number = block.first_line;
        if let Some(long) = &block.too_long {
            self.too_long(&long.head, long.length);
        }
        let mut pass_on = |judge: &mut Self, turn: &mut Turn<'_, T>| {
            meter.add(judge.counts.rows_in, judge.counts.kept);
            hand_in(judge, turn)?;
            judge.kept.clear();
            judge.rejected.clear();
            Ok(())
        };
        for window in block.windows() {
            self.window(window);
            meter.report()?;
            if self.kept.len() + self.rejected.len() > most {
                pass_on(self, turn)?;
            }
            if turn.is_stopped() {
                return Err(Error::Interrupted);
            }
        }
        pass_on(self, turn)
    }

    /// Decides about whole lines. Neighbours that are kept are copied together.
    fn window(&mut self, window: &[u8]) {
        self.index.build(window);
        self.counts.bytes_in += window.len() as u64;
        let mut at = 0;
        let mut run = 0;
        while at < window.len() {
            let line_feed = self.index.next_line_feed(at);
            let end = (line_feed + 1).min(window.len());
            let verdict = self.judge(window, at, end);
            if verdict != Verdict::Kept {
                self.kept.extend_from_slice(&window[run..at]);
                run = end;
            }
            if let Verdict::Tagged { brace, broken } = verdict {
                let length = self.kept.len();
                self.tag(&window[at..end], brace, broken);
                self.counts.bytes_kept += (self.kept.len() - length) as u64;
            }
            self.line_number += 1;
            at = end;
        }
        self.kept.extend_from_slice(&window[run..]);
    }

    /// Decides about the line `window[start..end]`. What is not kept is written to the rejects.
    #[inline]
    fn judge(&mut self, window: &[u8], start: usize, end: usize) -> Verdict {
        let line = &window[start..end];
        let (from, to) = content(line, self.line_number == 0);
        let text = &line[from..to];
        if text.first() != Some(&b'{') && is_blank(text) {
            self.counts.blank_lines += 1;
            return Verdict::Gone;
        }
        if text.len() > self.plan.max_line_bytes() {
            let length = line.len() as u64;
            self.reject_unread(Unreadable::LineTooLong { length }, text);
            return Verdict::Gone;
        }
        let located = self.locator.locate(window, &self.index, start + from, start + to);
        let record = match located {
            Ok(record) => record,
            Err(unreadable) => {
                self.reject_unread(unreadable, text);
                return Verdict::Gone;
            }
        };
        self.counts.rows_in += 1;
        if self.plan.reads_written()
            && self.plan.is_kept_as_written(&record, &self.index, &mut self.scratch)
        {
            return self.keep(line);
        }
        let is_ascii = record.is_ascii();
        let record = self.locator.decode(window, &self.index, is_ascii);
        let known = self.plan.repeated(self.duplicates, self.line_number, &mut self.firsts);
        let Ok(broken) = self.plan.broken(&record, known, &mut self.scratch) else {
            let unreadable = self.plan.unreadable(&record);
            self.counts.unreadable(self.plan, &unreadable);
            let (number, original) = (self.line_number, Original::Object(text));
            self.rejects.unreadable(number, &unreadable, &original, &mut self.rejected);
            return Verdict::Gone;
        };
        if broken == 0 {
            return self.keep(line);
        }
        let findings = &mut self.findings;
        self.plan.find(&record, broken, &mut self.scratch, findings);
        self.counts.broken(self.plan, broken, findings);
        if broken & self.plan.drops() != 0 {
            let number = self.line_number;
            let firsts = &self.firsts;
            self.rejects.broken(number, &record, findings, firsts, text, &mut self.rejected);
            return Verdict::Gone;
        }
        if broken & self.plan.tags() == 0 {
            return self.keep(line);
        }
        self.counts.kept += 1;
        self.counts.tagged += 1;
        let brace = text.iter().rposition(|&byte| byte == b'}').expect("an object has an end");
        Verdict::Tagged { brace: from + brace, broken }
    }

    /// Counts a line that is kept as it is.
    #[inline]
    fn keep(&mut self, line: &[u8]) -> Verdict {
        self.counts.kept += 1;
        self.counts.bytes_kept += line.len() as u64;
        Verdict::Kept
    }

    /// Copies a line with its tags as the last key of the object that ends at `brace`.
    fn tag(&mut self, line: &[u8], brace: usize, broken: u64) {
        self.kept.extend_from_slice(line[..brace].trim_ascii_end());
        let key = serde_json::Value::from(self.plan.tag_field());
        let rules = bits(broken & self.plan.tags());
        let names: Vec<&str> = rules.map(|rule| self.plan.rules()[rule].name.as_str()).collect();
        let tags = format!(",{key}:{}", serde_json::Value::from(names));
        self.kept.extend_from_slice(tags.as_bytes());
        self.kept.extend_from_slice(&line[brace..]);
    }

    /// Rejects a line that was streamed past.
    fn too_long(&mut self, head: &[u8], length: u64) {
        let (from, to) = content(head, self.line_number == 0);
        self.counts.bytes_in += length;
        self.reject_unread(Unreadable::LineTooLong { length }, &head[from..to]);
        self.line_number += 1;
    }

    /// Rejects a line of which no rule was asked.
    fn reject_unread(&mut self, why: Unreadable, text: &[u8]) {
        self.counts.rows_in += 1;
        let why = [why];
        self.counts.unreadable(self.plan, &why);
        let text = &text[..text.len().min(self.plan.max_line_bytes())];
        let original = Original::Bytes(text);
        self.rejects.unreadable(self.line_number, &why, &original, &mut self.rejected);
    }
}
