//! Looks at some lines of a shard, for those who explain, sample or count.

use std::path::Path;

use super::block::{content, is_blank};
use super::source::{CHUNK_BYTES, Decompressor, Source};
use crate::error::Error;
use crate::json::{Index, Unreadable};
use crate::plan::{Plan, explain_row};

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

/// The line with this number, from 0, with its terminator. `None` if the file has fewer lines.
pub fn read_line(path: &Path, number: u64) -> Result<Option<Vec<u8>>, Error> {
    let mut source = Source::open(path, CHUNK_BYTES).map_err(Error::read(path))?;
    let mut decompressor = Decompressor::default();
    let (mut buffer, mut spare, mut line) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = number;
    while let Some(chunk) = source.next_chunk(&mut buffer).map_err(Error::read(path))? {
        decompressor.decompress(&chunk, &mut buffer, &mut spare).map_err(Error::read(path))?;
        let mut rest = buffer.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (found, after) = rest.split_at(at + 1);
            if before == 0 {
                line.extend_from_slice(found);
                return Ok(Some(line));
            }
            before -= 1;
            rest = after;
        }
        if before == 0 {
            line.extend_from_slice(rest);
        }
    }
    Ok((!line.is_empty()).then_some(line))
}

/// How many lines are not blank.
pub fn count(path: &Path) -> Result<u64, Error> {
    let mut source = Source::open(path, CHUNK_BYTES).map_err(Error::read(path))?;
    let mut decompressor = Decompressor::default();
    let (mut buffer, mut spare) = (Vec::new(), Vec::new());
    let mut rows = 0;
    // Has the line that has no end yet something else than whitespace in it?
    let mut begun = false;
    while let Some(chunk) = source.next_chunk(&mut buffer).map_err(Error::read(path))? {
        decompressor.decompress(&chunk, &mut buffer, &mut spare).map_err(Error::read(path))?;
        let mut rest = buffer.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            rows += u64::from(begun || !is_blank(&rest[..at]));
            begun = false;
            rest = &rest[at + 1..];
        }
        begun |= !is_blank(rest);
    }
    Ok(rows + u64::from(begun))
}

/// So much of a shard is its beginning, decompressed.
const CHECKED_BYTES: usize = 1 << 16;

/// Can the beginning of a shard be read? Not its first line, which may be as long as the file.
pub fn check(path: &Path) -> Result<(), Error> {
    let beginning = || {
        let mut source = Source::open(path, CHECKED_BYTES)?;
        let (mut first, mut spare) = (Vec::new(), Vec::new());
        match source.next_chunk(&mut first)? {
            Some(chunk) => Decompressor::default().decompress(&chunk, &mut first, &mut spare),
            None => Ok(()),
        }
    };
    beginning().map_err(Error::read(path))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::count_rows;

    #[test]
    fn lines_that_are_not_blank_are_rows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = format!(" \r\n{{}}\n{}{{}}", " ".repeat(2 * CHUNK_BYTES));
        for (text, rows) in
            [("", 0), ("\n \t\r\n", 0), ("{}", 1), ("{}\r\n\n{}\n", 2), (long.as_str(), 2)]
        {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(count_rows(file.path()).unwrap(), rows);
        }
        assert!(count_rows(Path::new("nothing.jsonl")).is_err());
        assert!(count_rows(Path::new("nothing.parquet")).is_err());
    }

    #[test]
    fn one_line_is_found_by_its_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\r\n\nlast").unwrap();
        let line = |number| read_line(file.path(), number).unwrap();
        assert_eq!([line(0), line(1)], [Some(b"a\r\n".to_vec()), Some(b"\n".to_vec())]);
        assert_eq!([line(2), line(3)], [Some(b"last".to_vec()), None]);
        let long = "x".repeat(CHUNK_BYTES + 7) + "\nnext\n";
        std::fs::write(file.path(), &long).unwrap();
        assert_eq!(read_line(file.path(), 0).unwrap().unwrap().len(), CHUNK_BYTES + 8);
        assert_eq!(read_line(file.path(), 1).unwrap().unwrap(), b"next\n");
        assert_eq!(read_line(file.path(), 2).unwrap(), None);
    }

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
