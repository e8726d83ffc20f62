//! Fixed words, any number of them, found in one pass by an Aho-Corasick automaton.
//!
//! Case is ignored by Unicode *simple folding*: character by character, so ẞ is ß but not ss, like
//! `(?i)` of the regex rule. An ASCII value is matched as it is, by an automaton that ignores ASCII
//! case; any other value is folded into a buffer first, and spans are mapped back.
//!
//! A whole word has no word character (`\w` of the regex rule) directly before it or after it. That
//! is `\b` for words that start and end in word characters, and also works for `c++`.

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind};
use serde::Deserialize;

use super::{Finding, default_field};
use crate::error::PlanError;

/// A value breaks this rule if one of the words occurs in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiteralSpec {
    /// Unique within a plan.
    pub name: String,
    /// A top-level field, "completion" unless given.
    #[serde(default = "default_field")]
    pub field: String,
    /// At least one; none of them empty.
    pub words: Vec<String>,
    /// Match only where the word stands by itself.
    #[serde(default = "yes")]
    pub whole_word: bool,
    /// Match letters of either case.
    #[serde(default = "yes")]
    pub ignore_case: bool,
}

fn yes() -> bool {
    true
}

/// A compiled [`LiteralSpec`].
pub struct Literal {
    automaton: AhoCorasick,
    whole_word: bool,
    ignore_case: bool,
    reasons: Vec<String>,
}

impl Literal {
    pub fn new(spec: &LiteralSpec) -> Result<Literal, PlanError> {
        let error = |message: String| PlanError::Rule { rule: spec.name.clone(), message };
        if spec.words.is_empty() {
            return Err(error("words is empty".to_owned()));
        }
        if let Some(index) = spec.words.iter().position(String::is_empty) {
            return Err(error(format!("word {} is empty", index + 1)));
        }
        let words = spec.words.iter().map(|word| {
            if spec.ignore_case { word.chars().map(fold).collect() } else { word.clone() }
        });
        let automaton = AhoCorasick::builder()
            // Standard semantics see every occurrence, also of a word within another.
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(spec.ignore_case)
            .build(words)
            .map_err(|failure| error(failure.to_string()))?;
        Ok(Literal {
            automaton,
            whole_word: spec.whole_word,
            ignore_case: spec.ignore_case,
            reasons: spec.words.iter().map(|word| format!("contains `{word}`")).collect(),
        })
    }

    pub fn breaks(&self, value: &str, folded: &mut String) -> bool {
        let haystack = self.fold(value, folded);
        if !self.whole_word {
            return self.automaton.is_match(haystack);
        }
        self.automaton
            .find_overlapping_iter(haystack)
            .any(|found| is_whole_word(haystack, found.start(), found.end()))
    }

    /// One finding for each word that occurs, with the span of its first occurrence.
    pub fn find(&self, value: &str, folded: &mut String, findings: &mut Vec<Finding>) {
        let haystack = self.fold(value, folded);
        let first = findings.len();
        let input = Input::new(haystack).anchored(Anchored::No);
        for found in self.automaton.find_overlapping_iter(input) {
            let (start, end) = (found.start(), found.end());
            let reason = found.pattern().as_usize();
            let known = findings[first..].iter().any(|finding| finding.reason == reason);
            if !known && (!self.whole_word || is_whole_word(haystack, start, end)) {
                findings.push(Finding { reason, span: Some((start, end)) });
            }
        }
        findings[first..].sort_unstable_by_key(|finding| finding.reason);
        if haystack.len() != value.len() || !value.is_ascii() {
            for finding in &mut findings[first..] {
                finding.span = finding.span.map(|span| self.unfold(value, span));
            }
        }
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// What the automaton reads in place of the value.
    fn fold<'a>(&self, value: &'a str, folded: &'a mut String) -> &'a str {
        if !self.ignore_case || value.is_ascii() {
            return value;
        }
        folded.clear();
        folded.extend(value.chars().map(fold));
        folded
    }

    /// Maps a span of the folded value to the value: folding can change the length of a character,
    /// but not the number of characters.
    fn unfold(&self, value: &str, (start, end): (usize, usize)) -> (usize, usize) {
        if !self.ignore_case {
            return (start, end);
        }
        let mut folded_at = 0;
        let mut span = (value.len(), value.len());
        for (at, c) in value.char_indices() {
            if folded_at == start {
                span.0 = at;
            }
            if folded_at == end {
                span.1 = at;
                break;
            }
            folded_at += fold(c).len_utf8();
        }
        span
    }
}

/// Unicode simple case folding, by way of upper case: ς and σ meet in Σ, ſ and s in S.
fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    match c {
        // Its upper case is I, but it is not a case variant of i.
        'ı' => c,
        // The upper case of these is more than one character.
        '\u{1FD3}' => '\u{390}',
        '\u{1FE3}' => '\u{3B0}',
        '\u{FB05}' => '\u{FB06}',
        _ => single(single(c, char::to_uppercase), char::to_lowercase),
    }
}

/// The result of a case mapping if it is one character, and `c` itself otherwise.
fn single<I: Iterator<Item = char>>(c: char, mapping: impl Fn(char) -> I) -> char {
    let mut mapped = mapping(c);
    match (mapped.next(), mapped.next()) {
        (Some(mapped), None) => mapped,
        _ => c,
    }
}

fn is_whole_word(haystack: &str, start: usize, end: usize) -> bool {
    let before = haystack[..start].chars().next_back();
    let after = haystack[end..].chars().next();
    !before.is_some_and(is_word_character) && !after.is_some_and(is_word_character)
}

fn is_word_character(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => true,
        c if c.is_ascii() => false,
        c => regex_syntax::is_word_character(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    use super::*;

    fn rule(words: &[&str], whole_word: bool, ignore_case: bool) -> Literal {
        Literal::new(&LiteralSpec {
            name: "words".to_owned(),
            field: "completion".to_owned(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            whole_word,
            ignore_case,
        })
        .unwrap()
    }

    fn find(rule: &Literal, value: &str) -> Vec<(usize, &'static str)> {
        let (mut folded, mut findings) = (String::new(), Vec::new());
        rule.find(value, &mut folded, &mut findings);
        assert_eq!(rule.breaks(value, &mut folded), !findings.is_empty(), "{value:?}");
        findings
            .iter()
            .map(|found| {
                let (start, end) = found.span.unwrap();
                (found.reason, &*value[start..end].to_owned().leak())
            })
            .collect()
    }

    #[test]
    fn finds_words_within_words_and_at_the_edges() {
        let owls = rule(&["owl", "night owl", "c++", "ÉTÉ"], true, true);
        assert_eq!(find(&owls, "Night OWL"), [(0, "OWL"), (1, "Night OWL")]);
        assert_eq!(find(&owls, "bowl owls owl_ éowl owl1"), []);
        assert_eq!(find(&owls, "in C++, été!"), [(2, "C++"), (3, "été")]);
        assert_eq!(find(&owls, "c++11 étés"), []);
        assert_eq!(find(&rule(&["owl"], false, false), "bowls OWL"), [(0, "owl")]);
        assert_eq!(find(&rule(&["owl"], true, false), "OWL é owl"), [(0, "owl")]);
    }

    #[test]
    fn spans_survive_folding_that_changes_lengths() {
        // U+212A KELVIN SIGN has three bytes and folds to k; ẞ has three and folds to ß.
        let rule = rule(&["kelvin", "straße"], true, true);
        let value = "\u{212A}\u{212A} \u{212A}ELVIN STRAẞE!";
        assert_eq!(find(&rule, value), [(0, "\u{212A}ELVIN"), (1, "STRAẞE")]);
    }

    #[test]
    fn folding_agrees_with_the_regex_rule() {
        // Letters that are new in Unicode 17, which `regex_syntax` does not know yet.
        let is_new = |c| matches!(c, '\u{A7CE}'..='\u{A7D5}' | '\u{16EA0}'..='\u{16ED3}');
        let mut disagreements = Vec::new();
        for c in ('\0'..=char::MAX).filter(|c| c.is_alphabetic() || c.is_ascii()) {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class.case_fold_simple();
            let variants: Vec<char> =
                class.iter().flat_map(|range| range.start()..=range.end()).collect();
            let agrees = variants.iter().all(|&variant| fold(variant) == fold(c))
                && (fold(c) == c || variants.contains(&fold(c)));
            if !agrees && !is_new(c) {
                disagreements.push(c);
            }
        }
        assert_eq!(disagreements, []);
    }

    #[test]
    fn thousands_of_words() {
        let words: Vec<String> = (0..5000).map(|n| format!("word{n}")).collect();
        let rule = rule(&words.iter().map(String::as_str).collect::<Vec<_>>(), true, true);
        assert_eq!(find(&rule, "a WORD4999 and word12345"), [(4999, "WORD4999")]);
    }

    #[test]
    fn empty_words_are_errors() {
        for words in [vec![], vec!["a".to_owned(), String::new()]] {
            let spec = LiteralSpec {
                name: "n".to_owned(),
                field: "f".to_owned(),
                words,
                whole_word: true,
                ignore_case: true,
            };
            assert!(Literal::new(&spec).err().unwrap().to_string().starts_with("rule `n`: word"));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_regex_for_each_word(
            words in prop::collection::vec("[aAbBéÉσςΣkſ+ ]{1,3}", 1..6),
            value in "[aAbBéÉσςΣkKKſsS+ _1]{0,12}",
            whole_word: bool,
            ignore_case: bool,
        ) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let found = find(&rule(&words, whole_word, ignore_case), &value);
            let mut expected = Vec::new();
            for (index, word) in words.iter().enumerate() {
                let escaped: String = word.chars().map(|c| format!(r"\x{{{:X}}}", c as u32)).collect();
                let (open, close) = if whole_word {
                    (r"\b{start-half}", r"\b{end-half}")
                } else {
                    ("", "")
                };
                let flag = if ignore_case { "(?i)" } else { "" };
                let regex =
                    regex_automata::meta::Regex::new(&format!("{flag}{open}{escaped}{close}"));
                if let Some(matched) = regex.unwrap().find(&value) {
                    expected.push((index, &*value[matched.range()].to_owned().leak()));
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
