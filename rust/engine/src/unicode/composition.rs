//! Texts that are canonically equivalent: `é` in one character, or as `e` with a mark after it. What
//! compares them looks at the composed form (NFC), which most texts have already, and a text that
//! has it must not be slower for those that do not.

use std::sync::LazyLock;

use unicode_normalization::char::{canonical_combining_class, compose, decompose_canonical};
use unicode_normalization::{IsNormalized, is_nfc, is_nfc_quick};

use super::Bits;

/// No character is restless from here on.
const LAST: char = '\u{30000}';

/// The characters that composition may change, or may move: all others are as they are composed,
/// wherever they stand, and nothing before them depends on what comes after.
static RESTLESS: LazyLock<Bits> = LazyLock::new(|| {
    let all = ('\0'..LAST).filter(|&c| {
        canonical_combining_class(c) != 0 || is_nfc_quick([c].into_iter()) != IsNormalized::Yes
    });
    Bits::new(&all.map(|c| (c, c)).collect::<Vec<_>>())
});

/// Is the text composed? May say no of one that is: where a mark is kept from a letter that it
/// composes with by another mark.
pub(crate) fn is_composed(text: &str) -> bool {
    let restless = &*RESTLESS;
    let mut at = 0;
    while let Some((start, _)) = restless.next(text, at) {
        // What comes before is a starter.
        let mut starter = text[..start].chars().next_back();
        let mut last_class = starter.map_or(0, last_class_of);
        at = start;
        for c in text[start..].chars().take_while(|&c| restless.contains(c)) {
            let class = canonical_combining_class(c);
            let composes = match is_nfc_quick([c].into_iter()) {
                IsNormalized::Yes => false,
                IsNormalized::No => true,
                IsNormalized::Maybe => starter.is_some_and(|it| compose(it, c).is_some()),
            };
            if composes || class != 0 && class < last_class {
                return false;
            }
            if class == 0 {
                starter = Some(c);
            }
            last_class = last_class_of(c);
            at += c.len_utf8();
        }
    }
    true
}

/// The class of the last mark in a character: a mark of a lower one behind it moves before that.
fn last_class_of(c: char) -> u8 {
    let mut last = c;
    decompose_canonical(c, |part| last = part);
    canonical_combining_class(last)
}

/// Can it compose with what is before it, or move before that?
fn attaches(c: char) -> bool {
    let mut first = None;
    decompose_canonical(c, |part| {
        first.get_or_insert(part);
    });
    let first = first.unwrap_or(c);
    canonical_combining_class(first) != 0
        || is_nfc_quick([first].into_iter()) == IsNormalized::Maybe
}

/// The parts of a text that compose by themselves, and where they start: of what is composed already,
/// single characters.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut at, mut composed_until) = (0, 0);
    std::iter::from_fn(move || {
        let start = at;
        // Nothing attaches to it, and it to nothing.
        if text.as_bytes()[start..].first()?.is_ascii()
            && text.as_bytes().get(start + 1).is_none_or(u8::is_ascii)
        {
            at += 1;
            return Some((start, &text[start..at]));
        }
        let first = text[start..].chars().next()?.len_utf8();
        if start >= composed_until {
            let mut others = text[start + first..].char_indices();
            let end = others.find(|&(_, c)| !attaches(c));
            let end = end.map_or(text.len(), |(end, _)| start + first + end);
            if !is_nfc(&text[start..end]) {
                at = end;
                return Some((start, &text[start..end]));
            }
            composed_until = end;
        }
        at = start + first;
        Some((start, &text[start..at]))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    const TEXT: &str = "([aeqé가각각कখক\u{93C}\u{9BE}\u{9C7}\u{915}\u{301}\u{323}\u{345}\u{303}\u{338}=\u{212A}\u{F900}\u{958}か\u{3099}\u{FE0F}ς ]|\\PC){0,16}";

    #[test]
    fn no_other_character_is_restless() {
        let is_restless = |c: &char| {
            canonical_combining_class(*c) != 0
                || is_nfc_quick([*c].into_iter()) != IsNormalized::Yes
        };
        assert_eq!((LAST..=char::MAX).find(is_restless), None);
    }

    #[test]
    fn ordinary_texts_are_composed() {
        for text in [
            "",
            "owl",
            "été",
            "Ελληνικά",
            "сова",
            "猫頭鷹が",
            "올빼미",
            "क्षमा कीजिये",
            "বাংলা",
            "தமிழ்",
            "ไทยที่",
            "العَرَبِيَّة",
            "Tiếng Việt",
            "❤\u{FE0F}\u{200D}🔥",
            "q\u{323}\u{307}",
        ] {
            assert!(is_composed(text), "{text}");
        }
        for text in
            ["e\u{301}", "é\u{323}", "q\u{307}\u{323}", "\u{212A}", "가\u{11A8}", "か\u{3099}"]
        {
            assert!(!is_composed(text), "{text}");
        }
    }

    #[test]
    fn marks_without_end_take_no_time() {
        let text = "\u{303}\u{304}".repeat(1 << 17);
        assert!(is_composed(&text));
        assert_eq!(parts(&text).count(), 1 << 18);
        let text = "\u{304}\u{323}".repeat(1 << 17);
        assert!(!is_composed(&text));
        assert_eq!(parts(&text).count(), 1);
    }

    proptest! {
        #[test]
        fn agrees_with_composing(text in TEXT) {
            let composed: String = text.nfc().collect();
            if is_composed(&text) {
                prop_assert_eq!(&composed, &text);
            }
            let mut at = 0;
            let mut joined = String::new();
            for (start, part) in parts(&text) {
                prop_assert_eq!(start, at);
                at += part.len();
                joined.extend(part.nfc());
                prop_assert!(part.chars().count() == 1 || !is_nfc(part));
            }
            prop_assert_eq!(at, text.len());
            prop_assert_eq!(joined, composed);
        }
    }
}
