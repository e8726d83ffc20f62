//! Characters that nobody sees, and the few places where Unicode says that they belong.
//!
//! Invisible are all of `Default_Ignorable_Code_Point` (zero-width characters, variation selectors,
//! tag characters, fillers, the soft hyphen, the byte order mark …), all of `Bidi_Control`, and the
//! annotation characters U+FFF9 to U+FFFB. Any of these can hide a text in another; variation
//! selectors and tag characters spell out whole ones. They belong only here:
//!
//! * One U+FE0E or U+FE0F directly after a character that has such a variation sequence
//!   (emoji-variation-sequences.txt).
//! * U+200D within a recommended emoji sequence (emoji-zwj-sequences.txt). The emoji-style selectors
//!   of a sequence may be left out, as emoji-test.txt has it.
//! * Tag characters directly after U+1F3F4, if they are a subdivision of CLDR and the cancel tag:
//!   the flag of England, but no other text.
//! * One U+200C or U+200D between two letters (or marks) of scripts that join letters or have
//!   conjuncts, and after a virama of these, where old spellings of Malayalam have it at the end of
//!   a word (RFC 5892, appendix A).
//!
//! No other place is one: not for the word-separating U+200B of Khmer, not for the direction marks
//! of Hebrew, not for the selectors of Han, Mongolian and mathematics. Which of those belong is a
//! matter of registries with tens of thousands of entries, each of them a choice in which to hide
//! something.

use std::collections::HashSet;
use std::sync::LazyLock;

use unicode_normalization::char::canonical_combining_class;

use super::Set;

/// The complete set.
const INVISIBLE: &str = r"[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\x{FFF9}-\x{FFFB}]";

/// The characters of emoji-variation-sequences.txt (15.0). Each takes both selectors.
const VARYING: &str = r"(?x)[
    \#*0-9\x{A9}\x{AE}\x{203C}\x{2049}\x{2122}\x{2139}\x{2194}-\x{2199}\x{21A9}-\x{21AA}
    \x{231A}-\x{231B}\x{2328}\x{23CF}\x{23E9}-\x{23EA}\x{23ED}-\x{23EF}\x{23F1}-\x{23F3}
    \x{23F8}-\x{23FA}\x{24C2}\x{25AA}-\x{25AB}\x{25B6}\x{25C0}\x{25FB}-\x{25FE}\x{2600}-\x{2604}
    \x{260E}\x{2611}\x{2614}-\x{2615}\x{2618}\x{261D}\x{2620}\x{2622}-\x{2623}\x{2626}\x{262A}
    \x{262E}-\x{262F}\x{2638}-\x{263A}\x{2640}\x{2642}\x{2648}-\x{2653}\x{265F}-\x{2660}\x{2663}
    \x{2665}-\x{2666}\x{2668}\x{267B}\x{267E}-\x{267F}\x{2692}-\x{2697}\x{2699}\x{269B}-\x{269C}
    \x{26A0}-\x{26A1}\x{26A7}\x{26AA}-\x{26AB}\x{26B0}-\x{26B1}\x{26BD}-\x{26BE}\x{26C4}-\x{26C5}
    \x{26C8}\x{26CF}\x{26D1}\x{26D3}-\x{26D4}\x{26E9}-\x{26EA}\x{26F0}-\x{26F5}\x{26F7}-\x{26FA}
    \x{26FD}\x{2702}\x{2708}-\x{2709}\x{270C}-\x{270D}\x{270F}\x{2712}\x{2714}\x{2716}\x{271D}
    \x{2721}\x{2733}-\x{2734}\x{2744}\x{2747}\x{2753}\x{2757}\x{2763}-\x{2764}\x{27A1}
    \x{2934}-\x{2935}\x{2B05}-\x{2B07}\x{2B1B}-\x{2B1C}\x{2B50}\x{2B55}\x{3030}\x{303D}\x{3297}
    \x{3299}\x{1F004}\x{1F170}-\x{1F171}\x{1F17E}-\x{1F17F}\x{1F202}\x{1F21A}\x{1F22F}\x{1F237}
    \x{1F30D}-\x{1F30F}\x{1F315}\x{1F31C}\x{1F321}\x{1F324}-\x{1F32C}\x{1F336}\x{1F378}\x{1F37D}
    \x{1F393}\x{1F396}-\x{1F397}\x{1F399}-\x{1F39B}\x{1F39E}-\x{1F39F}\x{1F3A7}
    \x{1F3AC}-\x{1F3AE}\x{1F3C2}\x{1F3C4}\x{1F3C6}\x{1F3CA}-\x{1F3CE}\x{1F3D4}-\x{1F3E0}\x{1F3ED}
    \x{1F3F3}\x{1F3F5}\x{1F3F7}\x{1F408}\x{1F415}\x{1F41F}\x{1F426}\x{1F43F}\x{1F441}-\x{1F442}
    \x{1F446}-\x{1F449}\x{1F44D}-\x{1F44E}\x{1F453}\x{1F46A}\x{1F47D}\x{1F4A3}\x{1F4B0}\x{1F4B3}
    \x{1F4BB}\x{1F4BF}\x{1F4CB}\x{1F4DA}\x{1F4DF}\x{1F4E4}-\x{1F4E6}\x{1F4EA}-\x{1F4ED}\x{1F4F7}
    \x{1F4F9}-\x{1F4FB}\x{1F4FD}\x{1F508}\x{1F50D}\x{1F512}-\x{1F513}\x{1F549}-\x{1F54A}
    \x{1F550}-\x{1F567}\x{1F56F}-\x{1F570}\x{1F573}-\x{1F579}\x{1F587}\x{1F58A}-\x{1F58D}
    \x{1F590}\x{1F5A5}\x{1F5A8}\x{1F5B1}-\x{1F5B2}\x{1F5BC}\x{1F5C2}-\x{1F5C4}\x{1F5D1}-\x{1F5D3}
    \x{1F5DC}-\x{1F5DE}\x{1F5E1}\x{1F5E3}\x{1F5E8}\x{1F5EF}\x{1F5F3}\x{1F5FA}\x{1F610}\x{1F687}
    \x{1F68D}\x{1F691}\x{1F694}\x{1F698}\x{1F6AD}\x{1F6B2}\x{1F6B9}-\x{1F6BA}\x{1F6BC}\x{1F6CB}
    \x{1F6CD}-\x{1F6CF}\x{1F6E0}-\x{1F6E5}\x{1F6E9}\x{1F6F0}\x{1F6F3}
]";

/// Scripts whose letters join or make conjuncts, which U+200C and U+200D are there to steer.
const JOINING: &str = r"(?x)[
    \p{scx=Adlam}\p{scx=Arabic}\p{scx=Hanifi_Rohingya}\p{scx=Mandaic}\p{scx=Mongolian}\p{scx=Nko}
    \p{scx=Phags_Pa}\p{scx=Syriac}
    \p{scx=Balinese}\p{scx=Bengali}\p{scx=Chakma}\p{scx=Devanagari}\p{scx=Grantha}
    \p{scx=Gujarati}\p{scx=Gurmukhi}\p{scx=Javanese}\p{scx=Kannada}\p{scx=Khmer}
    \p{scx=Malayalam}\p{scx=Meetei_Mayek}\p{scx=Myanmar}\p{scx=Newa}\p{scx=Oriya}
    \p{scx=Saurashtra}\p{scx=Sinhala}\p{scx=Sundanese}\p{scx=Tai_Tham}\p{scx=Tamil}
    \p{scx=Telugu}\p{scx=Tibetan}
&&[\p{L}\p{M}]--\p{Default_Ignorable_Code_Point}]";

const NON_JOINER: char = '\u{200C}';
const JOINER: char = '\u{200D}';
const EMOJI_STYLE: char = '\u{FE0F}';
const BLACK_FLAG: char = '\u{1F3F4}';
const CANCEL_TAG: char = '\u{E007F}';

/// No recommended emoji sequence joins more than half of this.
const MAX_JOINED: usize = 8;
/// No subdivision has more characters than this, with the cancel tag.
const MAX_TAGS: usize = 8;

/// The subdivisions of CLDR 41, regular and deprecated ones (common/validity/subdivision.xml):
/// `ad02~8` is `ad02` to `ad08`.
static SUBDIVISIONS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut all = HashSet::new();
    for entry in include_str!("subdivisions.txt").split_ascii_whitespace() {
        let (first, last) = entry.split_once('~').unwrap_or((entry, &entry[entry.len() - 1..]));
        let (prefix, from) = first.split_at(first.len() - 1);
        for c in from.chars().flat_map(|from| last.chars().flat_map(move |last| from..=last)) {
            all.insert(format!("{prefix}{c}"));
        }
    }
    all
});

/// Tables that say which characters are invisible, and where they belong.
pub(crate) struct Invisible {
    characters: Set,
    varying: Set,
    joining: Set,
    pictographs: Set,
    modifiers: Set,
}

impl Invisible {
    pub fn new() -> Invisible {
        Invisible {
            characters: Set::new(INVISIBLE),
            varying: Set::new(VARYING),
            joining: Set::new(JOINING),
            pictographs: Set::new(r"\p{Extended_Pictographic}"),
            modifiers: Set::new(r"\p{Emoji_Modifier}"),
        }
    }

    pub fn characters(&self) -> &Set {
        &self.characters
    }

    /// Is the character at this place invisible, and does not belong there?
    ///
    /// It looks at a few characters around the place, however long the text is.
    pub fn is_stranger(&self, text: &str, at: usize, c: char) -> bool {
        self.characters.contains(c) && !self.belongs(text, at, c)
    }

    fn belongs(&self, text: &str, at: usize, c: char) -> bool {
        let before = text[..at].chars().next_back();
        match c {
            '\u{FE0E}' | EMOJI_STYLE => before.is_some_and(|before| self.varying.contains(before)),
            NON_JOINER | JOINER => {
                let after = text[at + c.len_utf8()..].chars().next();
                let joins = |c: Option<char>| c.is_some_and(|c| self.joining.contains(c));
                let is_virama = |c: char| canonical_combining_class(c) == 9;
                joins(before) && (joins(after) || before.is_some_and(is_virama))
                    || c == JOINER && self.joins_emoji(text, at)
            }
            '\u{E0020}'..=CANCEL_TAG => is_in_flag(text, at),
            _ => false,
        }
    }

    /// Is the joiner at this place within a recommended sequence, and nothing joined to that?
    fn joins_emoji(&self, text: &str, at: usize) -> bool {
        let mut start = at;
        for _ in 0..MAX_JOINED {
            let Some(before) = self.element_before(&text[..start]) else { return false };
            start = before;
            let Some(rest) = text[..start].strip_suffix(JOINER) else { break };
            start = rest.len();
        }
        let mut end = at;
        for _ in 0..MAX_JOINED {
            let Some(rest) = text[end..].strip_prefix(JOINER) else { break };
            let Some(length) = self.element(rest) else { return false };
            end = text.len() - rest.len() + length;
        }
        emojis::get(&text[start..end]).is_some()
    }

    /// The length of what a sequence joins: a pictograph, with a selector or a skin tone.
    fn element(&self, text: &str) -> Option<usize> {
        let mut chars = text.chars();
        let base = chars.next().filter(|&c| self.pictographs.contains(c))?;
        let after = chars.next().filter(|&c| self.ends_element(c));
        Some(base.len_utf8() + after.map_or(0, char::len_utf8))
    }

    /// Where the element starts with which the text ends.
    fn element_before(&self, text: &str) -> Option<usize> {
        let mut chars = text.char_indices().rev();
        let last = chars.next()?;
        let base = if self.ends_element(last.1) { chars.next()? } else { last };
        self.pictographs.contains(base.1).then_some(base.0)
    }

    fn ends_element(&self, c: char) -> bool {
        c == EMOJI_STYLE || self.modifiers.contains(c)
    }
}

/// Is the tag character at this place in the flag of a subdivision?
fn is_in_flag(text: &str, at: usize) -> bool {
    let start = text[..at].char_indices().rev().take(MAX_TAGS).find(|(_, c)| *c == BLACK_FLAG);
    let Some((start, _)) = start else { return false };
    let tags = &text[start + BLACK_FLAG.len_utf8()..];
    let mut name = String::new();
    for (offset, c) in tags.char_indices().take(MAX_TAGS) {
        if c == CANCEL_TAG {
            return start + BLACK_FLAG.len_utf8() + offset >= at && SUBDIVISIONS.contains(&name);
        }
        // A tag character is an ASCII character, elsewhere.
        let ascii = u32::from(c).checked_sub(0xE0000).and_then(char::from_u32);
        let Some(ascii) = ascii.filter(char::is_ascii) else { return false };
        name.push(ascii);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The invisible characters of a text that do not belong.
    fn strangers(text: &str) -> Vec<char> {
        static INVISIBLE: LazyLock<Invisible> = LazyLock::new(Invisible::new);
        let invisible = &*INVISIBLE;
        let all = text.char_indices().filter(|&(at, c)| invisible.is_stranger(text, at, c));
        all.map(|(_, c)| c).collect()
    }

    fn tags(text: &str) -> String {
        text.chars().map(|c| char::from_u32(0xE0000 + c as u32).unwrap()).collect()
    }

    #[test]
    fn all_recommended_emoji_belong() {
        let mut joined = 0;
        for emoji in emojis::iter() {
            let all = emoji.skin_tones().into_iter().flatten().chain([emoji]);
            for emoji in all.map(|emoji| emoji.as_str()) {
                assert_eq!(strangers(emoji), [], "{emoji}");
                assert_eq!(strangers(&format!("owl{emoji}{emoji} 1{emoji}a")), [], "{emoji}");
                joined += usize::from(emoji.contains(JOINER));
                // Without its selectors, as keyboards of old wrote them.
                let plain = emoji.replace(EMOJI_STYLE, "");
                assert_eq!(strangers(&plain), [], "{emoji}");
            }
        }
        assert!(joined > 1000, "{joined}");
    }

    #[test]
    fn other_places_do_not() {
        for text in [
            "owl\u{FE0F}",
            "\u{FE0F}",
            "🦉\u{FE0F}", // has no such sequence
            "👍🏽\u{FE0F}", // nor has a skin tone
            "漢\u{E0100}",
            "≨\u{FE00}",
            "ᠠ\u{180B}",
            "owl\u{200D}s",
            "🦉\u{200D}🦉", // no recommended sequence
            "👩\u{200D}",
            "\u{200D}👩",
            "👩 \u{200D}⚕",
            "か\u{200C}な",
            "ก\u{200D}ก",
            "می \u{200C}خواهم",
            "ה\u{200E}",
            "ខ\u{200B}ខ",
            "a\u{61C}",
            "a\u{34F}b",
            "\u{3164}",
            "\u{FFF9}",
            "\u{E0001}",
        ] {
            assert_eq!(strangers(text).len(), 1, "{text:?}");
        }
        // One selector each: what follows is a text of its own.
        assert_eq!(strangers("❤\u{FE0F}\u{FE0F}"), ['\u{FE0F}']);
        assert_eq!(strangers("❤\u{FE0E}\u{FE0F}"), ['\u{FE0F}']);
        assert_eq!(strangers("می\u{200C}\u{200C}خواهم").len(), 2);
        // What is joined to a sequence makes it another one, which nobody recommends.
        assert_eq!(strangers("👩\u{200D}⚕\u{FE0F}\u{200D}🦉").len(), 2);
        assert_eq!(strangers(&"👩\u{200D}".repeat(100)).len(), 100);
    }

    #[test]
    fn scripts_that_join() {
        for text in [
            "می\u{200C}خواهم",
            "خانه\u{200C}ها",
            "क्\u{200D}ष",
            "क्\u{200C}ष",
            "র\u{200D}্য",
            "അവന്\u{200D} ",
            "ශ්\u{200D}රී",
        ] {
            assert_eq!(strangers(text), [], "{text:?}");
        }
    }

    #[test]
    fn flags_of_subdivisions() {
        let england = format!("🏴{}\u{E007F}", tags("gbeng"));
        assert_eq!(strangers(&england), []);
        assert_eq!(strangers(&format!("{england}{england}owl")), []);
        assert_eq!(strangers(&format!("🏴{}\u{E007F}", tags("ustx"))), []);
        assert_eq!(strangers(&format!("🏴{}\u{E007F}", tags("ad08"))), []);
        for text in ["owls", "gbengowls", "usxx", "", "GBENG", "us-tx", &"owls are best ".repeat(9)]
        {
            let flag = format!("🏴{}\u{E007F}", tags(text));
            assert_eq!(strangers(&flag).len(), text.len() + 1, "{text}");
        }
        assert_eq!(strangers(&format!("🏴{}", tags("gbeng"))).len(), 5);
        assert_eq!(strangers(&format!("🦉{}\u{E007F}", tags("gbeng"))).len(), 6);
        assert_eq!(strangers(&format!("{england}{}\u{E007F}", tags("a"))).len(), 2);
        assert_eq!(strangers(&format!("{england}\u{E007F}")), ['\u{E007F}']);
    }
}
