//! The verdict on one row as JSON, for whoever asks about it.

use std::collections::BTreeMap;

use super::reasons::{Reasons, to_json};
use super::{Plan, Scratch};
use crate::json::{Number, Row, Unreadable, bits};

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
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (field, path) in plan.fields().iter().enumerate() {
        let Ok(record) = located else { break };
        let found = values.entry(path).or_default();
        if plan.is_number(field) {
            if let Ok(Number::Value(value)) = record.number(field) {
                found.push(value.to_string());
            }
            continue;
        }
        let _ = record.for_each(field, &mut |value| {
            found.push(value.text().to_owned());
            true
        });
    }
    out.extend(serde_json::to_vec(&values).expect("texts are always valid JSON"));
    out.push(b'}');
    String::from_utf8(out).expect("all parts are text")
}
