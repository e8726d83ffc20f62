//! What Unicode says of characters, for the rules that ask about text.

pub(crate) mod composition;
pub(crate) mod invisible;
pub(crate) mod words;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// Ranges of characters, sorted, neither overlapping nor touching.
pub(crate) struct Set(Vec<(char, char)>);

impl Set {
    /// The set that a class of a regular expression names; for constants of this crate.
    pub fn new(class: &str) -> Set {
        let hir = regex_syntax::parse(class).expect("a constant of this crate");
        let HirKind::Class(Class::Unicode(class)) = hir.kind() else { unreachable!("a class") };
        Set::from(class)
    }

    #[inline]
    pub fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= c);
        after > 0 && c <= self.0[after - 1].1
    }

    /// The set as a class, to be combined with others.
    pub fn to_class(&self) -> ClassUnicode {
        ClassUnicode::new(self.0.iter().map(|&(first, last)| ClassUnicodeRange::new(first, last)))
    }

    pub fn ranges(&self) -> &[(char, char)] {
        &self.0
    }
}

impl From<&ClassUnicode> for Set {
    fn from(class: &ClassUnicode) -> Set {
        Set(class.iter().map(|range| (range.start(), range.end())).collect())
    }
}

/// How many bytes of a text are looked at together.
const CHUNK: usize = 32;

/// One bit for each character, and for each byte of UTF-8 whether a character of the set starts
/// with it: most bytes of a text need no other look.
pub(crate) struct Bits {
    characters: Vec<u64>,
    starts: Box<[bool; 256]>,
    /// The same roughly, as first bytes and lengths of ranges: a few comparisons tell that nothing
    /// starts in a whole chunk.
    rough: [(u8, u8); 4],
}

impl Bits {
    pub fn new<'a>(ranges: impl IntoIterator<Item = &'a (char, char)>) -> Bits {
        let mut characters = vec![0; (char::MAX as usize >> 6) + 1];
        let mut starts = Box::new([false; 256]);
        for &(first, last) in ranges {
            for c in first..=last {
                characters[c as usize >> 6] |= 1 << (c as usize & 63);
                starts[usize::from(c.encode_utf8(&mut [0; 4]).as_bytes()[0])] = true;
            }
        }
        let mut rough: Vec<(u8, u8)> =
            (0..=u8::MAX).filter(|&byte| starts[usize::from(byte)]).map(|byte| (byte, 0)).collect();
        while rough.len() > 4 {
            let gap = |at: &usize| rough[at + 1].0 - rough[*at].0 - rough[*at].1;
            // Of gaps that are as long the first stays: Cyrillic is between composing marks.
            let at = (0..rough.len() - 1).rev().min_by_key(gap).unwrap_or(0);
            let (next, length) = rough.remove(at + 1);
            rough[at].1 = next - rough[at].0 + length;
        }
        let first = rough.first().copied().unwrap_or((u8::MAX, 0));
        let rough = std::array::from_fn(|at| rough.get(at).copied().unwrap_or(first));
        Bits { characters, starts, rough }
    }

    #[inline]
    pub fn contains(&self, c: char) -> bool {
        self.has_code(c as usize)
    }

    #[inline]
    fn has_code(&self, code: usize) -> bool {
        self.characters[code >> 6] >> (code & 63) & 1 == 1
    }

    /// The first character of the set at this place or after it.
    pub fn next(&self, text: &str, mut at: usize) -> Option<(usize, char)> {
        let bytes = text.as_bytes();
        while let Some(chunk) = bytes[at..].first_chunk::<CHUNK>() {
            if self.may_start(chunk)
                && let Some(found) = (at..at + CHUNK).find(|&at| self.starts_at(bytes, at))
            {
                at = found;
                return Some((at, text[at..].chars().next()?));
            }
            at += CHUNK;
        }
        let at = (at..bytes.len()).find(|&at| self.starts_at(bytes, at))?;
        Some((at, text[at..].chars().next()?))
    }

    /// Without branches, so that the compiler compares many bytes at once.
    #[inline]
    fn may_start(&self, chunk: &[u8; CHUNK]) -> bool {
        let [a, b, c, d] = self.rough;
        let within = |byte: u8, (first, length): (u8, u8)| byte.wrapping_sub(first) <= length;
        chunk.iter().fold(false, |any, &byte| {
            any | within(byte, a) | within(byte, b) | within(byte, c) | within(byte, d)
        })
    }

    /// Does a character of the set start at this place of a UTF-8 text?
    #[inline]
    fn starts_at(&self, bytes: &[u8], at: usize) -> bool {
        let first = bytes[at];
        if !self.starts[usize::from(first)] {
            return false;
        }
        let rest = |index: usize| usize::from(bytes.get(at + index).copied().unwrap_or(0) & 0x3F);
        let first = usize::from(first);
        self.has_code(match first {
            ..0x80 => first,
            0x80..0xE0 => (first & 0x1F) << 6 | rest(1),
            0xE0..0xF0 => (first & 0xF) << 12 | rest(1) << 6 | rest(2),
            _ => (first & 7) << 18 | rest(1) << 12 | rest(2) << 6 | rest(3),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_character_is_that_of_looking_at_each(
            class in prop::sample::select(vec![
                r"[\x00b-d]", r"[éж漢😀]", r"\p{M}", r"[^a]", r"[\x{10FFFE}\x{10FFFF}]", r"[a-zé-üа-я😀-😎]",
            ]),
            text in "([ab é漢ж😀\u{301}]|\\PC){0,90}",
            at in 0usize..40,
        ) {
            let set = Set::new(class);
            let bits = Bits::new(set.ranges());
            let at = (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap();
            let expected = text.char_indices().find(|&(place, c)| place >= at && set.contains(c));
            prop_assert_eq!(bits.next(&text, at), expected);
        }
    }
}
