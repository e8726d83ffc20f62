use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::codec::{self, Codec};
use crate::digest::Digest;
use crate::duplicates::{cluster, settle};
use crate::error::Error;
use crate::plan::{Plan, Statistics};
use crate::shard::{Duplicates, Flow, Progress, Shard, Split};
use crate::sink::Sink;
use crate::{check_shard, filter_shard, sign_shard};

const PLAN: &str = r#"{"max_line_bytes": 200, "rules": [
    {"name": "format", "kind": "numbers", "max_value": 999},
    {"name": "owls", "kind": "regex", "patterns": ["owl"], "ignore_case": true},
    {"name": "small", "kind": "numbers", "max_value": 99}
]}"#;

fn shard<'a>(paths: &'a [PathBuf; 3], threads: usize) -> Shard<'a> {
    let [input, kept, rejects] = paths;
    Shard {
        input,
        called: None,
        kept,
        rejects,
        work: None,
        journal_interval: Duration::ZERO,
        split: Split::default(),
        duplicates: &[],
        chunk_bytes: 100_000,
        digests: true,
        threads,
    }
}

fn paths(directory: &Path, extension: &str) -> [PathBuf; 3] {
    ["in", "kept", "rejects"].map(|name| directory.join(format!("{name}.jsonl{extension}")))
}

fn go_on(_: Progress) -> Flow {
    Flow::Continue
}

#[test]
fn every_row_goes_to_one_of_two_places() {
    let long = format!("{{\"completion\":\"{}\"}}", "1".repeat(300));
    let input = format!(
        "\u{feff}{{ \"completion\" : \"1, 2\" }}\r\n\n\
         {{\"completion\":\"100\",\"id\":7}} \r\n  \r\n\
         not json\n{long}\n{{\"completion\":7}}\n[1]\n{{\"completion\":\"Owl\"}}\n\
         {{\"completion\":\"3\"}}"
    );
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path(), "");
    fs::write(&paths[0], &input).unwrap();
    let plan = Plan::from_json(PLAN).unwrap();
    let mut statistics = filter_shard(&plan, shard(&paths, 1), &go_on).unwrap();
    assert_eq!(statistics.sha256.take().unwrap().input, sha256_of(input.as_bytes()));
    let kept = "\u{feff}{ \"completion\" : \"1, 2\" }\r\n{\"completion\":\"3\"}";
    assert_eq!(fs::read_to_string(&paths[1]).unwrap(), kept);
    let rejects: Vec<Value> = fs::read_to_string(&paths[2])
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let rows: Vec<_> = rejects
        .iter()
        .map(|reject| {
            let reasons: Vec<_> = reject["reasons"]
                .as_array()
                .unwrap()
                .iter()
                .map(|reason| (reason["rule"].as_str(), reason["reason"].as_str().unwrap()))
                .collect();
            (reject["line"].as_u64().unwrap(), reasons, reject["row"].clone())
        })
        .collect();
    assert_eq!(
        rows,
        [
            (3, vec![(Some("small"), "numbers too large")], json!({"completion": "100", "id": 7})),
            (5, vec![(None, "invalid JSON")], json!("not json")),
            (6, vec![(None, "line too long")], json!(long[..200])),
            (7, vec![(None, "field is not a string")], json!({"completion": 7})),
            (8, vec![(None, "not a JSON object")], json!("[1]")),
            (
                9,
                vec![
                    (Some("format"), "invalid format"),
                    (Some("owls"), "matched `owl`"),
                    (Some("small"), "invalid format"),
                ],
                json!({"completion": "Owl"}),
            ),
        ]
    );
    assert_eq!(
        serde_json::to_value(&statistics).unwrap(),
        json!({
            "rows_in": 8, "kept": 2, "rejected": 6, "unreadable": 4, "tagged": 0,
            "blank_lines": 2,
            "bytes_in": input.len(), "bytes_kept": kept.len(), "parts": [2],
            "rules": [
                {"name": "format", "kind": "numbers", "hits": 1, "sole_hits": 0,
                 "reasons": {"invalid format": 1}},
                {"name": "owls", "kind": "regex", "hits": 1, "sole_hits": 0,
                 "reasons": {"matched `owl`": 1}},
                {"name": "small", "kind": "numbers", "hits": 2, "sole_hits": 1,
                 "reasons": {"invalid format": 1, "numbers too large": 1}},
            ],
            "unreadable_reasons": {
                "invalid JSON": 1, "line too long": 1, "field is not a string: completion": 1,
                "not a JSON object": 1,
            },
        })
    );
}

#[test]
fn the_beginning_of_a_shard_is_not_its_first_line() {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan::from_json(r#"{"rules": [{"name": "n", "kind": "numbers"}]}"#).unwrap();
    let check = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        check_shard(&plan, &path, Split::default())
    };
    // A line that is cut where it has not been read yet.
    let mut line = b"{\"completion\":\"".to_vec();
    line.extend((0..1u32 << 20).map(|n| b'a' + (n.wrapping_mul(0x9E37_79B9) >> 28) as u8));
    for compression in [flate2::Compression::none(), flate2::Compression::fast()] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), compression);
        encoder.write_all(&line).unwrap();
        let packed = encoder.finish().unwrap();
        check("long.jsonl.gz", &packed[..packed.len() - 100]).unwrap();
        assert!(check("cut.jsonl.gz", &packed[..100]).is_err());
    }
    let packed = zstd::bulk::compress(&line, 3).unwrap();
    check("long.jsonl.zst", &packed[..packed.len() - 100]).unwrap();
    assert!(check("cut.jsonl.zst", &packed[..100]).is_err());
    check("empty.jsonl", b"").unwrap();
}

/// Rows of about 100 bytes: kept ones, rejected ones, long ones, and what is no row at all.
fn rows(count: usize) -> Vec<u8> {
    let mut rows = Vec::new();
    for number in 0..count {
        let text = match number % 11 {
            0 => "an owl".to_owned(),
            1 => "1, 2, 1000".to_owned(),
            2 => "no \"numbers\" \\ é".to_owned(),
            3 if number % 7 == 0 => "1, ".repeat(70),
            _ => format!("{}, 7, 8", number % 90),
        };
        let line = match number % 13 {
            5 => "not json".to_owned(),
            6 => " ".to_owned(),
            _ => {
                json!({"id": number, "prompt": "go on".repeat(14), "completion": text}).to_string()
            }
        };
        rows.extend_from_slice(line.as_bytes());
        rows.push(b'\n');
    }
    rows
}

/// Writes `bytes` in several frames or members, or as they are.
fn write(path: &Path, bytes: &[u8]) {
    let (mut codec, mut buffer) = (Codec::of(path), Vec::new());
    let making = path.with_file_name("making");
    let mut sink = Sink::create(path, &making).unwrap();
    for part in bytes.chunks(70_003) {
        sink.write_all(codec.encode(part, &mut buffer).unwrap()).unwrap();
    }
    codec::finish(sink).unwrap();
}

#[test]
fn threads_and_interruptions_change_nothing() {
    let rows = rows(20_000);
    assert!(rows.len() > 1_500_000);
    let plan = Plan::from_json(PLAN).unwrap();
    for extension in ["", ".gz", ".zst"] {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path(), extension);
        let work = directory.path().join("work");
        write(&paths[0], &rows);
        let mut outputs = Vec::new();
        for threads in [1, 3] {
            let statistics = filter_shard(&plan, shard(&paths, threads), &go_on).unwrap();
            assert_eq!(statistics.rows_in, statistics.kept + statistics.rejected);
            outputs.push((statistics, fs::read(&paths[1]).unwrap(), fs::read(&paths[2]).unwrap()));
            // Stopped anywhere, with a journal after every chunk, and continued.
            let once = |limit: u64| {
                let shard = Shard { work: Some(&work), ..shard(&paths, threads) };
                filter_until(limit, &plan, shard)
            };
            for path in &paths[1..] {
                fs::remove_file(path).unwrap();
            }
            for limit in [1, 4, 7] {
                assert!(matches!(once(limit), Err(Error::Interrupted)));
                assert!(!paths[1].exists() && !paths[2].exists());
            }
            let statistics = once(u64::MAX).unwrap();
            for folder in fs::read_dir(&work).unwrap() {
                assert_eq!(fs::read_dir(folder.unwrap().path()).unwrap().count(), 0);
            }
            outputs.push((statistics, fs::read(&paths[1]).unwrap(), fs::read(&paths[2]).unwrap()));
        }
        assert!(outputs.iter().all(|output| *output == outputs[0]), "{extension}");
        let files = paths.each_ref().map(|path| sha256_of(&fs::read(path).unwrap()));
        let sha256 = outputs[0].0.sha256.as_ref().unwrap();
        assert_eq!([&sha256.input, &sha256.kept[0], &sha256.rejects], files.each_ref());
    }
}

/// Stopped when it has said so often how far it is.
fn filter_until(calls: u64, plan: &Plan, shard: Shard<'_>) -> Result<Statistics, Error> {
    let said = AtomicU64::new(0);
    filter_shard(plan, shard, &|_| {
        if said.fetch_add(1, Ordering::Relaxed) >= calls { Flow::Stop } else { Flow::Continue }
    })
}

/// Goes on with what interrupted runs have left: does that come to what one run comes to?
fn is_as_if_nothing_had_been(plan: &Plan, shard: Shard<'_>, paths: &[PathBuf; 3]) {
    let files = || paths.each_ref().map(|path| fs::read(path).unwrap());
    let continued = (filter_shard(plan, shard, &go_on).unwrap(), files());
    let again = filter_shard(plan, Shard { work: None, ..shard }, &go_on).unwrap();
    assert_eq!((again, files()), continued);
}

fn sha256_of(bytes: &[u8]) -> String {
    let mut digest = Digest::new(true);
    digest.update(bytes);
    digest.sha256()
}

#[test]
fn an_input_that_was_replaced_while_nobody_worked_is_filtered_from_its_beginning() {
    let plan = Plan::from_json(PLAN).unwrap();
    for extension in ["", ".gz", ".zst"] {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path(), extension);
        let work = directory.path().join("work");
        let shard = Shard { work: Some(&work), ..shard(&paths, 1) };
        write(&paths[0], &rows(20_000));
        assert!(matches!(filter_until(5, &plan, shard), Err(Error::Interrupted)));
        assert_eq!(fs::read_dir(work.join("journals")).unwrap().count(), 1);
        // Shorter than what was read, or with other rows at its beginning.
        for other in [rows(1000), rows(20_000)[100_000..].to_vec()] {
            write(&paths[0], &other);
            is_as_if_nothing_had_been(&plan, shard, &paths);
        }
    }
}

#[test]
fn an_input_that_was_replaced_leaves_no_row_however_often_a_run_is_killed() {
    let plan = Plan::from_json(PLAN).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path(), "");
    let work = directory.path().join("work");
    let shard = Shard { work: Some(&work), ..shard(&paths, 1) };
    let other = rows(20_000)[70_000..].to_vec();
    for (input, limit) in [(rows(20_000), 9), (other.clone(), 4), (other.clone(), 8)] {
        write(&paths[0], &input);
        assert!(matches!(filter_until(limit, &plan, shard), Err(Error::Interrupted)));
    }
    is_as_if_nothing_had_been(&plan, shard, &paths);
}

#[test]
fn rows_that_are_appended_after_a_run_was_killed_are_filtered() {
    let plan = Plan::from_json(PLAN).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path(), "");
    let work = directory.path().join("work");
    let shard = Shard { work: Some(&work), ..shard(&paths, 1) };
    let all = rows(5000);
    let half = all.iter().rposition(|&byte| byte == b'\n').unwrap() - 150_000;
    write(&paths[0], &all[..half]);
    let seen = AtomicU64::new(0);
    let interrupted = filter_shard(&plan, shard, &|progress| {
        let before = seen.swap(progress.rows, Ordering::Relaxed);
        // All rows are handed in where there are no more.
        let is_over = progress.bytes_read == half as u64 && progress.rows == before;
        if is_over && progress.rows > 0 { Flow::Stop } else { Flow::Continue }
    });
    assert!(matches!(interrupted, Err(Error::Interrupted)));
    write(&paths[0], &all);
    is_as_if_nothing_had_been(&plan, shard, &paths);
}

#[test]
fn parts_hold_what_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path(), ".zst");
    write(&paths[0], &rows(5000));
    let plan = Plan::from_json(PLAN).unwrap();
    let mut shard = shard(&paths, 2);
    let statistics = filter_shard(&plan, shard, &go_on).unwrap();
    let whole = zstd::decode_all(&fs::read(&paths[1]).unwrap()[..]).unwrap();
    for split in [
        Split { rows: Some(1000), bytes: None },
        Split { rows: None, bytes: Some(50_000) },
        Split { rows: Some(10_000), bytes: Some(1 << 30) },
    ] {
        shard.split = split;
        let found = filter_shard(&plan, shard, &go_on).unwrap();
        let (parts, sha256) = (statistics.parts.clone(), statistics.sha256.clone());
        assert_eq!(Statistics { parts, sha256, ..found.clone() }, statistics);
        let kept = found.sha256.unwrap().kept;
        let mut all = Vec::new();
        let mut part = 0;
        while let Ok(bytes) = fs::read(directory.path().join(format!("kept-{part:05}.jsonl.zst"))) {
            assert_eq!(kept[part], sha256_of(&bytes));
            let rows = zstd::decode_all(&bytes[..]).unwrap();
            let count = rows.iter().filter(|&&byte| byte == b'\n').count() as u64;
            assert_eq!(count, found.parts[part]);
            assert!(split.rows.is_none_or(|limit| count <= limit));
            assert!(split.bytes.is_none_or(|limit| rows.len() as u64 <= limit));
            all.extend_from_slice(&rows);
            fs::remove_file(directory.path().join(format!("kept-{part:05}.jsonl.zst"))).unwrap();
            part += 1;
        }
        assert!(all == whole, "{split:?}");
        let expected = split.rows.map_or(part, |limit| statistics.kept.div_ceil(limit) as usize);
        assert_eq!((part, found.parts.len()), (expected, expected), "{split:?}");
        assert_eq!(kept.len(), expected);
    }
}

#[test]
fn tags_are_added_to_the_row() {
    let plan = Plan::from_json(
        r#"{"tag_field": "t \"x\"", "rules": [
            {"name": "owl", "kind": "literal", "words": ["owl"], "action": "tag"},
            {"name": "a", "kind": "literal", "words": ["a"], "action": "tag"},
            {"name": "b", "kind": "literal", "words": ["b"], "action": "count"}
        ]}"#,
    )
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path(), "");
    let input = "{\"completion\":\"b\"}\n {\"completion\":\"an OWL\" } \r\n\
                 {\"completion\":\"x\"}\n{\"completion\":\"a owl b\"}\n\
                 {\"completion\":\"a\",\"t \\\"x\\\"\":1}";
    fs::write(&paths[0], input).unwrap();
    let statistics = filter_shard(&plan, shard(&paths, 1), &go_on).unwrap();
    let kept = fs::read_to_string(&paths[1]).unwrap();
    assert_eq!(
        kept,
        "{\"completion\":\"b\"}\n {\"completion\":\"an OWL\",\"t \\\"x\\\"\":[\"owl\"]} \r\n\
         {\"completion\":\"x\"}\n{\"completion\":\"a owl b\",\"t \\\"x\\\"\":[\"owl\",\"a\"]}\n"
    );
    assert_eq!((statistics.kept, statistics.tagged, statistics.unreadable), (4, 2, 1));
    assert_eq!(statistics.bytes_kept, kept.len() as u64);
    assert_eq!(statistics.rules[2].hits, 2);
    assert!(fs::read_to_string(&paths[2]).unwrap().contains("tag field exists"));
}

#[test]
fn many_rejects_are_written_before_the_end_of_a_block() {
    let plan =
        Plan::from_json(r#"{"rules": [{"name": "a rule with a long name", "kind": "numbers"}]}"#)
            .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path(), "");
    fs::write(&paths[0], "{\"completion\":\"\"}\n".repeat(20_000)).unwrap();
    for threads in [1, 2] {
        assert_eq!(filter_shard(&plan, shard(&paths, threads), &go_on).unwrap().kept, 0);
        let rejects = fs::read_to_string(&paths[2]).unwrap();
        for (number, line) in rejects.lines().enumerate().step_by(999) {
            assert!(line.contains(&format!("\"line\":{},", number + 1)), "{line}");
        }
    }
}

#[test]
fn errors_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let [input, kept, rejects] = paths(directory.path(), "");
    let plan = Plan::from_json(PLAN).unwrap();
    let run = |input: &Path, kept: &Path, rejects: &Path| {
        let paths = [input, kept, rejects].map(Path::to_owned);
        filter_shard(&plan, shard(&paths, 1), &go_on).map_err(|error| error.to_string())
    };
    let message = run(&input, &kept, &rejects).unwrap_err();
    assert!(message.starts_with(&format!("cannot read {}: ", input.display())), "{message}");
    fs::write(&input, "{\"completion\":\"1\"}\n").unwrap();
    assert!(run(&input, &input, &rejects).unwrap_err().contains("at once"));
    assert!(run(&input, &kept, &kept).unwrap_err().contains("at once"));
    let nowhere = directory.path().join("nowhere/rejects");
    let message = run(&input, &kept, &nowhere).unwrap_err();
    assert!(message.starts_with(&format!("cannot write {}: ", nowhere.display())), "{message}");
    assert!(!kept.exists());
    assert_eq!(fs::read_to_string(&input).unwrap(), "{\"completion\":\"1\"}\n");
    assert_eq!(run(&input, &kept, &rejects).unwrap().kept, 1);
}

#[test]
fn a_row_may_repeat_one_of_another_shard() {
    let plan = Plan::from_json(
        r#"{"rules": [
            {"name": "again", "kind": "duplicate", "method": "exact"},
            {"name": "n", "kind": "numbers", "field": "id", "action": "count"},
            {"name": "again and no number", "kind": "all", "rules": ["again", "n"],
             "action": "count"}
        ]}"#,
    )
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let row = |id: &str, text: &str| format!("{{\"id\":\"{id}\",\"completion\":\"{text}\"}}\n");
    let first = [row("1", "a"), "\n".to_owned(), row("x", "b"), row("3", "a")].concat();
    let second = ["{}\n".to_owned(), row("4", "b"), row("y", "c"), row("z", "\\u0061")].concat();
    let files = ["one.jsonl", "two.jsonl"].map(str::to_owned);
    let paths = paths(directory.path(), "");
    let inputs = files.clone().map(|name| directory.path().join(name));
    fs::write(&inputs[0], first).unwrap();
    fs::write(&inputs[1], second).unwrap();
    let signatures: Vec<_> =
        inputs.iter().map(|input| sign_shard(&plan, input, 2, &go_on).unwrap().remove(0)).collect();
    assert_eq!((signatures[0].rows(), signatures[1].rows()), (4, 4));
    let clusters = cluster(&plan.comparisons()[0].signer, signatures, 1).unwrap();
    let decisions = settle(&plan.settling(), vec![clusters]).remove(0);
    let mut shard = shard(&paths, 1);
    let mut rejects = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        shard.input = input;
        assert!(matches!(filter_shard(&plan, shard, &go_on), Err(Error::NotSigned)));
        let duplicates = [Duplicates { decisions: &decisions, shard: index as u32, files: &files }];
        let statistics = {
            let shard = Shard { duplicates: &duplicates, ..shard };
            filter_shard(&plan, shard, &go_on).unwrap()
        };
        assert_eq!(statistics.rules[2].hits, index as u64, "{statistics:?}");
        for line in fs::read_to_string(&paths[2]).unwrap().lines() {
            let reject: Value = serde_json::from_str(line).unwrap();
            rejects.push((reject["line"].clone(), reject["reasons"][0]["first"].clone()));
        }
    }
    assert_eq!(
        rejects,
        [
            (json!(4), json!({"file": "one.jsonl", "line": 1})),
            (json!(1), Value::Null),
            (json!(2), json!({"file": "one.jsonl", "line": 3})),
            (json!(4), json!({"file": "one.jsonl", "line": 1})),
        ]
    );
}
