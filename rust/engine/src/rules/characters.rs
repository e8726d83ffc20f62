//! What a value is written with: scripts, characters that nobody sees, and shares of characters and
//! words.
//!
//! Scripts are those of the property `Script` of Unicode, by their names (`Latin`, `Cyrillic`,
//! `Han`; `Latn` and `latin` will do), of the Unicode version that the regex rule has. Digits,
//! punctuation, spaces and emoji belong to `Common` and combining marks to `Inherited`, so these two
//! are in every list of allowed scripts. A character that is not assigned has no script and is in no
//! list.
//!
//! A control character is one of the category `Cc` other than tab, line feed and carriage return.
//! What is invisible, and where such a character belongs all the same, [`crate::unicode::invisible`]
//! says.
//!
//! Four of the shares are rules of the Gopher paper (Rae et al. 2021, arXiv:2112.11446, appendix
//! A1.1, "quality filtering"), whose bounds are: a mean word length from 3 to 10 characters; an
//! alphabetic character in at least 0.8 of the words; at most 0.1 hash signs for each word, and at
//! most 0.1 ellipses. A word is what whitespace separates, as in the `length` rule, and an ellipsis
//! is `…` or three dots. (Datatrove's `GopherQualityFilter` counts punctuation as words too, and
//! leaves it out of the mean length.) The share of non-ASCII characters is not from the paper.
//!
//! A value without words has no mean and no shares of words, and breaks none of these bounds; nor
//! does the empty value. The `length` rule is there to refuse them.

use regex_syntax::hir::{Class, HirKind};
use serde::Deserialize;

use super::finding::Finding;
use crate::unicode::invisible::Invisible;
use crate::unicode::{Bits, Set};

/// A value breaks this rule if it has a character that it must not have, or too large or too small
/// a share of some kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharactersSpec {
    /// Every character must be of one of these scripts, or of `Common` or `Inherited`. Any script
    /// is allowed if the list is empty.
    #[serde(default)]
    pub allow_scripts: Vec<String>,
    /// No character may be of one of these scripts.
    #[serde(default)]
    pub forbid_scripts: Vec<String>,
    /// No control characters but tab, line feed and carriage return.
    #[serde(default)]
    pub forbid_control: bool,
    /// No characters that nobody sees, but where Unicode says that they belong.
    #[serde(default)]
    pub forbid_invisible: bool,
    /// The largest share of characters that may be other than ASCII.
    #[serde(default)]
    pub max_non_ascii: Option<f64>,
    /// The smallest mean number of characters of a word.
    #[serde(default)]
    pub min_mean_word_length: Option<f64>,
    /// The largest mean number of characters of a word.
    #[serde(default)]
    pub max_mean_word_length: Option<f64>,
    /// The smallest share of words that may have an alphabetic character.
    #[serde(default)]
    pub min_alphabetic_words: Option<f64>,
    /// How many `#`, and how many ellipses, there may be for each word.
    #[serde(default)]
    pub max_symbol_word_ratio: Option<f64>,
}

/// A compiled [`CharactersSpec`].
pub struct Characters {
    /// What no value may contain; the index is the reason.
    forbidden: Vec<Set>,
    /// The reason after those: what no value may contain but where it belongs.
    invisible: Option<Invisible>,
    /// All of these together, if there are any.
    suspicious: Option<Bits>,
    /// The bounds on shares; their reasons come after those of `forbidden`.
    bounds: Vec<Bound>,
    /// Do the bounds need more than the number of ASCII and other characters?
    counts_words: bool,
    reasons: Vec<String>,
}

/// A bound on a share.
struct Bound {
    share: Share,
    limit: f64,
    is_minimum: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Share {
    NonAscii,
    MeanWordLength,
    AlphabeticWords,
    HashesPerWord,
    EllipsesPerWord,
}

/// What shares are made of.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    chars: usize,
    non_ascii: usize,
    words: usize,
    word_chars: usize,
    alphabetic_words: usize,
    hashes: usize,
    ellipses: usize,
}

impl Bound {
    fn is_broken_by(&self, counts: &Counts) -> bool {
        let (count, total) = match self.share {
            Share::NonAscii => (counts.non_ascii, counts.chars),
            Share::MeanWordLength => (counts.word_chars, counts.words),
            Share::AlphabeticWords => (counts.alphabetic_words, counts.words),
            Share::HashesPerWord => (counts.hashes, counts.words),
            Share::EllipsesPerWord => (counts.ellipses, counts.words),
        };
        let share = count as f64 / total as f64;
        total > 0 && if self.is_minimum { share < self.limit } else { share > self.limit }
    }
}

impl Characters {
    pub fn new(spec: &CharactersSpec) -> Result<Characters, String> {
        let script =
            |name: &String| script(name).ok_or_else(|| format!("`{name}` is not a Unicode script"));
        let mut forbidden = Vec::new();
        let mut reasons = Vec::new();
        if !spec.allow_scripts.is_empty() {
            let mut allowed = regex_syntax::hir::ClassUnicode::empty();
            for name in &spec.allow_scripts {
                allowed.union(&script(name)?);
            }
            for name in ["Common", "Inherited"] {
                allowed.union(&script(&name.to_owned())?);
            }
            allowed.negate();
            forbidden.push(Set::from(&allowed));
            reasons.push(format!("script other than {}", spec.allow_scripts.join(", ")));
        }
        for name in &spec.forbid_scripts {
            forbidden.push(Set::from(&script(name)?));
            reasons.push(format!("script {name}"));
        }
        if spec.forbid_control {
            forbidden.push(Set::new(r"[\p{Cc}--[\t\n\r]]"));
            reasons.push("control character".to_owned());
        }
        let invisible = spec.forbid_invisible.then(Invisible::new);
        if invisible.is_some() {
            reasons.push("invisible character".to_owned());
        }

        let mut bounds = Vec::new();
        for (key, limit, most, shares) in [
            (
                "max_non_ascii",
                spec.max_non_ascii,
                1.0,
                &[(Share::NonAscii, "too many non-ASCII characters")][..],
            ),
            (
                "min_mean_word_length",
                spec.min_mean_word_length,
                f64::MAX,
                &[(Share::MeanWordLength, "words too short on average")],
            ),
            (
                "max_mean_word_length",
                spec.max_mean_word_length,
                f64::MAX,
                &[(Share::MeanWordLength, "words too long on average")],
            ),
            (
                "min_alphabetic_words",
                spec.min_alphabetic_words,
                1.0,
                &[(Share::AlphabeticWords, "too few alphabetic words")],
            ),
            (
                "max_symbol_word_ratio",
                spec.max_symbol_word_ratio,
                f64::MAX,
                &[
                    (Share::HashesPerWord, "too many hash signs"),
                    (Share::EllipsesPerWord, "too many ellipses"),
                ],
            ),
        ] {
            let Some(limit) = limit else { continue };
            if !(0.0..=most).contains(&limit) {
                let most = if most == 1.0 { "from 0 to 1" } else { "0 or more" };
                return Err(format!("{key} is {limit}, expected {most}"));
            }
            for &(share, reason) in shares {
                bounds.push(Bound { share, limit, is_minimum: key.starts_with("min") });
                reasons.push(reason.to_owned());
            }
        }
        if let (Some(min), Some(max)) = (spec.min_mean_word_length, spec.max_mean_word_length)
            && max < min
        {
            let message =
                format!("max_mean_word_length {max} is less than min_mean_word_length {min}");
            return Err(message);
        }
        if reasons.is_empty() {
            return Err("forbids nothing and sets no bound".to_owned());
        }

        let sets = forbidden.iter().chain(invisible.as_ref().map(Invisible::characters));
        let ranges: Vec<_> = sets.flat_map(Set::ranges).collect();
        let suspicious = (!ranges.is_empty()).then(|| Bits::new(ranges));
        let counts_words = bounds.iter().any(|bound| bound.share != Share::NonAscii);
        Ok(Characters { forbidden, invisible, suspicious, bounds, counts_words, reasons })
    }

    pub fn breaks(&self, value: &str) -> bool {
        self.has_forbidden(value)
            || (!self.bounds.is_empty() && {
                let counts = self.count(value);
                self.bounds.iter().any(|bound| bound.is_broken_by(&counts))
            })
    }

    /// A character that must not be there has the span of the first run of such characters.
    pub fn find(&self, value: &str, findings: &mut Vec<Finding>) {
        let mut is_found = |reason, is_forbidden: &dyn Fn(usize, char) -> bool| {
            let mut chars = value.char_indices().skip_while(|&(at, c)| !is_forbidden(at, c));
            if let Some((start, _)) = chars.next() {
                let end = chars.find(|&(at, c)| !is_forbidden(at, c));
                let span = (start, end.map_or(value.len(), |(at, _)| at));
                findings.push(Finding { reason, span: Some(span) });
            }
        };
        for (reason, set) in self.forbidden.iter().enumerate() {
            is_found(reason, &|_, c| set.contains(c));
        }
        if let Some(invisible) = &self.invisible {
            is_found(self.forbidden.len(), &|at, c| invisible.is_stranger(value, at, c));
        }
        let counts = self.count(value);
        let reasons_before = self.reasons.len() - self.bounds.len();
        for (index, bound) in self.bounds.iter().enumerate() {
            if bound.is_broken_by(&counts) {
                findings.push(Finding { reason: reasons_before + index, span: None });
            }
        }
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    fn has_forbidden(&self, value: &str) -> bool {
        let Some(suspicious) = &self.suspicious else { return false };
        let mut from = 0;
        while let Some((at, c)) = suspicious.next(value, from) {
            let is_stranger = |invisible: &Invisible| invisible.is_stranger(value, at, c);
            if self.forbidden.iter().any(|set| set.contains(c))
                || self.invisible.as_ref().is_some_and(is_stranger)
            {
                return true;
            }
            from = at + c.len_utf8();
        }
        false
    }

    /// Counts what the bounds need.
    fn count(&self, value: &str) -> Counts {
        if !self.counts_words {
            let chars = value.chars().count();
            // Every character has one byte that does not continue another, and ASCII no other.
            let ascii = value.bytes().filter(u8::is_ascii).count();
            return Counts { chars, non_ascii: chars - ascii, ..Counts::default() };
        }
        let mut counts = if value.is_ascii() {
            let bytes = value.bytes();
            count_words(bytes.map(|byte| (is_space(byte), byte.is_ascii_alphabetic(), true)))
        } else {
            let chars = value.chars();
            count_words(chars.map(|c| (c.is_whitespace(), c.is_alphabetic(), c.is_ascii())))
        };
        if self.bounds.iter().any(|bound| bound.share == Share::HashesPerWord) {
            counts.hashes = memchr::memchr_iter(b'#', value.as_bytes()).count();
            counts.ellipses = count_ellipses(value.as_bytes());
        }
        counts
    }
}

/// `White_Space` of Unicode, for ASCII.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// From what each character is: whitespace, alphabetic, ASCII. Without branches, which text would
/// mispredict at every word.
fn count_words(chars: impl Iterator<Item = (bool, bool, bool)>) -> Counts {
    let mut counts = Counts::default();
    let mut in_word = false;
    let mut is_alphabetic_word = false;
    for (space, alphabetic, ascii) in chars {
        counts.chars += 1;
        counts.non_ascii += usize::from(!ascii);
        counts.word_chars += usize::from(!space);
        counts.words += usize::from(!space & !in_word);
        in_word = !space;
        counts.alphabetic_words += usize::from(alphabetic & !is_alphabetic_word);
        is_alphabetic_word = !space & (is_alphabetic_word | alphabetic);
    }
    counts
}

/// `…`, and three dots in a row; six dots are two.
fn count_ellipses(bytes: &[u8]) -> usize {
    let mut count = 0;
    let mut at = 0;
    while let Some(skipped) = memchr::memchr2(b'.', 0xE2, &bytes[at..]) {
        at += skipped;
        let found = bytes[at..].starts_with(b"...") || bytes[at..].starts_with("…".as_bytes());
        count += usize::from(found);
        at += if found { 3 } else { 1 };
    }
    count
}

/// The characters of a script. Names are matched like those of properties in regular expressions:
/// without regard to case, `_`, `-` and spaces.
fn script(name: &str) -> Option<regex_syntax::hir::ClassUnicode> {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_- ".contains(&byte)) {
        return None;
    }
    match regex_syntax::parse(&format!(r"\p{{Script={name}}}")).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rule(options: serde_json::Value) -> Result<Characters, String> {
        Characters::new(&serde_json::from_value(options).unwrap())
    }

    fn find(rule: &Characters, value: &str) -> Vec<(String, Option<String>)> {
        let mut findings = Vec::new();
        rule.find(value, &mut findings);
        assert_eq!(rule.breaks(value), !findings.is_empty(), "{value:?}");
        findings
            .iter()
            .map(|found| {
                let text = found.span.map(|(start, end)| value[start..end].to_owned());
                (rule.reasons()[found.reason].clone(), text)
            })
            .collect()
    }

    fn found(reason: &str, text: &str) -> (String, Option<String>) {
        (reason.to_owned(), Some(text.to_owned()))
    }

    fn is_broken(options: serde_json::Value, value: &str) -> bool {
        !find(&rule(options).unwrap(), value).is_empty()
    }

    #[test]
    fn scripts_are_allowed_or_forbidden() {
        let latin = rule(json!({"allow_scripts": ["Latin"]})).unwrap();
        for value in ["", "owl", "Été, ﬁ, e\u{301} – 3 €… 😀\n\0", "ª"] {
            assert_eq!(find(&latin, value), [], "{value:?}");
        }
        let other = "script other than Latin";
        assert_eq!(find(&latin, "an оwl"), [found(other, "о")]);
        assert_eq!(find(&latin, "привет мир"), [found(other, "привет")]);
        // Not assigned: no script at all.
        assert_eq!(find(&latin, "a\u{378}"), [found(other, "\u{378}")]);
        let both = rule(json!({
            "allow_scripts": ["Latin", "Han"], "forbid_scripts": ["Han", "Greek"],
        }))
        .unwrap();
        assert_eq!(
            find(&both, "a 漢字 αω"),
            [
                found("script other than Latin, Han", "αω"),
                found("script Han", "漢字"),
                found("script Greek", "αω"),
            ]
        );
        let ascii = rule(json!({"forbid_scripts": ["Latin"]})).unwrap();
        assert_eq!(find(&ascii, "12 owls"), [found("script Latin", "owls")]);
        assert_eq!(find(&ascii, "12 сов"), []);
        assert!(!is_broken(json!({"allow_scripts": ["latn", "old_italic"]}), "a\u{10300}"));
    }

    #[test]
    fn control_and_invisible_characters() {
        let control = rule(json!({"forbid_control": true})).unwrap();
        for c in ('\0'..='\u{3000}').chain(['\u{d7ff}', '\u{ffff}', char::MAX]) {
            let expected = c.is_control() && !matches!(c, '\t' | '\n' | '\r');
            assert_eq!(!find(&control, &c.to_string()).is_empty(), expected, "{c:?}");
        }
        let invisible = rule(json!({"forbid_invisible": true})).unwrap();
        let ignorable = Set::new(r"\p{Default_Ignorable_Code_Point}");
        for c in '\0'..=char::MAX {
            let expected = ignorable.contains(c)
                || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}');
            let mut value = "a".to_owned();
            value.push(c);
            assert_eq!(invisible.breaks(&value), expected, "{c:?}");
        }
        // One of these belongs after the other, so a run of them is no run of strangers.
        assert_eq!(
            find(&invisible, "❤\u{fe0f} ❤\u{fe0f}\u{fe0f}\u{200b} \u{fe0f}"),
            [found("invisible character", "\u{fe0f}\u{200b}")]
        );
        let both = rule(json!({"forbid_control": true, "forbid_invisible": true})).unwrap();
        assert_eq!(
            find(&both, "é\u{feff}\x1b\x7f\u{85}x"),
            [
                found("control character", "\x1b\x7f\u{85}"),
                found("invisible character", "\u{feff}"),
            ]
        );
    }

    #[test]
    fn shares_of_words() {
        let short = json!({"min_mean_word_length": 3});
        assert!(is_broken(short.clone(), "of an owl"));
        assert!(!is_broken(short.clone(), "the owl"));
        assert!(!is_broken(short, " \n"));
        let long = json!({"max_mean_word_length": 3.5});
        assert!(!is_broken(long.clone(), "été owls"));
        assert!(is_broken(long, "étés\u{2003}owls"));
        let alphabetic = json!({"min_alphabetic_words": 0.5});
        assert!(!is_broken(alphabetic.clone(), "a 1"));
        assert!(!is_broken(alphabetic.clone(), "é1- ..."));
        assert!(is_broken(alphabetic.clone(), "a1b 1 2"));
        assert!(!is_broken(alphabetic, ""));
        let symbols = rule(json!({"max_symbol_word_ratio": 0.5})).unwrap();
        assert_eq!(find(&symbols, "a# b... c…"), [("too many ellipses".to_owned(), None)]);
        assert_eq!(find(&symbols, "#a #b …"), [("too many hash signs".to_owned(), None)]);
        assert_eq!(find(&symbols, "a... .. b."), []);
        let non_ascii = json!({"max_non_ascii": 0.25});
        assert!(!is_broken(non_ascii.clone(), "étau"));
        assert!(is_broken(non_ascii.clone(), "éta"));
        assert!(!is_broken(non_ascii, ""));
    }

    #[test]
    fn options_that_make_no_sense() {
        let error = |options| rule(options).err().unwrap().to_string();
        assert_eq!(error(json!({})), "forbids nothing and sets no bound");
        for name in ["Latinn", "", "Latin}|a", "L", "^Latin"] {
            let message = format!("`{name}` is not a Unicode script");
            assert_eq!(error(json!({"forbid_scripts": [name]})), message);
            assert_eq!(error(json!({"allow_scripts": ["Latin", name]})), message);
        }
        assert_eq!(
            error(json!({"max_non_ascii": 1.5})),
            "max_non_ascii is 1.5, expected from 0 to 1"
        );
        assert_eq!(
            error(json!({"max_symbol_word_ratio": -1})),
            "max_symbol_word_ratio is -1, expected 0 or more"
        );
        assert_eq!(
            error(json!({"min_mean_word_length": 4, "max_mean_word_length": 3.5})),
            "max_mean_word_length 3.5 is less than min_mean_word_length 4"
        );
    }

    const ANY: &str = "[aZ1#. \n]{0,16}|[aé\u{301}жЖ漢あ😀1#.…\u{2003}\u{a0}\u{0}\u{7f}\u{200b}\u{378}\u{e000} ]{0,16}";

    proptest! {
        #[test]
        fn scripts_agree_with_regular_expressions(
            value in ANY,
            allow in prop::sample::subsequence(vec!["Latin", "Cyrillic", "Han", "Common"], 0..=3),
            forbid in prop::sample::subsequence(vec!["Latin", "Hiragana", "Inherited"], 0..=2),
            forbid_control: bool,
        ) {
            let options = json!({
                "allow_scripts": allow,
                "forbid_scripts": forbid,
                "forbid_control": forbid_control,
                "forbid_invisible": true,
            });
            let of = |scripts: &[&str]| -> String {
                scripts.iter().map(|name| format!(r"\p{{sc={name}}}")).collect()
            };
            let mut classes = Vec::new();
            if !allow.is_empty() {
                classes.push(format!(r"[^{}\p{{sc=Zyyy}}\p{{sc=Zinh}}]+", of(&allow)));
            }
            classes.extend(forbid.iter().map(|name| format!("[{}]+", of(&[name]))));
            if forbid_control {
                classes.push(r"[\p{Cc}--[\t\n\r]]+".to_owned());
            }
            classes.push(r"\u200b+".to_owned());
            let expected: Vec<_> = classes
                .iter()
                .filter_map(|class| {
                    let regex = regex_automata::meta::Regex::new(class).unwrap();
                    regex.find(&value).map(|found| Some(value[found.range()].to_owned()))
                })
                .collect();
            let found = find(&rule(options).unwrap(), &value);
            prop_assert_eq!(found.into_iter().map(|found| found.1).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn counts_agree_with_splitting(value in ANY) {
            let words: Vec<&str> = value.split_whitespace().collect();
            let expected = Counts {
                chars: value.chars().count(),
                non_ascii: value.chars().filter(|c| !c.is_ascii()).count(),
                words: words.len(),
                word_chars: words.iter().map(|word| word.chars().count()).sum(),
                alphabetic_words:
                    words.iter().filter(|word| word.contains(char::is_alphabetic)).count(),
                hashes: value.matches('#').count(),
                ellipses: value.matches("...").count() + value.matches('…').count(),
            };
            let all = rule(json!({"max_symbol_word_ratio": 0, "max_non_ascii": 0})).unwrap();
            prop_assert_eq!(all.count(&value), expected);
            let non_ascii = rule(json!({"max_non_ascii": 0.5})).unwrap();
            let counts = non_ascii.count(&value);
            prop_assert_eq!((counts.chars, counts.non_ascii), {
                (value.chars().count(), value.chars().filter(|c| !c.is_ascii()).count())
            });
            find(&rule(json!({
                "max_non_ascii": 0.5,
                "min_mean_word_length": 2,
                "max_mean_word_length": 3,
                "min_alphabetic_words": 0.5,
                "max_symbol_word_ratio": 0.5,
            })).unwrap(), &value);
        }
    }
}
