//! Fixed words, any number of them.
//!
//! Case is ignored by Unicode *simple folding*: character by character, so ẞ is ß but not ss, like
//! `(?i)` of the regex rule. Diacritics are ignored by canonical decomposition without its
//! combining marks (category Mn): é is e, but ø is not o.
//!
//! A whole word has no word character (`\w` of the regex rule) directly before it or after it. That
//! is `\b` for words that start and end in word characters, and also works for `c++`.
//!
//! Most values are searched by [`crate::scan`], which needs no folding. What is here decides about
//! any value: it folds the value into a buffer, searches that, and maps spans back.

use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// A value breaks this rule if one of the words occurs in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiteralSpec {
    /// At least one; none of them empty.
    pub words: Vec<String>,
    /// Match only where the word stands by itself.
    #[serde(default = "yes")]
    pub whole_word: bool,
    /// Match letters of either case.
    #[serde(default = "yes")]
    pub ignore_case: bool,
    /// Match letters with other diacritics, or none.
    #[serde(default)]
    pub ignore_diacritics: bool,
}

fn yes() -> bool {
    true
}

/// A compiled [`LiteralSpec`].
pub struct Literal {
    automaton: AhoCorasick,
    whole_word: bool,
    ignore_case: bool,
    ignore_diacritics: bool,
}

impl Literal {
    pub fn new(spec: &LiteralSpec) -> Result<Literal, String> {
        if spec.words.is_empty() {
            return Err("words is empty".to_owned());
        }
        let fold = |word: &String| fold_all(word, spec.ignore_case, spec.ignore_diacritics);
        let words: Vec<String> = spec.words.iter().map(fold).collect();
        if let Some(index) = words.iter().position(String::is_empty) {
            return Err(match spec.words[index].as_str() {
                "" => format!("word {} is empty", index + 1),
                word => format!("nothing is left of `{word}` without its diacritics"),
            });
        }
        let automaton = AhoCorasick::builder()
            // Standard semantics see every occurrence, also of a word within another.
            .match_kind(MatchKind::Standard)
            .build(words)
            .map_err(|failure| failure.to_string())?;
        Ok(Literal {
            automaton,
            whole_word: spec.whole_word,
            ignore_case: spec.ignore_case,
            ignore_diacritics: spec.ignore_diacritics,
        })
    }

    pub fn ignore_case(&self) -> bool {
        self.ignore_case
    }

    pub fn ignore_diacritics(&self) -> bool {
        self.ignore_diacritics
    }

    pub fn whole_word(&self) -> bool {
        self.whole_word
    }

    /// The word as it is searched for.
    pub fn fold_word(&self, word: &str) -> String {
        fold_all(word, self.ignore_case, self.ignore_diacritics)
    }

    /// Does a word occur in the value?
    pub fn occurs(&self, value: &str, folded: &mut String) -> bool {
        let haystack = self.fold(value, folded);
        self.automaton
            .find_overlapping_iter(haystack)
            .any(|found| self.is_found(haystack, found.start(), found.end()))
    }

    /// The index and the span of the first occurrence of each word that occurs.
    pub fn find(&self, value: &str, folded: &mut String) -> Vec<(usize, (usize, usize))> {
        let haystack = self.fold(value, folded);
        let mut known = vec![false; self.automaton.patterns_len()];
        let mut findings = Vec::new();
        for found in self.automaton.find_overlapping_iter(haystack) {
            let (start, end) = (found.start(), found.end());
            let word = found.pattern().as_usize();
            if !known[word] && self.is_found(haystack, start, end) {
                known[word] = true;
                findings.push((word, (start, end)));
            }
        }
        if self.ignore_case || self.ignore_diacritics {
            for (_, span) in &mut findings {
                *span = self.unfold(value, *span);
            }
        }
        findings
    }

    fn is_found(&self, haystack: &str, start: usize, end: usize) -> bool {
        !self.whole_word || is_whole_word(haystack.as_bytes(), start, end)
    }

    /// What the automaton reads in place of the value.
    fn fold<'a>(&self, value: &'a str, folded: &'a mut String) -> &'a str {
        if !self.ignore_case && !self.ignore_diacritics {
            return value;
        }
        folded.clear();
        for c in value.chars() {
            fold_into(c, self.ignore_case, self.ignore_diacritics, folded);
        }
        folded
    }

    /// Maps a span of the folded value to the value.
    fn unfold(&self, value: &str, (start, end): (usize, usize)) -> (usize, usize) {
        let mut folded = String::new();
        let mut span = (value.len(), value.len());
        for (at, c) in value.char_indices() {
            if folded.len() <= start {
                span.0 = at;
            }
            if folded.len() >= end {
                span.1 = at;
                break;
            }
            fold_into(c, self.ignore_case, self.ignore_diacritics, &mut folded);
        }
        span
    }
}

fn fold_all(text: &str, ignore_case: bool, ignore_diacritics: bool) -> String {
    let mut folded = String::new();
    for c in text.chars() {
        fold_into(c, ignore_case, ignore_diacritics, &mut folded);
    }
    folded
}

fn fold_into(c: char, ignore_case: bool, ignore_diacritics: bool, folded: &mut String) {
    let case = |c| if ignore_case { fold(c) } else { c };
    if c.is_ascii() || !ignore_diacritics {
        folded.push(case(c));
        return;
    }
    decompose_canonical(c, |part| {
        if !is_combining_mark(part) {
            folded.push(case(part));
        }
    });
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

/// Is there no word character directly before `start` or after `end` in this UTF-8 text?
pub fn is_whole_word(text: &[u8], start: usize, end: usize) -> bool {
    !ends_in_word_character(&text[..start]) && !starts_with_word_character(&text[end..])
}

fn ends_in_word_character(text: &[u8]) -> bool {
    match text.last() {
        None => false,
        Some(byte) if byte.is_ascii() => byte.is_ascii_alphanumeric() || *byte == b'_',
        Some(_) => {
            let start = text.iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0);
            starts_with_word_character(&text[start..])
        }
    }
}

fn starts_with_word_character(text: &[u8]) -> bool {
    match text.first() {
        None => false,
        Some(byte) if byte.is_ascii() => byte.is_ascii_alphanumeric() || *byte == b'_',
        Some(first) => {
            let length = (first.leading_ones() as usize).min(text.len());
            let c = std::str::from_utf8(&text[..length]).ok().and_then(|c| c.chars().next());
            c.is_some_and(regex_syntax::is_word_character)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    use super::*;

    fn rule(words: &[&str], whole_word: bool, ignore_case: bool) -> Literal {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        let ignore_diacritics = false;
        Literal::new(&LiteralSpec { words, whole_word, ignore_case, ignore_diacritics }).unwrap()
    }

    fn find(rule: &Literal, value: &str) -> Vec<(usize, &'static str)> {
        let mut folded = String::new();
        let mut findings = rule.find(value, &mut folded);
        assert_eq!(rule.occurs(value, &mut folded), !findings.is_empty(), "{value:?}");
        findings.sort_unstable();
        findings
            .iter()
            .map(|&(word, (start, end))| (word, &*value[start..end].to_owned().leak()))
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
    fn diacritics_are_ignored_on_both_sides() {
        let words = ["Éte", "sova", "한"].map(str::to_owned).to_vec();
        let mut spec =
            LiteralSpec { words, whole_word: true, ignore_case: true, ignore_diacritics: true };
        let rule = Literal::new(&spec).unwrap();
        assert_eq!(find(&rule, "l'été, ete\u{301}"), [(0, "été")]);
        assert_eq!(find(&rule, "x e\u{301}te\u{301}\u{302}!"), [(0, "e\u{301}te")]);
        assert_eq!(find(&rule, "SÓVA søva"), [(1, "SÓVA")]);
        assert_eq!(find(&rule, "한 \u{1112}\u{1161}\u{11ab}"), [(2, "한")]);
        spec.words = vec!["\u{301}".to_owned()];
        let message = Literal::new(&spec).err().unwrap();
        assert!(message.contains("without its diacritics"), "{message}");
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
                words,
                whole_word: true,
                ignore_case: true,
                ignore_diacritics: false,
            };
            assert!(Literal::new(&spec).err().unwrap().starts_with("word"));
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
