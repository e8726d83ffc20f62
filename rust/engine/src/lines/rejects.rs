//! The lines of the rejects.
//!
//! One JSON object a line: `file` and `line` say where the row was (the path of the input, as it was
//! given, and the line number from 1), `reasons` lists every reason in the declared order of the rules
//! (see `reasons.rs`), and `row` is the row itself: verbatim if it is a JSON object, otherwise a string
//! with its text, with U+FFFD for what is not UTF-8 and cut after [`HEAD_BYTES`].

use super::block::HEAD_BYTES;
use crate::json::{Row, Unreadable};
use crate::plan::{First, Plan, PlanFinding, Reasons, push_number, to_json};

/// The row as it goes into the rejects.
pub(crate) enum Original<'a> {
    /// A JSON object.
    Object(&'a [u8]),
    /// Whatever else a line can hold.
    Bytes(&'a [u8]),
}

/// Writes whole lines of the rejects.
pub(crate) struct Rejects<'a> {
    reasons: Reasons<'a>,
    /// `{"file":"...","line":`, the same for all rows of a shard.
    prefix: Vec<u8>,
}

impl<'a> Rejects<'a> {
    /// Rejects of rows that come from this input.
    pub fn new(plan: &'a Plan, file: &str) -> Rejects<'a> {
        let prefix = format!("{{\"file\":{},\"line\":", to_json(file)).into_bytes();
        Rejects { reasons: Reasons::new(plan), prefix }
    }

    /// Appends a row that a rule drops; `number` is that of its line, from 0.
    pub fn broken(
        &self,
        number: u64,
        row: &impl Row,
        findings: &[PlanFinding],
        firsts: &[First<'_>],
        original: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.head(number, out);
        self.reasons.write(row, findings, firsts, out);
        tail(&Original::Object(original), out);
    }

    /// Appends a row that cannot be read.
    pub fn unreadable(
        &self,
        number: u64,
        reasons: &[Unreadable],
        original: &Original<'_>,
        out: &mut Vec<u8>,
    ) {
        self.head(number, out);
        self.reasons.write_unreadable(reasons, out);
        tail(original, out);
    }

    fn head(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        push_number(number + 1, out);
        out.extend_from_slice(b",\"reasons\":");
    }
}

fn tail(original: &Original<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"row\":");
    match original {
        Original::Object(text) => out.extend_from_slice(text.trim_ascii()),
        Original::Bytes(bytes) => {
            let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
            out.extend_from_slice(to_json(String::from_utf8_lossy(bytes)).as_bytes());
        }
    }
    out.extend_from_slice(b"}\n");
}
