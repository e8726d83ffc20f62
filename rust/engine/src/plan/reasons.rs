//! How the reasons are written down for which a row is rejected.
//!
//! One JSON object a reason, in the declared order of the rules. `span` holds byte offsets
//! into the decoded UTF-8 value of `field`, and is null where the reason is about the whole value;
//! `text` is that part of the value, cut after [`TEXT_BYTES`], or, where a number is looked for, the
//! one that was found; `value` says which value it is, from 0, where a field can have several; `first`
//! says which row a duplicate repeats. A row that could not be read has reasons of the kind
//! `unreadable`, which belong to no rule and have a `detail` instead of a span.

use std::io::Write;

use super::{Plan, PlanFinding};
use crate::json::{Number, Row, Unreadable};

/// How much of a matched text a reason quotes.
const TEXT_BYTES: usize = 1024;

/// The row that another one repeats.
pub(crate) struct First<'a> {
    /// The index of the rule that says so.
    pub rule: usize,
    /// What the rejects call its file.
    pub file: &'a str,
    /// The number of its line, from 0.
    pub line: u64,
}

/// Writes reasons as JSON. What is the same each time is written once.
pub(crate) struct Reasons<'a> {
    plan: &'a Plan,
    /// By rule: `{"rule":...,"kind":...,"field":...,"reason":`.
    heads: Vec<Vec<u8>>,
    /// By rule and reason.
    texts: Vec<Vec<String>>,
}

impl<'a> Reasons<'a> {
    pub fn new(plan: &'a Plan) -> Reasons<'a> {
        let heads = plan.rules().iter().map(|rule| {
            let field = rule.field.map(|field| plan.fields()[field].as_str());
            format!(
                "{{\"rule\":{},\"kind\":{},\"field\":{},\"reason\":",
                to_json(&rule.name),
                to_json(rule.kind),
                field.map_or_else(|| "null".to_owned(), to_json)
            )
            .into_bytes()
        });
        let texts = plan.rules().iter().map(|rule| rule.reasons.iter().map(to_json).collect());
        Reasons { plan, heads: heads.collect(), texts: texts.collect() }
    }

    /// Appends the reasons as a JSON array. `firsts` are the rows that this one repeats.
    pub fn write(
        &self,
        row: &impl Row,
        findings: &[PlanFinding],
        firsts: &[First<'_>],
        out: &mut Vec<u8>,
    ) {
        out.push(b'[');
        for (position, found) in findings.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            let first = firsts.iter().find(|first| first.rule == found.rule);
            self.write_one(row, *found, first, out);
        }
        out.push(b']');
    }

    fn write_one(
        &self,
        row: &impl Row,
        found: PlanFinding,
        first: Option<&First<'_>>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(&self.heads[found.rule]);
        out.extend_from_slice(self.texts[found.rule][found.finding.reason].as_bytes());
        let field = self.plan.rules()[found.rule].field;
        if field.is_some_and(|field| self.plan.is_list(field)) {
            out.extend_from_slice(b",\"value\":");
            push_number(found.value as u64, out);
        }
        match (found.finding.span, field) {
            (Some((start, end)), Some(field)) => {
                out.extend_from_slice(b",\"span\":[");
                push_number(start as u64, out);
                out.push(b',');
                push_number(end as u64, out);
                out.extend_from_slice(b"],\"text\":");
                let mut index = 0;
                let _ = row.for_each(field, &mut |value| {
                    if index == found.value {
                        quote(value.bytes, start, end, out);
                    }
                    index += 1;
                    index <= found.value
                });
            }
            (None, Some(field)) if self.plan.is_number(field) => {
                out.extend_from_slice(b",\"span\":null,\"text\":");
                let text = match row.number(field) {
                    Ok(Number::Value(value)) => to_json(value.to_string()),
                    _ => "null".to_owned(),
                };
                out.extend_from_slice(text.as_bytes());
            }
            _ => out.extend_from_slice(b",\"span\":null,\"text\":null"),
        }
        if let Some(first) = first {
            out.extend_from_slice(b",\"first\":{\"file\":");
            out.extend_from_slice(to_json(first.file).as_bytes());
            out.extend_from_slice(b",\"line\":");
            push_number(first.line + 1, out);
            out.push(b'}');
        }
        out.push(b'}');
    }

    /// Appends the reasons why a row cannot be read as a JSON array.
    pub fn write_unreadable(&self, reasons: &[Unreadable], out: &mut Vec<u8>) {
        out.push(b'[');
        for (position, why) in reasons.iter().enumerate() {
            let field = match why {
                Unreadable::FieldTaken => to_json(self.plan.tag_field()),
                _ => why
                    .field()
                    .map_or_else(|| "null".to_owned(), |field| to_json(&self.plan.fields()[field])),
            };
            let comma = if position > 0 { "," } else { "" };
            let text = format!(
                "{comma}{{\"rule\":null,\"kind\":\"unreadable\",\"field\":{field},\"reason\":{},\
                 \"span\":null,\"text\":null,\"detail\":{}}}",
                to_json(why.reason()),
                to_json(why.to_string())
            );
            out.extend_from_slice(text.as_bytes());
        }
        out.push(b']');
    }
}

/// Appends a part of the value as a JSON string, cut at the end of a character. A byte-wise pattern
/// can match a part of a character; that becomes U+FFFD.
fn quote(value: &[u8], start: usize, end: usize, out: &mut Vec<u8>) {
    let mut cut = end.min(start + TEXT_BYTES);
    if cut < end {
        while value[cut] & 0xC0 == 0x80 {
            cut -= 1;
        }
    }
    let text = &value[start..cut];
    if text.iter().all(|byte| matches!(byte, b' '..=b'~' if !matches!(byte, b'"' | b'\\'))) {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        out.extend_from_slice(to_json(String::from_utf8_lossy(text)).as_bytes());
    }
}

/// Appends a number.
pub(crate) fn push_number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("a vector takes all bytes");
}

/// A text as JSON.
pub(crate) fn to_json(text: impl AsRef<str>) -> String {
    serde_json::to_string(text.as_ref()).expect("a string is always valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_quotes_are_cut_between_characters() {
        let value = format!("x{}", "é".repeat(1000));
        let mut out = Vec::new();
        quote(value.as_bytes(), 0, value.len(), &mut out);
        let text: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(text.len(), 1023);
        assert!(text.ends_with('é'));
    }
}
