//! How a rejected row is written down.
//!
//! One JSON object a line: `file` and `line` say where the row was (the path of the input, as it was
//! given, and the line number from 1), `reasons` lists every reason in the declared order of the rules, and
//! `row` is the row itself: verbatim if it is a JSON object, otherwise a string with its text, with
//! U+FFFD for what is not UTF-8 and cut after [`HEAD_BYTES`]. In a reason, `span` holds byte offsets
//! into the decoded UTF-8 value of `field`, and is null where the reason is about the whole value;
//! `text` is that part of the value, cut after [`TEXT_BYTES`]; `value` says which value it is, from
//! 0, where a field can have several; `first` says which row a duplicate repeats. A row that could
//! not be read has reasons of the kind `unreadable`, which belong to no rule and have a `detail`
//! instead of a span.

use std::collections::BTreeMap;
use std::io::Write;

use crate::json::Index;
use crate::json::{Row, Unreadable, bits};
use crate::pipeline::{HEAD_BYTES, content};
use crate::plan::{Plan, PlanFinding, Scratch};

/// How much of a matched text a reason quotes.
const TEXT_BYTES: usize = 1024;

/// The row as it goes into the rejects.
pub(crate) enum Original<'a> {
    /// A JSON object.
    Object(&'a [u8]),
    /// Whatever else a line can hold.
    Bytes(&'a [u8]),
}

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

fn push_number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("a vector takes all bytes");
}

fn to_json(text: impl AsRef<str>) -> String {
    serde_json::to_string(text.as_ref()).expect("a string is always valid JSON")
}

/// The verdict on one line as JSON: whether it would be kept, why it cannot be read if so, and
/// every rule with whether it is broken and the reasons. Rules that compare rows, and rules about
/// those, are not asked: `broken` is null. `values` are the texts of each field. A byte-order mark
/// belongs to the first line of a file.
pub fn explain(plan: &Plan, line: &[u8], is_first_of_file: bool) -> String {
    let mut index = Index::default();
    index.build(line);
    let (start, end) = content(line, is_first_of_file);
    let mut locator = plan.locator();
    let located = if end - start > plan.max_line_bytes() {
        Err(Unreadable::LineTooLong { length: line.len() as u64 })
    } else {
        locator.locate(line, &index, start, end)
    };
    explain_row(plan, &located)
}

/// The verdict on one row, wherever it comes from.
pub(crate) fn explain_row(plan: &Plan, located: &Result<impl Row, Unreadable>) -> String {
    let reasons = Reasons::new(plan);
    let (mut scratch, mut findings) = (Scratch::default(), Vec::new());
    let mut unreadable = Vec::new();
    let mut broken = 0;
    match located {
        Ok(record) => match plan.broken(record, 0, &mut scratch) {
            Ok(mask) => {
                broken = mask;
                plan.find(record, broken, &mut scratch, &mut findings);
            }
            Err(_) => unreadable = plan.unreadable(record),
        },
        Err(error) => unreadable.push(error.clone()),
    }
    let kept = unreadable.is_empty() && broken & plan.drops() == 0;
    let mut out = format!("{{\"kept\":{kept},\"tags\":[").into_bytes();
    let tags = if kept { broken & plan.tags() } else { 0 };
    for (position, rule) in bits(tags).enumerate() {
        out.extend_from_slice(if position > 0 { b"," } else { b"" });
        out.extend_from_slice(to_json(&plan.rules()[rule].name).as_bytes());
    }
    out.extend_from_slice(b"],\"unreadable\":");
    reasons.write_unreadable(&unreadable, &mut out);
    out.extend_from_slice(b",\"rules\":[");
    for (number, rule) in plan.rules().iter().enumerate() {
        let field = rule.field.map_or("null".to_owned(), |field| to_json(&plan.fields()[field]));
        let head = format!(
            "{}{{\"name\":{},\"kind\":{},\"action\":{},\"field\":{field},\"broken\":{},\"reasons\":",
            if number > 0 { "," } else { "" },
            to_json(&rule.name),
            to_json(rule.kind),
            to_json(rule.action.name()),
            match (plan.is_about_other_rows() >> number & 1, broken >> number & 1) {
                (1, _) => "null",
                (_, 1) => "true",
                _ => "false",
            }
        );
        out.extend_from_slice(head.as_bytes());
        match located {
            Ok(record) => {
                let own: Vec<_> =
                    findings.iter().filter(|found| found.rule == number).copied().collect();
                reasons.write(record, &own, &[], &mut out);
            }
            Err(_) => out.extend_from_slice(b"[]"),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"values\":");
    let values: BTreeMap<&str, Vec<String>> = match located {
        Ok(record) => plan
            .fields()
            .iter()
            .enumerate()
            .map(|(field, path)| {
                let mut texts = Vec::new();
                let _ = record.for_each(field, &mut |value| {
                    texts.push(value.text().to_owned());
                    true
                });
                (path.as_str(), texts)
            })
            .collect(),
        Err(_) => BTreeMap::new(),
    };
    out.extend(serde_json::to_vec(&values).expect("texts are always valid JSON"));
    out.push(b'}');
    String::from_utf8(out).expect("all parts are text")
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
            serde_json::from_str(&explain(&plan(), b"{\"completion\":\"an \\u006fwl\"}\n", true))
                .unwrap();
        assert_eq!(
            verdict,
            json!({
                "kept": false,
                "tags": [],
                "unreadable": [],
                "values": {"completion": ["an owl"]},
                "rules": [
                    {
                        "name": "words", "kind": "literal", "action": "drop", "field": "completion",
                        "broken": true,
                        "reasons": [{
                            "rule": "words", "kind": "literal", "field": "completion",
                            "reason": "contains `owl`", "span": [3, 6], "text": "owl",
                        }],
                    },
                    {
                        "name": "format", "kind": "numbers", "action": "drop", "field": "completion",
                        "broken": true,
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
            serde_json::from_str(&explain(&plan(), b"{\"completion\":3}", true)).unwrap();
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
        let mut out = Vec::new();
        quote(value.as_bytes(), 0, value.len(), &mut out);
        let text: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(text.len(), 1023);
        assert!(text.ends_with('é'));
    }

    #[test]
    fn explains_tags_and_lists() {
        let plan = Plan::from_json(
            r#"{"rules": [
                {"name": "owl", "kind": "regex", "patterns": ["owl"], "action": "tag",
                 "field": "m[].c"},
                {"name": "no \"owl\"", "kind": "none", "rules": ["owl"]}
            ]}"#,
        )
        .unwrap();
        let verdict: Value =
            serde_json::from_str(&explain(&plan, br#"{"m":[{"c":"x"},{"c":"an \"owl\""}]}"#, true))
                .unwrap();
        assert_eq!((&verdict["kept"], &verdict["tags"]), (&json!(true), &json!(["owl"])));
        assert_eq!(
            verdict["rules"][0]["reasons"],
            json!([{
                "rule": "owl", "kind": "regex", "field": "m[].c", "reason": "matched `owl`",
                "value": 1, "span": [4, 7], "text": "owl",
            }])
        );
        let verdict: Value =
            serde_json::from_str(&explain(&plan, br#"{"m":[{"c":"x"}]}"#, true)).unwrap();
        assert_eq!(verdict["kept"], false);
        assert_eq!(
            verdict["rules"][1]["reasons"],
            json!([{
                "rule": "no \"owl\"", "kind": "none", "field": null, "reason": "none of `owl`",
                "span": null, "text": null,
            }])
        );
    }
}
