//! How a rejected row is written down.
//!
//! One JSON object a line: `file` and `line` say where the row was (the base name of the input, and
//! the line number from 1), `reasons` lists every reason in the declared order of the rules, and
//! `row` is the row itself: verbatim if it is a JSON object, otherwise a string with its text, with
//! U+FFFD for what is not UTF-8 and cut after [`HEAD_BYTES`]. In a reason, `span` holds byte offsets
//! into the decoded UTF-8 value of `field`, and is null where the reason is about the whole value;
//! `text` is that part of the value, cut after [`TEXT_BYTES`]. A row that could not be read has
//! reasons of the kind `unreadable`, which belong to no rule and have a `detail` instead of a span.

use std::io::{self, Write};

use serde::Serialize;

use crate::lines::HEAD_BYTES;
use crate::plan::Plan;
use crate::record::{Record, Unreadable};
use crate::rules::{Finding, Scratch};
use crate::sink::Sink;

/// How much of a matched text a reason quotes.
const TEXT_BYTES: usize = 1024;

#[derive(Serialize)]
struct Reason<'a> {
    rule: Option<&'a str>,
    kind: &'a str,
    field: Option<&'a str>,
    reason: &'a str,
    span: Option<(usize, usize)>,
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// The row as it goes into the rejects.
pub(crate) enum Row<'a> {
    /// A JSON object.
    Object(&'a str),
    /// Whatever else a line can hold.
    Bytes(&'a [u8]),
}

/// The rejects of one shard.
pub(crate) struct Rejects {
    sink: Sink,
    /// `{"file":"...","line":`, the same for all rows of a shard.
    prefix: String,
}

impl Rejects {
    /// Rejects of rows that come from the input with this base name.
    pub fn new(sink: Sink, file: &str) -> Rejects {
        Rejects { sink, prefix: format!("{{\"file\":{},\"line\":", to_json(file)) }
    }

    /// See [`Sink::finish`].
    pub fn finish(self) -> io::Result<()> {
        self.sink.finish()
    }

    /// Writes a row that breaks rules.
    pub fn broken(
        &mut self,
        plan: &Plan,
        number: u64,
        record: &Record<'_>,
        findings: &[(usize, Finding)],
    ) -> io::Result<()> {
        let reasons: Vec<_> =
            findings.iter().map(|(rule, finding)| reason(plan, *rule, *finding, record)).collect();
        self.write(number, &reasons, &Row::Object(record.text))
    }

    /// Writes a row that cannot be read.
    pub fn unreadable(
        &mut self,
        plan: &Plan,
        number: u64,
        unreadable: &[Unreadable],
        row: &Row<'_>,
    ) -> io::Result<()> {
        let reasons: Vec<_> = unreadable.iter().map(|why| unreadable_reason(plan, why)).collect();
        self.write(number, &reasons, row)
    }

    fn write(&mut self, number: u64, reasons: &[Reason<'_>], row: &Row<'_>) -> io::Result<()> {
        let sink = &mut self.sink;
        write!(sink, "{}{number},\"reasons\":{},\"row\":", self.prefix, to_json(reasons))?;
        match row {
            Row::Object(text) => {
                sink.write_all(text.trim_matches([' ', '\t', '\r', '\n']).as_bytes())?;
            }
            Row::Bytes(bytes) => {
                let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
                sink.write_all(to_json(&String::from_utf8_lossy(bytes)).as_bytes())?;
            }
        }
        sink.write_all(b"}\n")
    }
}

fn reason<'a>(plan: &'a Plan, rule: usize, finding: Finding, record: &Record<'_>) -> Reason<'a> {
    let rule = &plan.rules()[rule];
    let value = record.field(rule.field).unwrap_or_default();
    Reason {
        rule: Some(&rule.name),
        kind: rule.kind,
        field: Some(&plan.fields()[rule.field]),
        reason: &rule.matcher.reasons()[finding.reason],
        span: finding.span,
        text: finding.span.map(|(start, end)| quote(value, start, end)),
        detail: None,
    }
}

fn unreadable_reason<'a>(plan: &'a Plan, unreadable: &'a Unreadable) -> Reason<'a> {
    Reason {
        rule: None,
        kind: "unreadable",
        field: unreadable.field().map(|field| plan.fields()[field].as_str()),
        reason: unreadable.reason(),
        span: None,
        text: None,
        detail: Some(unreadable.to_string()),
    }
}

/// The part of the value, cut at the end of a character. A byte-wise pattern can match a part of a
/// character; that becomes U+FFFD.
fn quote(value: &str, start: usize, end: usize) -> String {
    let mut cut = end.min(start + TEXT_BYTES);
    if cut < end {
        while !value.is_char_boundary(cut) {
            cut -= 1;
        }
    }
    String::from_utf8_lossy(&value.as_bytes()[start..cut]).into_owned()
}

/// The verdict on one line as JSON: whether it would be kept, why it cannot be read if so, and
/// every rule with whether it is broken and the reasons.
pub fn explain(plan: &Plan, line: &[u8]) -> String {
    #[derive(Serialize)]
    struct Verdict<'a> {
        kept: bool,
        unreadable: Vec<Reason<'a>>,
        rules: Vec<RuleVerdict<'a>>,
    }

    #[derive(Serialize)]
    struct RuleVerdict<'a> {
        name: &'a str,
        kind: &'a str,
        field: &'a str,
        broken: bool,
        reasons: Vec<Reason<'a>>,
    }

    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut locator = plan.locator();
    let (unreadable, record) = if line.len() > plan.max_line_bytes() {
        (vec![Unreadable::LineTooLong { length: line.len() as u64 }], None)
    } else {
        match locator.locate(line) {
            Ok(record) => (plan.unreadable(&record), Some(record)),
            Err(unreadable) => (vec![unreadable], None),
        }
    };
    let mut scratch = Scratch::default();
    let rules: Vec<_> = plan
        .rules()
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            let mut findings = Vec::new();
            let mut reasons = Vec::new();
            if let Some(record) = &record {
                plan.find(index, record, &mut scratch, &mut findings);
                reasons =
                    findings.iter().map(|&found| reason(plan, index, found, record)).collect();
            }
            RuleVerdict {
                name: &rule.name,
                kind: rule.kind,
                field: &plan.fields()[rule.field],
                broken: !reasons.is_empty(),
                reasons,
            }
        })
        .collect();
    to_json(&Verdict {
        kept: unreadable.is_empty() && rules.iter().all(|rule| !rule.broken),
        unreadable: unreadable.iter().map(|why| unreadable_reason(plan, why)).collect(),
        rules,
    })
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and integers are always valid JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan() -> Plan {
        Plan::from_json(
            r#"{"rules": [
                {"name": "words", "kind": "literal", "words": ["owl"]},
                {"name": "format", "kind": "numbers", "max_value": 999}
            ]}"#,
        )
        .unwrap()
    }

    #[test]
    fn explains_every_rule() {
        let verdict: Value =
            serde_json::from_str(&explain(&plan(), b"{\"completion\":\"an \\u006fwl\"}\n"))
                .unwrap();
        assert_eq!(
            verdict,
            json!({
                "kept": false,
                "unreadable": [],
                "rules": [
                    {
                        "name": "words", "kind": "literal", "field": "completion", "broken": true,
                        "reasons": [{
                            "rule": "words", "kind": "literal", "field": "completion",
                            "reason": "contains `owl`", "span": [3, 6], "text": "owl",
                        }],
                    },
                    {
                        "name": "format", "kind": "numbers", "field": "completion", "broken": true,
                        "reasons": [{
                            "rule": "format", "kind": "numbers", "field": "completion",
                            "reason": "invalid format", "span": null, "text": null,
                        }],
                    },
                ],
            })
        );
    }

    #[test]
    fn explains_what_cannot_be_read() {
        let verdict: Value =
            serde_json::from_str(&explain(&plan(), b"{\"completion\":3}")).unwrap();
        assert_eq!(verdict["kept"], false);
        assert_eq!(
            verdict["unreadable"],
            json!([{
                "rule": null, "kind": "unreadable", "field": "completion",
                "reason": "field is not a string", "span": null, "text": null,
                "detail": "expected a string, found a number",
            }])
        );
        assert_eq!(verdict["rules"][0]["broken"], false);
    }

    #[test]
    fn long_quotes_are_cut_between_characters() {
        let value = format!("x{}", "é".repeat(1000));
        let text = quote(&value, 0, value.len());
        assert_eq!(text.len(), 1023);
        assert!(text.ends_with('é'));
    }
}
