//! Where a word stands by itself.
//!
//! Between two characters is the edge of a word if one of them is a letter or digit and the other is
//! not. Two things make that useful for any text:
//!
//! * In scripts that write no spaces no edge can be seen, so each letter counts as a word: `猫` is a
//!   word in `白猫だ`, and so is `owl` in `これはowlです`. An edge is asked for only where the word
//!   itself starts or ends in a letter or digit of another script, so never beside an emoji or `+`.
//! * A combining mark, a variation selector or a joiner belongs to what stands before it. A letter
//!   with a mark is another letter, so `कम` is no word in `कमी`, and `cafe` none in `café` however it
//!   is written; a selector or a joiner changes no letter.

use std::sync::LazyLock;

use super::Set;

/// Scripts that write no spaces between words.
pub(crate) const UNSPACED: &str = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}";

struct Tables {
    /// Letters and digits of scripts that write spaces.
    spaced: Set,
    /// Letters and digits of those that do not.
    unspaced: Set,
    /// `_` and its like: no letters, but no edge of a word either.
    connectors: Set,
    marks: Set,
    /// What belongs to the character before it and does not change it.
    attached: Set,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let letters = r"\p{L}\p{Nd}\p{Nl}";
    Tables {
        spaced: Set::new(&format!("[[{letters}]--[{UNSPACED}]]")),
        unspaced: Set::new(&format!("[[{letters}]&&[{UNSPACED}]]")),
        connectors: Set::new(r"\p{Pc}"),
        marks: Set::new(r"[\p{M}--\p{Variation_Selector}]"),
        attached: Set::new(r"[\p{Variation_Selector}\p{Join_Control}]"),
    }
});

/// Does the word that this UTF-8 text has from `start` to `end` stand by itself? It looks at the text
/// around the word only, so that many words of a long text take no time.
pub(crate) fn is_whole_word(text: &[u8], start: usize, end: usize) -> bool {
    let word = &text[start..end];
    if chars(word).next().is_some_and(is_spaced) {
        let before = chars_reversed(&text[..start]).find(|&c| !is_attached(c) && !is_mark(c));
        if before.is_some_and(goes_on) {
            return false;
        }
    }
    let last = chars_reversed(word).find(|&c| !is_attached(c) && !is_mark(c));
    let Some(last) = last.filter(|&c| is_spaced(c) || is_unspaced(c)) else { return true };
    match chars(&text[end..]).find(|&c| !is_attached(c)) {
        Some(next) => !(is_mark(next) || is_spaced(last) && goes_on(next)),
        None => true,
    }
}

fn chars(mut text: &[u8]) -> impl Iterator<Item = char> {
    std::iter::from_fn(move || {
        let length = text.first()?.leading_ones().max(1) as usize;
        let (first, rest) = text.split_at_checked(length)?;
        text = rest;
        std::str::from_utf8(first).ok()?.chars().next()
    })
}

fn chars_reversed(mut text: &[u8]) -> impl Iterator<Item = char> {
    std::iter::from_fn(move || {
        let start = text.iter().rposition(|byte| byte & 0xC0 != 0x80)?;
        let (rest, last) = text.split_at(start);
        text = rest;
        std::str::from_utf8(last).ok()?.chars().next()
    })
}

fn is_spaced(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { TABLES.spaced.contains(c) }
}

fn is_unspaced(c: char) -> bool {
    !c.is_ascii() && TABLES.unspaced.contains(c)
}

/// Does a word of a script with spaces that reaches this character not end there?
fn goes_on(c: char) -> bool {
    is_spaced(c) || c == '_' || !c.is_ascii() && TABLES.connectors.contains(c)
}

fn is_mark(c: char) -> bool {
    !c.is_ascii() && TABLES.marks.contains(c)
}

fn is_attached(c: char) -> bool {
    !c.is_ascii() && TABLES.attached.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is the part in brackets a whole word of the text around it?
    fn is_word(text: &str) -> bool {
        let start = text.find('[').unwrap();
        let text = text.replace('[', "");
        let end = text.find(']').unwrap();
        is_whole_word(text.replace(']', "").as_bytes(), start, end)
    }

    #[test]
    fn edges() {
        for text in [
            "an [owl].",
            "[owl]",
            "[c++]11",
            "x[.net]",
            "これは[owl]です",
            "我喜欢[猫头鹰]。",
            "スーパー[owl]",
            "[猫]かわいい",
            "นก[นกฮูก]ตัว",
            "[owl]🦉",
            "🦉[owl]",
            "1[🦉]s",
            "[🦉]\u{FE0F}",
            "a[❤]\u{FE0F}\u{200D}🔥",
            "🦉\u{FE0F}[owl]",
            "[owl]\u{FE0F} ",
            "[owl]\u{200D}",
            "猫\u{E0100}[owl]猫",
            "ที่[owl]",
            "y[_x]",
            "[x_]y",
            "[कमी] ",
            "[葛\u{E0100}]城",
            "[①]1",
        ] {
            assert!(is_word(text), "{text}");
        }
        for text in [
            "b[owl]",
            "[owl]s",
            "[owl]_",
            "_[owl]",
            "1[owl]",
            "é[owl]",
            "e\u{301}[owl]",
            "[owl]\u{303}",
            "[owl]\u{FE0F}s",
            "[owl]\u{200D}s",
            "a\u{200D}[owl]",
            "[कम]ी",
            "[می]\u{200C}خواهم",
            "[올빼미]가",
            "[ท]ี่",
            "[owl]‿x",
            "[x\u{301}]y",
        ] {
            assert!(!is_word(text), "{text}");
        }
    }
}
