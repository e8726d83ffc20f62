//! Fixed words, any number of them.
//!
//! Case is ignored by Unicode *simple folding*: character by character, so ẞ is ß but not ss, like
//! `(?i)` of the regex rule. Diacritics are ignored by canonical decomposition without its
//! combining marks (category Mn): é is e, but ø is not o.
//!
//! [`crate::unicode::words`] says what a whole word is: in most texts `\b` for words that start and
//! end in letters or digits, but it also works for `c++`, beside marks and where no spaces are written.
//!
//! Most values are searched by `plan/scan`, which needs no folding. What is here decides about
//! any value: it folds the value into a buffer, searches that, and maps spans back.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use crate::unicode::Bits;
use crate::unicode::composition::parts;
use crate::unicode::words::is_whole_word;

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
    folding: Folding,
}

impl Literal {
    pub fn new(spec: &LiteralSpec) -> Result<Literal, String> {
        if spec.words.is_empty() {
            return Err("words is empty".to_owned());
        }
        let folding = Folding::new(spec);
        let words: Vec<String> = spec.words.iter().map(|word| folding.of(word)).collect();
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
        Ok(Literal { automaton, whole_word: spec.whole_word, folding })
    }

    pub fn ignore_case(&self) -> bool {
        self.folding.ignore_case
    }

    pub fn ignore_diacritics(&self) -> bool {
        self.folding.ignore_diacritics
    }

    pub fn whole_word(&self) -> bool {
        self.whole_word
    }

    /// The word as it is searched for.
    pub fn fold_word(&self, word: &str) -> String {
        self.folding.of(word)
    }

    /// Does a word occur in the value?
    pub fn occurs(&self, value: &str, is_composed: bool, folded: &mut String) -> bool {
        let haystack = self.fold(value, is_composed, folded);
        self.automaton
            .find_overlapping_iter(haystack)
            .any(|found| self.is_found(haystack, found.start(), found.end()))
    }

    /// The index and the span of the first occurrence of each word that occurs.
    pub fn find(
        &self,
        value: &str,
        is_composed: bool,
        folded: &mut String,
    ) -> Vec<(usize, (usize, usize))> {
        let haystack = self.fold(value, is_composed, folded);
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
        if !is_composed || self.folding.changes_composed() {
            self.unfold(value, &mut findings);
        }
        findings
    }

    fn is_found(&self, haystack: &str, start: usize, end: usize) -> bool {
        !self.whole_word || is_whole_word(haystack.as_bytes(), start, end)
    }

    /// What the automaton reads in place of the value.
    fn fold<'a>(&self, value: &'a str, is_composed: bool, folded: &'a mut String) -> &'a str {
        if is_composed && !self.folding.changes_composed() {
            return value;
        }
        folded.clear();
        if is_composed && !self.folding.ignore_diacritics {
            // Most of most texts is as it is folded.
            let mut at = 0;
            while let Some((start, c)) = CASED.next(value, at) {
                folded.push_str(&value[at..start]);
                folded.push(fold(c));
                at = start + c.len_utf8();
            }
            folded.push_str(&value[at..]);
        } else if is_composed {
            self.folding.push(value.chars(), folded);
        } else {
            self.folding.push(value.nfc(), folded);
        }
        folded
    }

    /// Maps spans of the folded value to the value, all in one pass: from the character that one
    /// starts in to the next that is not a part of it. Where characters compose it takes all of them.
    fn unfold(&self, value: &str, findings: &mut [(usize, (usize, usize))]) {
        let sorted = |of: fn((usize, usize)) -> usize| {
            let all = findings.iter().enumerate();
            let mut offsets: Vec<_> = all.map(|(index, found)| (of(found.1), index)).collect();
            offsets.sort_unstable();
            offsets.into_iter().peekable()
        };
        let (mut starts, mut ends) = (sorted(|(start, _)| start), sorted(|(_, end)| end));
        let (mut length, mut folded) = (0, String::new());
        for (at, part) in parts(value) {
            folded.clear();
            self.folding.push(part.nfc(), &mut folded);
            // What vanishes belongs to what stands before it.
            if folded.is_empty() {
                continue;
            }
            while let Some((_, index)) = ends.next_if(|&(end, _)| end <= length) {
                findings[index].1.1 = at;
            }
            if ends.peek().is_none() {
                return;
            }
            length += folded.len();
            while let Some((_, index)) = starts.next_if(|&(start, _)| start < length) {
                findings[index].1.0 = at;
            }
        }
        for (_, index) in ends {
            findings[index].1.1 = value.len();
        }
    }
}

/// No character from here on has another case.
const LAST_CASED: char = '\u{20000}';

/// The characters that folding case changes.
static CASED: LazyLock<Bits> = LazyLock::new(|| {
    let all = ('\0'..LAST_CASED).filter(|&c| fold(c) != c);
    Bits::new(&all.map(|c| (c, c)).collect::<Vec<_>>())
});

/// What texts are compared after.
#[derive(Clone, Copy)]
struct Folding {
    ignore_case: bool,
    ignore_diacritics: bool,
}

impl Folding {
    fn new(spec: &LiteralSpec) -> Folding {
        Folding { ignore_case: spec.ignore_case, ignore_diacritics: spec.ignore_diacritics }
    }

    /// Does it change more than what is not composed?
    fn changes_composed(self) -> bool {
        self.ignore_case || self.ignore_diacritics
    }

    fn of(self, word: &str) -> String {
        let mut folded = String::new();
        self.push(word.nfc(), &mut folded);
        folded
    }

    fn push(self, composed: impl Iterator<Item = char>, folded: &mut String) {
        let case = |c| if self.ignore_case { fold(c) } else { c };
        for c in composed {
            if c.is_ascii() || !self.ignore_diacritics {
                folded.push(case(c));
                continue;
            }
            decompose_canonical(c, |part| {
                if !is_combining_mark(part) {
                    folded.push(case(part));
                }
            });
        }
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
        // A mark, whose upper case is a letter.
        '\u{345}' => c,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    use super::*;
    use crate::unicode::composition::is_composed;

    fn rule(words: &[&str], whole_word: bool, ignore_case: bool) -> Literal {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        let ignore_diacritics = false;
        Literal::new(&LiteralSpec { words, whole_word, ignore_case, ignore_diacritics }).unwrap()
    }

    fn find(rule: &Literal, value: &str) -> Vec<(usize, &'static str)> {
        let mut folded = String::new();
        let mut findings = rule.find(value, is_composed(value), &mut folded);
        let occurs = rule.occurs(value, is_composed(value), &mut folded);
        assert_eq!(occurs, !findings.is_empty(), "{value:?}");
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
        assert_eq!(find(&owls, "c++11 étés"), [(2, "c++")]);
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
        // A mark is no letter, as which the regular expressions count this one.
        let is_mark = |c| c == '\u{345}';
        for c in ('\0'..=char::MAX).filter(|c| c.is_alphabetic() || c.is_ascii()) {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class.case_fold_simple();
            let variants = class.iter().flat_map(|range| range.start()..=range.end());
            let variants: Vec<char> = variants.filter(|&c| !is_mark(c)).collect();
            let agrees = variants.iter().all(|&variant| fold(variant) == fold(c))
                && (fold(c) == c || variants.contains(&fold(c)));
            if !agrees && !is_new(c) && !is_mark(c) {
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
        let value = "x e\u{301}te\u{301}\u{302}!";
        assert_eq!(find(&rule, value), [(0, "e\u{301}te\u{301}\u{302}")]);
        assert_eq!(find(&rule, "SÓVA søva"), [(1, "SÓVA")]);
        assert_eq!(find(&rule, "한 \u{1112}\u{1161}\u{11ab}"), [(2, "한")]);
        spec.words = vec!["\u{301}".to_owned()];
        let message = Literal::new(&spec).err().unwrap();
        assert!(message.contains("without its diacritics"), "{message}");
    }

    #[test]
    fn no_other_character_has_another_case() {
        assert_eq!((LAST_CASED..=char::MAX).find(|&c| fold(c) != c), None);
    }

    #[test]
    fn many_words_of_a_long_value_take_no_time() {
        // One pass for each word would be minutes.
        let words: Vec<String> = (0..20_000).map(|n| format!("É{n}")).collect();
        let rule = rule(&words.iter().map(String::as_str).collect::<Vec<_>>(), true, true);
        let value: Vec<String> = (0..20_000).map(|n| format!("e\u{301}{n}")).collect();
        let value = value.join(" ");
        let mut found = rule.find(&value, false, &mut String::new());
        found.sort_unstable();
        let texts = found.iter().map(|&(word, (start, end))| (word, &value[start..end]));
        assert!(texts.eq(value.split(' ').enumerate()));
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

    /// Each word at each place, character by character.
    fn expected(words: &[&str], value: &str, whole_word: bool, case: bool) -> Vec<(usize, String)> {
        let of = |text: &str| -> Vec<char> {
            text.nfc().map(|c| if case { fold(c) } else { c }).collect()
        };
        let composed: String = value.nfc().collect();
        let offsets: Vec<usize> =
            composed.char_indices().map(|(at, _)| at).chain([composed.len()]).collect();
        let text = of(value);
        let mut found = Vec::new();
        for (index, word) in words.iter().map(|word| of(word)).enumerate() {
            let places = 0..(text.len() + 1).saturating_sub(word.len());
            let place = places.map(|at| (at, at + word.len())).find(|&(at, end)| {
                text[at..end] == word
                    && (!whole_word
                        || is_whole_word(composed.as_bytes(), offsets[at], offsets[end]))
            });
            if let Some((at, end)) = place {
                found.push((index, composed[offsets[at]..offsets[end]].to_owned()));
            }
        }
        found
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_every_place(
            words in prop::collection::vec("[aAbBéÉeσςΣkſ+ 猫🦉\u{301}]{1,3}", 1..6),
            value in "([aAbBéÉeσςΣkKKſsS+ _1猫🦉か]|[ek]\u{301}|か\u{3099}|\u{323}|\u{FE0F}|\u{200D}|하|\u{11ab}){0,12}",
            whole_word: bool,
            ignore_case: bool,
        ) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let rule = rule(&words, whole_word, ignore_case);
            let found = find(&rule, &value);
            let composed: Vec<(usize, String)> =
                found.iter().map(|&(word, text)| (word, text.nfc().collect())).collect();
            let expected = expected(&words, &value, whole_word, ignore_case);
            let words = |found: &[(usize, String)]| found.iter().map(|found| found.0).collect::<Vec<_>>();
            prop_assert_eq!(words(&composed), words(&expected));
            if is_composed(&value) {
                prop_assert_eq!(&composed, &expected);
            }
            for ((_, found), (_, expected)) in composed.iter().zip(&expected) {
                // A span holds whole characters with their marks, so it may hold more.
                prop_assert!(found.contains(expected), "{found:?} {expected:?}");
            }
            // The same of every equivalent value.
            let decomposed: String = value.nfd().collect();
            let again = find(&rule, &decomposed);
            prop_assert_eq!(again.len(), found.len());
        }
    }

    #[test]
    fn canonically_equivalent_texts_are_equal() {
        let cafe = rule(&["café"], true, true);
        assert_eq!(find(&cafe, "un cafe\u{301}!"), [(0, "cafe\u{301}")]);
        assert_eq!(find(&cafe, "un CAFÉ!"), [(0, "CAFÉ")]);
        let cafe = rule(&["cafe\u{301}"], true, false);
        assert_eq!(find(&cafe, "un café"), [(0, "café")]);
        for whole_word in [true, false] {
            let cafe = rule(&["cafe", "j"], whole_word, true);
            assert_eq!(find(&cafe, "café cafe\u{301}"), []);
        }
        let owl = rule(&["올빼미", "ệ"], true, true);
        let value = "올빼미, e\u{302}\u{323}";
        let decomposed: String = value.nfd().collect();
        assert_eq!(find(&owl, &decomposed), [(0, &decomposed[..21]), (1, &decomposed[23..])]);
        assert_eq!(find(&rule(&["K", "Å"], true, false), "\u{212A}\u{212B} \u{212A}").len(), 1);
    }

    #[test]
    fn words_in_texts_without_spaces_and_beside_emoji() {
        let owls = rule(&["owl", "猫头鹰", "🦉"], true, true);
        for value in
            ["我喜欢猫头鹰。", "これはowlです", "🦉\u{FE0F}", "owls🦉", "🦉1", "👩\u{200D}🦉"]
        {
            assert_eq!(find(&owls, value).len(), 1, "{value}");
        }
        for value in ["owls", "éowl", "owl\u{303}", "猫头\u{E0100}鹰"] {
            assert_eq!(find(&owls, value), [], "{value}");
        }
    }
}
