//! How much of a value repeats: the rules of the Gopher paper (Rae et al. 2021, arXiv:2112.11446,
//! appendix A1.1, table A1), as `GopherRepetitionFilter` of datatrove 0.10 computes them.
//!
//! * Lines are what line feeds separate, paragraphs what two or more of them separate. One that was
//!   there before is a duplicate; what counts is the number of duplicates by the number of all, and
//!   their characters by those of the whole value. A carriage return before a line feed is a part of
//!   it: a value with CRLF is judged as the same one without them.
//! * The top n-gram is the sequence of n words that occurs most often, and the first of these in
//!   the value where there are several. Its characters, with a space between words, times its
//!   occurrences, overlapping ones too, by the characters of the value can thus exceed 1.
//! * Duplicate n-grams are found from left to right: one that was there before counts with its
//!   characters, without spaces, and the search goes on behind it; another is remembered, and the
//!   search goes on at its second word.
//!
//! Where this differs from datatrove, on purpose:
//!
//! * A word is what whitespace separates, and a punctuation mark at the beginning or end of it is a
//!   word of its own, but `...` and `---` are one; datatrove asks spaCy, which also knows about
//!   English contractions, units, and slashes.
//! * Datatrove leaves carriage returns in lines, and finds no paragraphs between them.
//! * A top n-gram occurs at least twice. Datatrove refuses `hello world`, since its only 2-gram
//!   is all of it: most texts of less than 60 characters, where rows are short.
//! * The empty line before a line feed at the beginning counts as a line, like the one after a line
//!   feed at the end, but the two are no duplicates. Datatrove refuses `\nhello\n`.
//! * Texts without spaces are one word, as in datatrove without a model of their language: they have
//!   lines and paragraphs, but no n-grams that repeat.
//! * n-grams are the same if their words are; datatrove compares what they spell together.
//! * The empty value repeats nothing and is kept, and a bound of 0 is a bound.
//!
//! All of it takes time linear in the value. n-grams are numbered, a pair of (n-1)-grams making an
//! n-gram, so that comparing two is comparing integers, and only those that are made of two
//! (n-1)-grams which occur twice are looked at: in text that does not repeat, hardly any are left
//! from n = 4 on. Numbers are given by exact comparison; a hash only says where to look, and is
//! seeded at random, so that no text is made to be slow.

mod grams;
mod pieces;
mod table;
mod words;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Deserialize;

use self::grams::Grams;
use self::pieces::Duplicates;
use self::table::Table;
use self::words::Word;
use super::finding::Finding;

/// The longest n-gram that a rule can ask about.
const MAX_N: usize = 32;

/// The bounds of the paper: for lines and paragraphs, and by the length of n-grams.
const GOPHER_PIECES: f64 = 0.30;
const GOPHER_PIECE_CHARACTERS: f64 = 0.20;
const GOPHER_TOP: [(usize, f64); 3] = [(2, 0.20), (3, 0.18), (4, 0.16)];
const GOPHER_DUPLICATES: [(usize, f64); 6] =
    [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)];

/// A value breaks this rule if it repeats itself more than one of the bounds allows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepetitionSpec {
    /// The bounds of the paper, for all that are not given here.
    #[serde(default)]
    pub gopher: bool,
    /// The largest share of lines that may be duplicates of an earlier one.
    #[serde(default)]
    pub max_duplicate_line_fraction: Option<f64>,
    /// The largest share of characters that may be in duplicate lines.
    #[serde(default)]
    pub max_duplicate_line_character_fraction: Option<f64>,
    /// The largest share of paragraphs that may be duplicates of an earlier one.
    #[serde(default)]
    pub max_duplicate_paragraph_fraction: Option<f64>,
    /// The largest share of characters that may be in duplicate paragraphs.
    #[serde(default)]
    pub max_duplicate_paragraph_character_fraction: Option<f64>,
    /// For each n, the largest share of characters that the most frequent n-gram may make up. The
    /// keys are integers, which only strings can be in JSON.
    #[serde(default)]
    pub max_top_ngram_character_fraction: Option<BTreeMap<String, f64>>,
    /// For each n, the largest share of characters that may be in duplicate n-grams.
    #[serde(default)]
    pub max_duplicate_ngram_character_fraction: Option<BTreeMap<String, f64>>,
}

/// A compiled [`RepetitionSpec`].
pub struct Repetition {
    /// The index is the reason. n-grams come last, short ones first.
    limits: Vec<(Measure, f64)>,
    /// The longest n-gram that is needed, or 0.
    max_n: usize,
    reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    Lines,
    LineCharacters,
    Paragraphs,
    ParagraphCharacters,
    Top(usize),
    Duplicates(usize),
}

impl Measure {
    /// The length of the n-grams, 0 for what is about lines and paragraphs.
    fn n(self) -> usize {
        match self {
            Measure::Top(n) | Measure::Duplicates(n) => n,
            _ => 0,
        }
    }

    fn reason(self) -> String {
        match self {
            Measure::Lines => "too many duplicate lines".to_owned(),
            Measure::LineCharacters => "too much text in duplicate lines".to_owned(),
            Measure::Paragraphs => "too many duplicate paragraphs".to_owned(),
            Measure::ParagraphCharacters => "too much text in duplicate paragraphs".to_owned(),
            Measure::Top(n) => format!("too much text in the top {n}-gram"),
            Measure::Duplicates(n) => format!("too much text in duplicate {n}-grams"),
        }
    }
}

/// Buffers for more words or lines than this are given back after each value.
const MAX_KEPT: usize = 1 << 17;

/// What is reused from value to value.
#[derive(Default)]
pub struct Buffers {
    table: Table,
    /// The distinct lines or paragraphs so far; the index is the number.
    pieces: Vec<(usize, usize)>,
    words: Vec<Word>,
    grams: Grams,
}

impl Buffers {
    /// One huge value must not take its memory for good.
    fn give_back(&mut self) {
        if self.words.capacity().max(self.pieces.capacity()) > MAX_KEPT {
            *self = Buffers::default();
        }
    }
}

impl Repetition {
    pub fn new(spec: &RepetitionSpec) -> Result<Repetition, String> {
        let share = |key: &str, limit: f64| {
            if (0.0..=1.0).contains(&limit) {
                Ok(limit)
            } else {
                Err(format!("{key} is {limit}, expected from 0 to 1"))
            }
        };
        let mut limits = Vec::new();
        for (measure, key, limit, gopher) in [
            (
                Measure::Lines,
                "max_duplicate_line_fraction",
                spec.max_duplicate_line_fraction,
                GOPHER_PIECES,
            ),
            (
                Measure::LineCharacters,
                "max_duplicate_line_character_fraction",
                spec.max_duplicate_line_character_fraction,
                GOPHER_PIECE_CHARACTERS,
            ),
            (
                Measure::Paragraphs,
                "max_duplicate_paragraph_fraction",
                spec.max_duplicate_paragraph_fraction,
                GOPHER_PIECES,
            ),
            (
                Measure::ParagraphCharacters,
                "max_duplicate_paragraph_character_fraction",
                spec.max_duplicate_paragraph_character_fraction,
                GOPHER_PIECE_CHARACTERS,
            ),
        ] {
            if let Some(limit) = limit.or(spec.gopher.then_some(gopher)) {
                limits.push((measure, share(key, limit)?));
            }
        }
        let mut grams = BTreeMap::new();
        for (measure, key, by_n, gopher) in [
            (
                Measure::Top as fn(usize) -> Measure,
                "max_top_ngram_character_fraction",
                &spec.max_top_ngram_character_fraction,
                &GOPHER_TOP[..],
            ),
            (
                Measure::Duplicates,
                "max_duplicate_ngram_character_fraction",
                &spec.max_duplicate_ngram_character_fraction,
                &GOPHER_DUPLICATES,
            ),
        ] {
            for (n, &limit) in by_n.iter().flatten() {
                let Some(n) = n.parse().ok().filter(|n| (1..=MAX_N).contains(n)) else {
                    let message = format!("{key} has the key {n}, expected from 1 to {MAX_N}");
                    return Err(message);
                };
                grams.insert((n, measure(n)), share(&format!("{key}.{n}"), limit)?);
            }
            if by_n.is_none() && spec.gopher {
                grams.extend(gopher.iter().map(|&(n, limit)| ((n, measure(n)), limit)));
            }
        }
        limits.extend(grams.into_iter().map(|((_, measure), limit)| (measure, limit)));
        if limits.is_empty() {
            return Err("sets no bound; gopher = true sets those of the paper".to_owned());
        }
        let reasons = limits.iter().map(|(measure, _)| measure.reason()).collect();
        let max_n = limits.iter().map(|(measure, _)| measure.n()).max().unwrap_or(0);
        Ok(Repetition { limits, max_n, reasons })
    }

    pub fn breaks(&self, value: &str, buffers: &mut Buffers) -> bool {
        let broken = match without_returns(value) {
            None => self.judge(value, buffers, &mut |_| ControlFlow::Break(())),
            Some(feeds) => self.judge(&feeds, buffers, &mut |_| ControlFlow::Break(())),
        };
        buffers.give_back();
        broken.is_break()
    }

    /// The span is that of the first duplicate, or of the first occurrence of the top n-gram.
    pub fn find(&self, value: &str, buffers: &mut Buffers, findings: &mut Vec<Finding>) {
        let already = findings.len();
        let feeds = without_returns(value);
        let _ = self.judge(feeds.as_deref().unwrap_or(value), buffers, &mut |finding| {
            findings.push(finding);
            ControlFlow::Continue(())
        });
        if feeds.is_some() {
            for (start, end) in findings[already..].iter_mut().filter_map(|f| f.span.as_mut()) {
                (*start, *end) = (with_returns(value, *start), with_returns(value, *end));
            }
        }
        buffers.give_back();
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Calls `found` for each reason until it has enough.
    fn judge(
        &self,
        value: &str,
        buffers: &mut Buffers,
        found: &mut dyn FnMut(Finding) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Buffers { table, pieces, words, grams } = buffers;
        let chars = value.chars().count();
        let is_ascii = chars == value.len();
        let mut judge = |measure, count: usize, total: usize, span| {
            let reason = self.limits.iter().position(|(other, _)| *other == measure);
            match reason {
                Some(reason) if count as f64 / total as f64 > self.limits[reason].1 => {
                    found(Finding { reason, span: Some(span) })
                }
                _ => ControlFlow::Continue(()),
            }
        };

        // Without a line feed there is one line, and one paragraph.
        let has = |measures: [Measure; 2]| {
            self.limits.iter().any(|(measure, _)| measures.contains(measure))
        };
        let feeds = if has([Measure::Lines, Measure::LineCharacters])
            || has([Measure::Paragraphs, Measure::ParagraphCharacters])
        {
            memchr::memchr_iter(b'\n', value.as_bytes()).count()
        } else {
            0
        };
        if feeds > 0 {
            if has([Measure::Lines, Measure::LineCharacters]) {
                let lines = value.split('\n').filter(|line| !line.is_empty());
                let ends =
                    usize::from(value.starts_with('\n')) + usize::from(value.ends_with('\n'));
                let duplicates = Duplicates::new(value, lines, feeds + 1, table, pieces);
                let Duplicates { count, total, chars: in_lines, first } = duplicates;
                judge(Measure::Lines, count, total + ends, first)?;
                judge(Measure::LineCharacters, in_lines, chars, first)?;
            }
            if has([Measure::Paragraphs, Measure::ParagraphCharacters]) {
                // An odd line feed is left before the second paragraph.
                let paragraphs = value
                    .trim_matches(is_python_space)
                    .split("\n\n")
                    .map(|paragraph| paragraph.trim_start_matches('\n'))
                    .filter(|paragraph| !paragraph.is_empty());
                let duplicates = Duplicates::new(value, paragraphs, feeds / 2 + 1, table, pieces);
                let Duplicates { count, total, chars: in_paragraphs, first } = duplicates;
                judge(Measure::Paragraphs, count, total, first)?;
                judge(Measure::ParagraphCharacters, in_paragraphs, chars, first)?;
            }
        }

        if self.max_n > 0 {
            words::split(value, is_ascii, words);
            for n in 1..=self.max_n {
                if n == 1 {
                    grams.start(value, words, table);
                } else {
                    grams.lengthen(table);
                }
                if grams.occurrences.is_empty() {
                    break;
                }
                let limits = self.limits.iter().filter(|(measure, _)| measure.n() == n);
                for &(measure, _) in limits {
                    let (count, first) = match measure {
                        Measure::Top(_) => grams.top(words, n),
                        _ => grams.duplicates(words, n),
                    };
                    let span = (words[first].start, words[first + n - 1].end);
                    judge(measure, count, chars, span)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The value without the carriage returns before line feeds, if it has any.
fn without_returns(value: &str) -> Option<String> {
    memchr::memchr(b'\r', value.as_bytes())?;
    value.contains("\r\n").then(|| value.replace("\r\n", "\n"))
}

/// Where a place of the value without these carriage returns is in the value. What ends before a line
/// feed ends before its carriage return.
fn with_returns(value: &str, place: usize) -> usize {
    let mut returns = 0;
    for (at, _) in value.match_indices("\r\n") {
        if place <= at - returns {
            break;
        }
        returns += 1;
    }
    place + returns
}

/// What `str.strip` of Python strips.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rule(options: serde_json::Value) -> Result<Repetition, String> {
        Repetition::new(&serde_json::from_value(options).unwrap())
    }

    fn gopher() -> Repetition {
        rule(json!({"gopher": true})).unwrap()
    }

    fn find(rule: &Repetition, value: &str) -> Vec<(Measure, String)> {
        let (mut buffers, mut findings) = (Buffers::default(), Vec::new());
        rule.find(value, &mut buffers, &mut findings);
        assert_eq!(rule.breaks(value, &mut buffers), !findings.is_empty(), "{value:?}");
        assert!(findings.is_sorted_by_key(|finding| finding.reason));
        findings
            .iter()
            .map(|found| {
                let (start, end) = found.span.unwrap();
                (rule.limits[found.reason].0, value[start..end].to_owned())
            })
            .collect()
    }

    fn measures(rule: &Repetition, value: &str) -> Vec<Measure> {
        find(rule, value).into_iter().map(|found| found.0).collect()
    }

    fn words(value: &str) -> Vec<&str> {
        let mut buffers = Buffers::default();
        words::split(value, value.is_ascii(), &mut buffers.words);
        buffers.words.pop();
        buffers.words.iter().map(|word| &value[word.start..word.end]).collect()
    }

    #[test]
    fn words_and_their_punctuation() {
        let text = "It's \"well-known\" (see [1]): 3.14, --flag... a_b _x_ ---- . é! 日本語。“q”";
        let expected = "It's|\"|well-known|\"|(|see|[|1|]|)|:|3.14|,|--|flag|...|a_b|_x_|----|.|é|\
                        !|日本語。“q|”";
        assert_eq!(words(text), expected.split('|').collect::<Vec<_>>());
        assert_eq!(words(" \u{a0}\n"), Vec::<&str>::new());
    }

    #[test]
    fn lines_and_paragraphs() {
        let lines = rule(json!({"max_duplicate_line_fraction": 0.3})).unwrap();
        assert_eq!(find(&lines, "a\nb\n\na"), [(Measure::Lines, "a".to_owned())]);
        assert_eq!(find(&lines, "a\nb\na\n"), []);
        assert_eq!(find(&lines, "\na\n"), []);
        assert_eq!(find(&lines, "a\n a\na\r\n"), []);
        let characters = rule(json!({"max_duplicate_line_character_fraction": 0.4})).unwrap();
        assert_eq!(find(&characters, "é\n漢漢漢\n漢漢漢"), []);
        let value = "é\n漢漢漢漢\n漢漢漢漢\n漢漢漢漢";
        assert_eq!(find(&characters, value), [(Measure::LineCharacters, "漢漢漢漢".to_owned())]);
        let paragraphs = rule(json!({
            "max_duplicate_paragraph_fraction": 0.3,
            "max_duplicate_paragraph_character_fraction": 0.2,
        }))
        .unwrap();
        assert_eq!(
            find(&paragraphs, "\n\na\na\n\n\nb\n\n\n\na\na\n"),
            [
                (Measure::Paragraphs, "a\na".to_owned()),
                (Measure::ParagraphCharacters, "a\na".to_owned()),
            ][..1]
        );
        assert_eq!(find(&paragraphs, "a\na\nb\n \na"), []);
        let value = "one two\r\n\r\none\ntwo\n\none\r\ntwo\r\n\r\n\r\nthree";
        let expected = [(Measure::ParagraphCharacters, "one\r\ntwo".to_owned())];
        assert_eq!(find(&paragraphs, value), expected);
    }

    #[test]
    fn n_grams() {
        let top = rule(json!({"max_top_ngram_character_fraction": {"2": 0.5}})).unwrap();
        assert_eq!(find(&top, "hello world"), []);
        assert_eq!(find(&top, "a b c a b"), [(Measure::Top(2), "a b".to_owned())]);
        // As often, but later.
        assert_eq!(find(&top, "b c a b c a"), [(Measure::Top(2), "b c".to_owned())]);
        // Three overlapping occurrences: 9 of 11 characters.
        assert_eq!(find(&top, "x a a a a y"), [(Measure::Top(2), "a a".to_owned())]);
        let one = rule(json!({"max_duplicate_ngram_character_fraction": {"1": 0.2}})).unwrap();
        assert_eq!(find(&one, "owl, owls and owl"), []);
        assert_eq!(find(&one, "owl, owl"), [(Measure::Duplicates(1), "owl".to_owned())]);
        let three = rule(json!({"max_duplicate_ngram_character_fraction": {"3": 0.2}})).unwrap();
        // a b c is a duplicate at the second and fourth place, where the search goes on behind.
        let value = "a b c a b c d a b c a";
        assert_eq!(find(&three, value), [(Measure::Duplicates(3), "a b c".to_owned())]);
        assert_eq!(find(&three, "ab c d a bc d"), []);
    }

    #[test]
    fn the_bounds_of_the_paper() {
        let gopher = gopher();
        assert_eq!(gopher.limits.len(), 13);
        assert_eq!(find(&gopher, ""), []);
        assert_eq!(find(&gopher, "An owl is a bird.\nA hawk is one too.\n"), []);
        let looping = "the owl said that the night is long, ".repeat(4);
        let found = measures(&gopher, &looping);
        assert_eq!(
            found,
            [
                Measure::Top(3),
                Measure::Top(4),
                Measure::Duplicates(5),
                Measure::Duplicates(6),
                Measure::Duplicates(7),
                Measure::Duplicates(8),
                Measure::Duplicates(9),
                Measure::Duplicates(10),
            ]
        );
        // What is given replaces the paper's, also if it is nothing.
        let changed = rule(json!({
            "gopher": true,
            "max_duplicate_line_fraction": 0.5,
            "max_top_ngram_character_fraction": {},
            "max_duplicate_ngram_character_fraction": {"12": 0.5, "2": 0.1},
        }))
        .unwrap();
        assert_eq!(
            changed.limits,
            [
                (Measure::Lines, 0.5),
                (Measure::LineCharacters, 0.2),
                (Measure::Paragraphs, 0.3),
                (Measure::ParagraphCharacters, 0.2),
                (Measure::Duplicates(2), 0.1),
                (Measure::Duplicates(12), 0.5),
            ]
        );
        assert_eq!(measures(&changed, &looping), [Measure::Duplicates(2), Measure::Duplicates(12)]);
    }

    #[test]
    fn bounds_that_make_no_sense() {
        let error = |options| rule(options).err().unwrap().to_string();
        let none = "sets no bound; gopher = true sets those of the paper";
        assert_eq!(error(json!({})), none);
        assert_eq!(error(json!({"max_top_ngram_character_fraction": {}})), none);
        assert_eq!(
            error(json!({"max_duplicate_line_fraction": 1.5})),
            "max_duplicate_line_fraction is 1.5, expected from 0 to 1"
        );
        for n in ["0", "33", "x", "-1"] {
            assert_eq!(
                error(json!({"max_top_ngram_character_fraction": {n: 0.5}})),
                format!(
                    "max_top_ngram_character_fraction has the key {n}, \
                     expected from 1 to 32"
                )
            );
        }
        assert_eq!(
            error(json!({"max_top_ngram_character_fraction": {"2": -1}})),
            "max_top_ngram_character_fraction.2 is -1, expected from 0 to 1"
        );
    }

    #[test]
    fn long_values_take_no_time_and_keep_no_memory() {
        let gopher = gopher();
        for piece in ["a ", "a", "a\n", "\n", "a b c d e f g h i j k\n\n", ".", "-", "é. "] {
            let value = piece.repeat((1 << 17) / piece.len());
            find(&gopher, &value);
        }
        for (piece, kept) in [("a ", 0), ("a b\n", 0), ("aaaa", 1)] {
            let mut buffers = Buffers::default();
            gopher.breaks(&piece.repeat(2 * MAX_KEPT), &mut buffers);
            assert_eq!(buffers.words.capacity().min(1), kept, "{piece:?}");
        }
    }

    /// The share as datatrove computes it, but for the differences that the module names.
    fn share(measure: Measure, value: &str) -> f64 {
        let chars = value.chars().count();
        let length = |text: &str| text.chars().count();
        let duplicates = |pieces: &[&str]| {
            let mut seen = HashSet::new();
            let found = pieces.iter().filter(|piece| !piece.is_empty() && !seen.insert(**piece));
            let found: Vec<_> = found.copied().collect();
            (found.len(), found.iter().map(|piece| length(piece)).sum::<usize>())
        };
        let split = |text, feeds: &str| -> Vec<String> {
            let regex = regex_automata::meta::Regex::new(feeds).unwrap();
            regex.split(text).map(|span| value_of(text, span)).collect()
        };
        fn value_of(text: &str, span: regex_automata::Span) -> String {
            text[span.range()].to_owned()
        }
        let lines = split(value, "\n+");
        let paragraphs = split(value.trim_matches(is_python_space), "\n\n+");
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let paragraphs: Vec<&str> = paragraphs.iter().map(String::as_str).collect();
        let words = words(value);
        let grams: Vec<&[&str]> = match measure.n() {
            0 => Vec::new(),
            n => words.windows(n).collect(),
        };
        match measure {
            Measure::Lines => duplicates(&lines).0 as f64 / lines.len() as f64,
            Measure::LineCharacters => duplicates(&lines).1 as f64 / chars as f64,
            Measure::Paragraphs => duplicates(&paragraphs).0 as f64 / paragraphs.len() as f64,
            Measure::ParagraphCharacters => duplicates(&paragraphs).1 as f64 / chars as f64,
            Measure::Top(_) => {
                let mut counts: HashMap<&[&str], usize> = HashMap::new();
                for gram in &grams {
                    *counts.entry(gram).or_default() += 1;
                }
                let most = counts.values().max().copied().unwrap_or(0);
                let top = grams.iter().find(|gram| counts[**gram] == most && most > 1);
                top.map_or(0.0, |top| (length(&top.join(" ")) * most) as f64 / chars as f64)
            }
            Measure::Duplicates(n) => {
                let (mut seen, mut found, mut at) = (HashSet::new(), 0, 0);
                while at < grams.len() {
                    if seen.insert(grams[at]) {
                        at += 1;
                    } else {
                        found += length(&grams[at].concat());
                        at += n;
                    }
                }
                found as f64 / chars as f64
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious(
            value in "[ab .\n]{1,24}|([abé] ?){1,40}|((ab|c|é漢)[ .\n]{1,3}){1,20}|[a\n\u{1f}]{1,12}",
            limit in 0.0..1.0f64,
            top in 1usize..5,
            duplicate in 1usize..7,
        ) {
            let rule = rule(json!({
                "max_duplicate_line_fraction": limit,
                "max_duplicate_line_character_fraction": limit,
                "max_duplicate_paragraph_fraction": limit,
                "max_duplicate_paragraph_character_fraction": limit,
                "max_top_ngram_character_fraction": {top.to_string(): limit, "2": limit},
                "max_duplicate_ngram_character_fraction": {duplicate.to_string(): limit, "3": limit},
            })).unwrap();
            let limits = rule.limits.iter().map(|&(measure, _)| measure);
            let expected: Vec<_> =
                limits.filter(|&measure| share(measure, &value) > limit).collect();
            prop_assert_eq!(measures(&rule, &value), expected);
            // The same with carriage returns, and each span is that of the same text.
            let returned = value.replace('\n', "\r\n");
            let plain: Vec<_> = find(&rule, &returned)
                .into_iter()
                .map(|(measure, text)| (measure, text.replace("\r\n", "\n")))
                .collect();
            prop_assert_eq!(plain, find(&rule, &value));
        }
    }
}
