//! What the duplicate rule promises, from values to decisions.

use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::signer::Recipe;
use super::*;
use crate::error::Error;

fn spec(json: &str) -> DuplicateSpec {
    serde_json::from_str(json).unwrap()
}

fn decide(
    signer: &Signer,
    shards: Vec<Signatures>,
    threads: usize,
) -> Result<Decisions, DuplicatesError> {
    let clusters = cluster(signer, shards, threads)?;
    Ok(settle(&[(signer.among(), true)], vec![clusters]).remove(0))
}

fn signer(options: &str) -> Signer {
    Signer::new("again", "completion", &spec(&format!("{{{options}}}"))).unwrap()
}

/// `None` is a row that cannot be read.
fn sign<V: AsRef<str>>(signer: &Signer, rows: &[Option<V>]) -> Signatures {
    let (mut scratch, mut signatures) = (SignScratch::default(), signer.signatures());
    for row in rows {
        match row {
            Some(value) => signer.sign(value.as_ref(), &mut scratch, &mut signatures),
            None => signatures.push_none(),
        }
    }
    assert_eq!(signatures.rows(), rows.len() as u64);
    signatures
}

/// The first row of each row's cluster, counted over all shards, when the rows are cut into shards
/// of these lengths (the last shard takes the rest).
fn firsts<V: AsRef<str>>(
    signer: &Signer,
    rows: &[Option<V>],
    lengths: &[usize],
    threads: usize,
) -> Vec<Option<usize>> {
    let (mut shards, mut starts, mut rest) = (Vec::new(), Vec::new(), rows);
    for &length in lengths.iter().chain([&rows.len()]) {
        let (shard, after) = rest.split_at(length.min(rest.len()));
        starts.push(rows.len() - rest.len());
        shards.push(sign(signer, shard));
        rest = after;
    }
    let counts: Vec<u64> = shards.iter().map(Signatures::rows).collect();
    let decisions = decide(signer, shards, threads).unwrap();
    let mut firsts = Vec::new();
    for (shard, &count) in counts.iter().enumerate() {
        assert_eq!(decisions.rows(shard as u32), count);
        for row in 0..count {
            let first = decisions.first(shard as u32, row);
            firsts.push(first.map(|(shard, row)| {
                assert!(row < counts[shard as usize]);
                starts[shard as usize] + row as usize
            }));
        }
    }
    assert_eq!(decisions.count(), firsts.iter().flatten().count() as u64);
    firsts
}

/// The obvious decision: a map from what makes values equal to the first row.
fn reference<V: AsRef<str>>(
    rows: &[Option<V>],
    canonical: impl Fn(&str) -> String,
) -> Vec<Option<usize>> {
    let mut known = HashMap::new();
    let mut firsts = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        firsts.push(row.as_ref().and_then(|value| {
            let first = *known.entry(canonical(value.as_ref())).or_insert(index);
            (first < index).then_some(first)
        }));
    }
    firsts
}

/// xorshift64*, for tests that need numbers of the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn words(&mut self, count: usize) -> Vec<String> {
        const WORDS: [&str; 24] = [
            "the", "owl", "of", "night", "and", "a", "river", "to", "in", "was", "seen", "by",
            "it", "that", "house", "on", "forest", "he", "with", "they", "hoots", "at", "moon",
            "from",
        ];
        (0..count).map(|_| WORDS[self.below(WORDS.len())].to_owned()).collect()
    }
}

#[test]
fn each_method_finds_its_duplicates() {
    let rows = [
        Some("The owl hoots at night, twice."),
        Some("the owl hoots at night -- TWICE"),
        None,
        Some("The owl hoots at night, twice."),
        Some(""),
        None,
        Some("..."),
        Some(" ... "),
        Some("1, 2"),
        Some("12"),
        Some("1;2"),
        Some(""),
    ];
    let find = |options| firsts(&signer(options), &rows, &[4, 0, 3], 2);
    let exact = find(r#""method": "exact""#);
    let mut expected = [None; 12];
    (expected[3], expected[11]) = (Some(0), Some(4));
    assert_eq!(exact, expected);
    (expected[1], expected[7], expected[10]) = (Some(0), Some(6), Some(8));
    assert_eq!(find(r#""method": "normalized""#), expected);
    assert_eq!(find(r#""method": "minhash""#), expected);
    assert_eq!(find(r#""method": "minhash", "ngram": 2, "threshold": 0.3"#), expected);
}

#[test]
fn a_chain_of_similar_rows_is_one_cluster() {
    let mut random = Random(1);
    let words = random.words(300);
    let row = |from: usize| Some(words[from..from + 200].join(" "));
    // 0 and 100 share half of their words: far below the threshold, but there are steps between.
    let far = [row(0), row(100)];
    let signer = signer(r#""method": "minhash""#);
    assert_eq!(firsts(&signer, &far, &[], 1), [None, None]);
    let order = [5, 0, 9, 1, 8, 2, 7, 3, 6, 4, 10].map(|step| row(step * 2));
    let found = firsts(&signer, &order, &[3, 3], 1);
    assert_eq!(found[0], None);
    assert!(found[1..].iter().all(|&first| first == Some(0)), "{found:?}");
}

/// Pairs of known similarity, against the curve that the split promises.
#[test]
fn minhash_follows_its_curve() {
    const PAIRS: usize = 400;
    for (options, similarities) in [
        (r#""method": "minhash""#, [0.5, 0.7, 0.8, 0.85, 0.9, 0.97]),
        (r#""method": "minhash", "threshold": 0.5, "ngram": 3"#, [0.2, 0.4, 0.5, 0.6, 0.7, 0.9]),
    ] {
        let signer = signer(options);
        let Recipe::MinHash(_, minhash) = &signer.method else { panic!() };
        let ngram = if minhash.rows() == 13 { 5 } else { 3 };
        for (level, &target) in similarities.iter().enumerate() {
            let mut random = Random(7 + level as u64);
            let mut rows = Vec::new();
            let (mut expected, mut variance) = (0.0, 0.0);
            for pair in 0..PAIRS {
                // Lengths from a sentence to a page. Two windows of one text, which names the
                // pair, so that different pairs have little in common.
                let count = 60 + random.below(300);
                let mut words = random.words(2 * count);
                words.iter_mut().step_by(2).for_each(|word| *word += &format!("{pair}"));
                let shared = 2.0 * target / (1.0 + target) * count as f64;
                let shift = count - shared.round() as usize;
                let window = |from: usize| words[from..from + count].to_vec();
                let (first, second) = (window(0), window(shift));
                let probability = signer.probability(jaccard(&first, &second, ngram));
                expected += probability;
                variance += probability * (1.0 - probability);
                rows.push(Some(first.join(" ")));
                rows.push(Some(second.join(" ")));
            }
            let found = firsts(&signer, &rows, &[], 1);
            for (row, first) in found.iter().enumerate() {
                assert!(first.is_none_or(|first| first == row - 1 && row % 2 == 1), "{row}");
            }
            let count = found.iter().flatten().count() as f64;
            // Four standard deviations, and one pair for where they are close to none.
            let tolerance = 4.0 * variance.sqrt() + 1.0;
            assert!(
                (count - expected).abs() <= tolerance,
                "{options} {target}: {count} of {PAIRS} pairs, expected {expected} ± {tolerance}"
            );
        }
    }
}

fn jaccard(first: &[String], second: &[String], ngram: usize) -> f64 {
    let set = |words: &[String]| -> std::collections::HashSet<Vec<String>> {
        words.windows(ngram).map(<[String]>::to_vec).collect()
    };
    let (first, second) = (set(first), set(second));
    first.intersection(&second).count() as f64 / first.union(&second).count() as f64
}

#[test]
fn the_curve_is_steep_at_the_threshold() {
    let rule = signer(r#""method": "minhash""#);
    let rounded = [0.5, 0.7, 0.8, 0.9, 0.95, 1.0].map(|s| (rule.probability(s) * 1e3).round());
    assert_eq!(rounded, [1.0, 84.0, 399.0, 929.0, 998.0, 1000.0]);
    assert_eq!(signer(r#""method": "exact""#).probability(0.99), 0.0);
}

/// Many more equal rows than a buffer holds, and more different ones than one thread sorts at once.
#[test]
fn heavy_clusters_do_not_need_more_memory() {
    let rows: Vec<Option<String>> = (0..200_000u32)
        .map(|row| (row % 17 != 0).then(|| format!("{}", if row % 3 == 0 { row / 9 } else { 7 })))
        .collect();
    for threads in [1, 3, 100] {
        let found = firsts(&signer(r#""method": "exact""#), &rows, &[1, 0, 70_000, 5], threads);
        assert!(found == reference(&rows, str::to_owned), "{threads} threads");
    }
}

#[test]
fn files_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    let (path, making) = (directory.path().join("shard"), directory.path().join("making"));
    let words = Random(3).words(20_000).join(" ");
    for options in
        [r#""method": "exact""#, r#""method": "normalized""#, r#""method": "minhash", "ngram": 3"#]
    {
        let signer = signer(options);
        for rows in [vec![], vec![None, Some("a b c"), Some("a"), Some(&words), None]] {
            let signatures = sign(&signer, &rows);
            signatures.save(&path, &making).unwrap();
            assert_eq!(signer.load(&path).unwrap(), signatures);
        }
    }
    // More than one buffer.
    let signer = signer(r#""method": "exact""#);
    let rows: Vec<Option<String>> = (0..30_000).map(|row| Some(row.to_string())).collect();
    let signatures = sign(&signer, &rows);
    signatures.save(&path, &making).unwrap();
    assert_eq!(signer.load(&path).unwrap(), signatures);
    let header = 8 + 8 + signer.parameters.len() as u64 + 8;
    let length = fs::metadata(&path).unwrap().len();
    assert_eq!(length, header + 30_000 * signatures.bytes_per_row() + 8);
}

#[test]
fn damaged_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, making) = (directory.path().join("shard"), directory.path().join("making"));
    let signer = signer(r#""method": "exact""#);
    sign(&signer, &[Some("a"), None, Some("b")]).save(&path, &making).unwrap();
    let good = fs::read(&path).unwrap();
    let load = || signer.load(&path).map_err(|error| error.to_string());
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(load().unwrap_err().ends_with("truncated"), "{length} bytes");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, bad).unwrap();
            assert!(load().is_err(), "bit {bit} of byte {at}");
        }
    }
    fs::write(&path, [&good[..], b"\n"].concat()).unwrap();
    assert!(load().unwrap_err().ends_with("there is more after the end"));
    fs::write(&path, &good).unwrap();
    assert!(load().is_ok());
}

#[test]
fn signatures_of_other_parameters_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, making) = (directory.path().join("shard"), directory.path().join("making"));
    let other = signer(r#""method": "minhash", "threshold": 0.9"#);
    let signatures = sign(&other, &[Some("a")]);
    signatures.save(&path, &making).unwrap();
    let rule = signer(r#""method": "minhash""#);
    let error = rule.load(&path).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert!(error.to_string().contains("bands=5 rows=25"), "{error}");
    let error = decide(&rule, vec![rule.signatures(), signatures], 1).unwrap_err().to_string();
    assert!(error.contains("rule `again`: shard 1 was signed with"), "{error}");
    assert!(error.contains("bands=9 rows=13"), "{error}");
    let other_field = Signer::new("again", "prompt", &spec(r#"{"method": "minhash"}"#)).unwrap();
    assert!(decide(&rule, vec![other_field.signatures()], 1).is_err());
}

#[test]
fn too_little_memory_is_refused_up_front() {
    let rule = signer(r#""method": "minhash", "max_memory_mib": 4"#);
    let rows = vec![Some("a"); 100_000];
    let signatures = sign(&rule, &rows);
    let error = decide(&rule, vec![signatures.clone()], 4).err().unwrap();
    let DuplicatesError::Memory { needed_mib, .. } = error else { panic!("{error}") };
    assert_eq!(
        error.to_string(),
        format!(
            "rule `again`: finding duplicates among 100000 rows needs {needed_mib} MiB, but \
             max_memory_mib is 4: set max_memory_mib = {needed_mib}, or filter fewer shards at \
             once, or use method normalized (about 17 bytes a row)"
        )
    );
    // What it asks for is enough.
    let roomy = signer(&format!(r#""method": "minhash", "max_memory_mib": {needed_mib}"#));
    assert_eq!(decide(&roomy, vec![signatures], 4).unwrap().count(), 99_999);
    assert!(rule.check_memory(1000).is_ok());
    assert!(rule.check_memory(100_000).is_err());
    let error = rule.check_memory(1 << 32).unwrap_err().to_string();
    assert!(error.contains("4294967296 rows, expected at most 4294967295"), "{error}");
}

#[test]
fn nothing_in_nothing_out() {
    let rule = signer(r#""method": "minhash""#);
    assert_eq!(decide(&rule, vec![], 1).unwrap().count(), 0);
    let decisions = decide(&rule, vec![rule.signatures(), rule.signatures()], 9).unwrap();
    assert_eq!((decisions.count(), decisions.rows(1)), (0, 0));
}

#[test]
fn bad_options_are_errors() {
    let error = |options: &str| {
        let spec = spec(&format!("{{{options}}}"));
        Signer::new("again", "completion", &spec).err().unwrap()
    };
    for (options, expected) in [
        (r#""method": "exact", "threshold": 0.8"#, "threshold needs method minhash, not exact"),
        (r#""method": "normalized", "ngram": 5"#, "ngram needs method minhash, not normalized"),
        (
            r#""method": "minhash", "threshold": 1.0"#,
            "threshold is 1, expected a number between 0 and 1 (for equal values use method normalized)",
        ),
        (r#""method": "minhash", "ngram": 0"#, "ngram is 0, expected 1 to 64"),
        (r#""method": "exact", "max_memory_mib": 0"#, "max_memory_mib is 0"),
    ] {
        assert_eq!(error(options), expected);
    }
    for options in [r#""method": "fuzzy""#, r#""method": "exact", "treshold": 1"#, r#""ngram": 1"#]
    {
        let json = format!("{{{options}}}");
        assert!(serde_json::from_str::<DuplicateSpec>(&json).is_err(), "{options}");
    }
}

proptest! {
    #[test]
    fn agrees_with_the_obvious_decision(
        rows in prop::collection::vec(prop::option::of("[abA .1]{0,3}"), 0..60),
        lengths in prop::collection::vec(0usize..20, 0..6),
        threads in 1usize..5,
    ) {
        static EXACT: LazyLock<Signer> = LazyLock::new(|| signer(r#""method": "exact""#));
        static WORDS: LazyLock<Signer> = LazyLock::new(|| signer(r#""method": "normalized""#));
        static MINHASH: LazyLock<Signer> = LazyLock::new(|| signer(r#""method": "minhash""#));
        let exact = firsts(&EXACT, &rows, &lengths, threads);
        prop_assert_eq!(exact, reference(&rows, str::to_owned));
        let words = |value: &str| {
            let lower = value.to_lowercase();
            let words: Vec<&str> = lower.split([' ', '.']).filter(|word| !word.is_empty()).collect();
            if words.is_empty() { format!(" {}", value.trim()) } else { words.join(" ") }
        };
        let normalized = firsts(&WORDS, &rows, &lengths, threads);
        prop_assert_eq!(normalized, reference(&rows, words));
        // None of these has a shingle of 5 words.
        let minhash = firsts(&MINHASH, &rows, &lengths, threads);
        prop_assert_eq!(minhash, reference(&rows, words));
    }

    /// However rows are cut into shards, and however many threads there are.
    #[test]
    fn shards_and_threads_do_not_matter(
        seed in 1u64..1000,
        lengths in prop::collection::vec(0usize..20, 0..6),
        threads in 2usize..9,
    ) {
        let mut random = Random(seed);
        let texts: Vec<Vec<String>> = (0..5).map(|_| random.words(40)).collect();
        let rows: Vec<Option<String>> = (0..50)
            .map(|_| {
                let mut words = texts[random.below(5)].clone();
                for _ in 0..random.below(3) {
                    let at = random.below(words.len());
                    words[at] = "other".to_owned();
                }
                (random.below(9) > 0).then(|| words.join(" "))
            })
            .collect();
        static RULE: LazyLock<Signer> =
            LazyLock::new(|| signer(r#""method": "minhash", "threshold": 0.6, "ngram": 3"#));
        let expected = firsts(&RULE, &rows, &[], 1);
        prop_assert!(expected.iter().flatten().count() > 10);
        prop_assert_eq!(firsts(&RULE, &rows, &lengths, threads), expected);
    }
}
