//! What makes two values the same text: their words, joined by single spaces, after NFKC_Casefold of
//! Unicode (chapter 3.13): compatibility characters are what they stand for, case is folded in full
//! (ς = σ, ß = ss), and default-ignorable characters, which nobody sees, vanish.
//!
//! The steps are those of RefinedWeb (Penedo et al. 2023) and of datatrove's
//! `simplify_text`: Unicode normalisation, lower case, no punctuation, single spaces. Three of their
//! steps are left out, because they are meant for web pages and would call different answers equal:
//!
//! * Digits stay. datatrove makes every number a 0; all number sequences would be one.
//! * Punctuation separates words instead of vanishing, so `1,2` is not `12`.
//! * Accents and symbols (`+`, `=`, `<`, emoji: Unicode's S categories) stay: `año` is not `ano`, and
//!   `2+3` is not `2<3`. Hence NFKC instead of NFD. A hyphen is punctuation: `-5` is `5`.
//!
//! Scripts that write no spaces have no words to find without a dictionary; there, each character
//! counts as a word.

use std::sync::LazyLock;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use crate::unicode::words::UNSPACED;
use crate::unicode::{Bits, Set};

/// Punctuation, white space, control and format characters.
const SEPARATORS: &str = r"[\p{P}\p{Z}\s\p{Cc}\p{Cf}]";
const IGNORABLE: &str = r"\p{Default_Ignorable_Code_Point}";

/// Characters that vanish, or fold to something else than their lower case: the text around them
/// takes longer.
static INVOLVED: LazyLock<Bits> = LazyLock::new(|| {
    let ignorable = Set::new(IGNORABLE);
    // No letters with cases are further back.
    let cased = ('\u{80}'..'\u{20000}').filter(|&c| !fold(c).eq([lower(c)])).map(|c| (c, c));
    Bits::new(&cased.chain(ignorable.ranges().iter().copied()).collect::<Vec<_>>())
});

/// Tables that normalisation looks up.
pub struct Normalizer {
    /// What becomes of an ASCII character: its lower case, or a space.
    ascii: [u8; 128],
    separators: Set,
    unspaced: Set,
    ignorable: Set,
}

impl Normalizer {
    pub fn new() -> Normalizer {
        let separators = Set::new(SEPARATORS);
        let ascii = std::array::from_fn(|code| {
            let c = char::from(code as u8);
            if separators.contains(c) { b' ' } else { c.to_ascii_lowercase() as u8 }
        });
        Normalizer {
            ascii,
            separators,
            unspaced: Set::new(&format!(r"[[{UNSPACED}]&&[\p{{L}}\p{{M}}]]")),
            ignorable: Set::new(IGNORABLE),
        }
    }

    /// Puts the words of the value into `words`, as UTF-8, with one space between two of them.
    ///
    /// Nothing composes with an ASCII character before it, so each is a boundary of NFKC: a run of
    /// other characters is normalised together with the ASCII character before it, and the rest is
    /// looked up in a table.
    pub fn normalize(&self, value: &str, composed: &mut String, words: &mut Vec<u8>) {
        words.clear();
        let mut rest = value;
        while let Some(at) = rest.bytes().position(|byte| !byte.is_ascii()) {
            let start = at.saturating_sub(1);
            let length = rest[at..].bytes().position(|byte| byte.is_ascii());
            let end = length.map_or(rest.len(), |length| at + length);
            self.push_ascii(&rest[..start], words);
            self.push(&rest[start..end], composed, words);
            rest = &rest[end..];
        }
        self.push_ascii(rest, words);
        if words.last() == Some(&b' ') {
            words.pop();
        }
    }

    /// Writes every byte and only then decides whether to keep it: branches on where words end are
    /// not predictable.
    fn push_ascii(&self, text: &str, words: &mut Vec<u8>) {
        let mut length = words.len();
        let mut after_space = words.last().is_none_or(|&last| last == b' ');
        words.resize(length + text.len(), 0);
        for byte in text.bytes() {
            let byte = self.ascii[usize::from(byte & 0x7F)];
            words[length] = byte;
            let is_space = byte == b' ';
            length += usize::from(!(is_space & after_space));
            after_space = is_space;
        }
        words.truncate(length);
    }

    fn push(&self, text: &str, composed: &mut String, words: &mut Vec<u8>) {
        if is_nfkc_quick(text.chars()) == IsNormalized::Yes && INVOLVED.next(text, 0).is_none() {
            text.chars().for_each(|c| self.push_char(c, lower(c), words));
        } else {
            self.compose(text, composed);
            composed.chars().for_each(|c| self.push_char(c, c, words));
        }
    }

    /// NFKC_Casefold: two texts are the same after it if they are after Unicode's.
    pub fn compose(&self, text: &str, composed: &mut String) {
        let visible = text.chars().filter(|&c| !self.ignorable.contains(c));
        composed.clear();
        // Letters that were folded may compose with marks that others would not compose with.
        composed.extend(visible.nfkc().flat_map(fold).nfkc());
    }

    #[inline]
    fn push_char(&self, c: char, lower: char, words: &mut Vec<u8>) {
        if c.is_ascii() {
            match self.ascii[c as usize] {
                b' ' => end_word(words),
                byte => words.push(byte),
            }
        } else if self.separators.contains(c) {
            end_word(words);
        } else {
            let stands_alone = self.unspaced.contains(c);
            if stands_alone {
                end_word(words);
            }
            words.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
            if stands_alone {
                end_word(words);
            }
        }
    }
}

/// Full case folding, by way of upper case. What Unicode folds to the same is the same after it, but
/// the letter may be another: Unicode folds Cherokee to upper case.
fn fold(c: char) -> impl Iterator<Item = char> {
    // Its upper case is I, but it is not a case variant of i.
    let (folded, dotless) = if c == 'ı' { (None, Some(c)) } else { (Some(c), None) };
    let upper = folded.into_iter().flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).chain(dotless)
}

/// What a character folds to, if that is one.
fn lower(c: char) -> char {
    if c == 'ς' { 'σ' } else { c.to_lowercase().next().unwrap_or(c) }
}

fn end_word(words: &mut Vec<u8>) {
    if words.last().is_some_and(|&last| last != b' ') {
        words.push(b' ');
    }
}

/// The versions of the Unicode tables that a normalised text depends on.
pub fn unicode_version() -> String {
    let (major, minor, _) = char::UNICODE_VERSION;
    let (nfkc_major, nfkc_minor, _) = unicode_normalization::UNICODE_VERSION;
    // The tables of regex-syntax name no version; its minor releases move them.
    format!("{major}.{minor}/{nfkc_major}.{nfkc_minor}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalize(value: &str) -> String {
        let mut words = b"left over".to_vec();
        Normalizer::new().normalize(value, &mut "left over".to_owned(), &mut words);
        String::from_utf8(words).unwrap()
    }

    #[test]
    fn no_letter_with_cases_is_further_back() {
        assert_eq!(('\u{20000}'..=char::MAX).find(|&c| !fold(c).eq([c])), None);
    }

    #[test]
    fn keeps_words_and_drops_the_rest() {
        for (value, expected) in [
            ("", ""),
            (" \t\n..!", ""),
            ("  The  OWL,\n(it)  hoots. ", "the owl it hoots"),
            ("don't", "don t"),
            ("don’t", "don t"),
            ("1,2", "1 2"),
            ("12", "12"),
            ("-5", "5"),
            ("2+3 = 5", "2+3 = 5"),
            ("2<3", "2<3"),
            ("a\0b\u{200B}c\u{FEFF}", "a bc"),
            ("co\u{AD}operate", "cooperate"),
            ("e\u{200D}\u{301}\u{34F}", "é"),
            ("❤\u{FE0F} ❤", "❤ ❤"),
            ("Straße STRASSE", "strasse strasse"),
            ("ΔΡΟΜΟΣ δρομος", "δρομοσ δρομοσ"),
            ("J\u{30C} ǰ", "ǰ ǰ"),
            ("ΑΙ ᾳ ᾼ", "αι αι αι"),
            ("Iı İ", "iı i\u{307}"),
            ("スーパー", "ス ー パ ー"),
            ("ÉTÉ, Año", "été año"),
            ("E\u{301}te\u{301}", "été"),
            ("ﬁne ＡＢＣ，１２", "fine abc 12"),
            ("…owl…", "owl"),
            ("owl 🦉🦉!", "owl 🦉🦉"),
            ("ΣΟΦΙΑ", "σοφια"),
            ("你好，owl世界", "你 好 owl 世 界"),
            ("क्षमा करें।", "क्षमा करें"),
        ] {
            assert_eq!(normalize(value), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn is_idempotent_and_ignores_case_and_spacing(
            words in prop::collection::vec("[a-zA-Z0-9+=éÉß你]{1,4}", 0..8),
            gaps in prop::collection::vec("[ ,.;!\u{a0}\u{2014}]{1,3}", 9),
        ) {
            let plain = normalize(&words.join(" "));
            let mut value = String::new();
            for (index, word) in words.iter().enumerate() {
                value += &gaps[index];
                value += &word.to_uppercase().to_lowercase();
            }
            value += gaps.last().unwrap();
            prop_assert_eq!(normalize(&value), &*plain);
            prop_assert_eq!(normalize(&plain), plain);
        }

        /// The obvious normalisation: all characters at once, then words.
        #[test]
        fn runs_are_no_special_case(value in "([ -~]{0,4}[ éÅß\u{AD}\u{FE0F}Σςǰ\u{212B}e\u{301}\u{327}…ﬁ你が\u{3099}가\u{1161}＋１]{0,3}){0,6}") {
            let normalizer = Normalizer::new();
            let (mut composed, mut spaced) = (String::new(), String::new());
            normalizer.compose(&value, &mut composed);
            for c in composed.chars() {
                if normalizer.separators.contains(c) {
                    spaced.push(' ');
                } else if normalizer.unspaced.contains(c) {
                    spaced.extend([' ', c, ' ']);
                } else {
                    spaced.push(c);
                }
            }
            let expected: Vec<&str> = spaced.split(' ').filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(normalize(&value), expected.join(" "));
        }
    }
}
