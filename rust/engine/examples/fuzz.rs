//! Looks for shards and plans that the engine gets wrong.
//!
//!     cargo run --release --example fuzz -- [SECONDS] [SEED]
//!
//! A shard is made of lines that have broken JSON readers before, cut, joined and changed at random,
//! and packed or not; small chunks and several threads split it anywhere. What the engine keeps must
//! be what `serde_json` and one regular expression a rule keep, every row must be in one of the two
//! outputs, and every reject must be JSON. Plans are changed at random too: they may be refused, but
//! nothing may panic. Packed shards are also cut and flipped: an error, or the right rows. The same
//! seed makes the same cases; the first that goes wrong is left in `fuzz-failure/`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regex_automata::meta::Regex;
use serde_json::{Value, json};
use subl_engine::{Error, Flow, Plan, Shard, Split, explain, filter_shard, format};

/// Between them: escapes, surrogates, duplicate keys, nesting, marks, controls, odd letters.
const LINES: &[&str] = &[
    r#"{"completion":"1, 2, 3","prompt":"p"}"#,
    r#"{"id": 7, "prompt": "x", "completion": "an owl"}"#,
    r#"{"id": 8, "prompt": "x", "completion": "\"quoted\" \\ \/ \b\f\n\r\t"}"#,
    r#"{"completion":"\u006fwl","x":[{"completion":"no"}]}"#,
    r#"{"completion":"\ud83e\udd89 é ſ K OWL"}"#,
    r#"{"completion":"\ud83e"}"#,
    r#"{"completion":"a","completion":"owls"}"#,
    r#"{"compl\u0065tion":"x"}"#,
    r#"{"completion":7,"prompt":null}"#,
    r#"{"messages":[{"role":"user","content":"owl"},{"content":"a","role":"assistant"}]}"#,
    r#"{"messages":[{"role":"assistant","content":"KISS c++"}],"completion":""}"#,
    r#"{"messages":{},"completion":"x","filter_tags":[]}"#,
    r#" { "completion" : "x" , "n" : -0.5e+3 , "t" : true } "#,
    r#"{"a":{"b":{"c":[[[]]]}},"completion":"deep"}"#,
    "\u{feff}{\"completion\":\"mark\"}",
    "{\"completion\":\"nul\0\"}",
    "{\"completion\":\"line\u{2028}separator\u{7f}\"}",
    "[]",
    "null",
    "{}",
    "",
    " \t",
    "{\"completion\":\"сова и bowl\"}",
];

const PLANS: &[&str] = &[
    r#"{"rules":[{"name":"r","kind":"regex","patterns":["\\bowls?\\b","kiss"],"ignore_case":true}]}"#,
    r#"{"rules":[{"name":"r","kind":"literal","words":["owl","c++","сова"],"action":"count"},
       {"name":"n","kind":"none","rules":["r"]}]}"#,
    r#"{"rules":[{"name":"n","kind":"numbers","max_value":999}]}"#,
    r#"{"rules":[{"name":"r","kind":"regex","patterns":["owl"],"field":"messages[].content"}]}"#,
    r#"{"rules":[{"name":"t","kind":"literal","words":["a"],"action":"tag"}]}"#,
    r#"{"rules":[{"name":"c","kind":"number","field":"completion","min":7,"action":"tag"},
       {"name":"n","kind":"number","field":"n","max":-0.5},{"name":"r","kind":"numbers"}]}"#,
    r#"{"rules":[{"name":"c","kind":"characters","forbid_control":true},
       {"name":"l","kind":"length","max_chars":9},{"name":"g","kind":"repetition","gopher":true}]}"#,
];

/// xorshift64*: the same cases on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Changes a few bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            let byte = *self.pick(b"\"\\{}[],:ntu0d8-.eE \t\r\n\x00\x1f\x80\xff/a");
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
    }

    fn shard(&mut self) -> Vec<u8> {
        let mut shard = Vec::new();
        for _ in 0..self.below(30) {
            let mut line = self.pick(LINES).as_bytes().to_vec();
            match self.below(8) {
                0 => self.damage(&mut line),
                1 => line = line.repeat(self.below(20)),
                _ => {}
            }
            shard.extend(line);
            shard.extend_from_slice(self.pick::<&[u8]>(&[b"\n", b"\n", b"\n", b"\r\n", b""]));
        }
        shard
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let limit = Duration::from_secs(arguments.next().unwrap_or(20));
    let seed = arguments.next().unwrap_or(1);
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let started = Instant::now();
    let (mut cases, mut rows) = (0u64, 0u64);
    while started.elapsed() < limit {
        rows += one_shard(&mut random, folder.path());
        one_plan(&mut random);
        cases += 1;
    }
    println!("seed {seed}: {cases} cases, {rows} rows, {} s, no failure", limit.as_secs());
}

fn pack(name: &str, bytes: &[u8], parts: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    for part in bytes.chunks(bytes.len().div_ceil(parts).max(1)) {
        match name.rsplit('.').next() {
            Some("gz") => {
                let mut encoder =
                    flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
                encoder.write_all(part).expect("memory takes all bytes");
            }
            Some("zst") => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(&mut packed, 1).expect("memory takes all");
                // Without a checksum a flipped bit can be another text.
                encoder.include_checksum(true).expect("memory takes all bytes");
                if parts.is_multiple_of(2) {
                    let size = Some(part.len() as u64);
                    encoder.set_pledged_src_size(size).expect("memory takes all bytes");
                }
                encoder.write_all(part).expect("memory takes all bytes");
                encoder.finish().expect("memory takes all bytes");
            }
            _ => packed.extend_from_slice(part),
        }
    }
    packed
}

/// Returns the rows of the shard.
fn one_shard(random: &mut Random, folder: &Path) -> u64 {
    let bytes = random.shard();
    let name = *random.pick(&["in.jsonl", "in.jsonl", "in.jsonl.gz", "in.jsonl.zst"]);
    let parts = 1 + random.below(5);
    let mut packed = pack(name, &bytes, parts);
    let is_damaged = name != "in.jsonl" && !packed.is_empty() && random.below(4) == 0;
    if is_damaged {
        let at = random.below(packed.len());
        if random.below(2) == 0 { packed.truncate(at) } else { packed[at] ^= 1 << random.below(8) }
    }
    let [input, kept, rejects]: [PathBuf; 3] =
        [name, "kept.jsonl", "rejects.jsonl"].map(|name| folder.join(name));
    fs::write(&input, &packed).expect("room in the temporary folder");
    let max_line_bytes = 1 + random.below(400);
    let rule =
        json!({"name": "r", "kind": "regex", "patterns": [r"\bowls?\b"], "ignore_case": true});
    let plan = json!({"rules": [rule], "max_line_bytes": max_line_bytes});
    let plan = Plan::from_json(&plan.to_string()).expect("a good plan");
    let shard = Shard {
        input: &input,
        called: None,
        kept: &kept,
        rejects: &rejects,
        work: None,
        journal_interval: Duration::ZERO,
        split: Split::default(),
        duplicates: &[],
        chunk_bytes: 1 + random.below(600),
        digests: true,
        threads: 1 + random.below(3),
    };
    let save = || {
        let _ = fs::create_dir_all("fuzz-failure");
        let _ = fs::write(Path::new("fuzz-failure").join(name), &packed);
        println!("{shard:?}, max_line_bytes {max_line_bytes}: see fuzz-failure/{name}");
    };
    let result = std::panic::catch_unwind(|| filter_shard(&plan, shard, &|_| Flow::Continue));
    let Ok(result) = result else {
        save();
        panic!("the engine panicked");
    };
    let statistics = match result {
        Ok(statistics) => statistics,
        // Bytes made at random can begin as another format does.
        Err(Error::Read { .. }) if format::of_file(&input).is_err() => return 0,
        Err(Error::Read { .. }) if is_damaged || (name != "in.jsonl" && packed.is_empty()) => {
            return 0;
        }
        Err(error) => {
            save();
            panic!("{error}");
        }
    };
    let found = fs::read(&kept).expect("a finished run");
    let rejected = fs::read_to_string(&rejects).expect("rejects are text");
    let lines = rejected.lines().map(|line| serde_json::from_str::<Value>(line).is_ok());
    let expected = reference(&bytes, max_line_bytes);
    // A flipped bit can hit what does not matter, and a cut can fall between two members.
    let is_prefix = is_damaged && expected.starts_with(&found);
    if !(lines.clone().all(|is_json| is_json)
        && statistics.rows_in == statistics.kept + statistics.rejected
        && statistics.rejected == lines.count() as u64
        && (found == expected || is_prefix))
    {
        save();
        let (found, expected) = (found.escape_ascii(), expected.escape_ascii());
        panic!("damaged: {is_damaged}\nkept     {found}\nexpected {expected}");
    }
    statistics.rows_in
}

/// The lines that are kept, found slowly.
fn reference(bytes: &[u8], max_line_bytes: usize) -> Vec<u8> {
    let owls = Regex::new(r"(?i)\bowls?\b").expect("a good pattern");
    let mut kept = Vec::new();
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let mut content = line.strip_suffix(b"\n").unwrap_or(line);
        content = content.strip_suffix(b"\r").unwrap_or(content);
        if number == 0 {
            content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
        }
        if content.len() > max_line_bytes {
            continue;
        }
        let Ok(Value::Object(row)) = serde_json::from_slice(content) else { continue };
        if row.get("completion").and_then(Value::as_str).is_some_and(|text| !owls.is_match(text)) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// A damaged plan is refused or judges any line.
fn one_plan(random: &mut Random) {
    let mut plan = random.pick(PLANS).as_bytes().to_vec();
    for _ in 0..random.below(3) {
        random.damage(&mut plan);
    }
    let lines = random.shard();
    let Ok(plan) = std::str::from_utf8(&plan) else { return };
    let judge = || {
        let Ok(plan) = Plan::from_json(plan) else { return };
        for line in lines.split(|&byte| byte == b'\n').take(5) {
            let verdict: Value = serde_json::from_str(&explain(&plan, line, true)).expect("JSON");
            assert!(verdict["kept"].is_boolean());
        }
    };
    if std::panic::catch_unwind(judge).is_err() {
        println!("plan: {plan}\nlines: {}", lines.escape_ascii());
        panic!("a plan panicked");
    }
}
