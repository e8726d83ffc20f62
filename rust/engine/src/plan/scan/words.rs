//! Patterns whose matches start with known letters at the start of a word.

use ahash::AHashMap;

use crate::json::{Index, Written, mark_word_characters};

/// Patterns that start at the start of a word.
#[derive(Default)]
pub struct WordsBuilder {
    /// What a pattern's matches start with, in lower case.
    prefixes: Vec<(Vec<u8>, usize)>,
    /// The whole first word of a pattern's matches, in lower case.
    words: Vec<(Vec<u8>, usize)>,
}

impl WordsBuilder {
    pub fn prefix(&mut self, prefix: &[u8], pattern: usize) {
        self.prefixes.push((prefix.to_ascii_lowercase(), pattern));
    }

    pub fn word(&mut self, word: &[u8], pattern: usize) {
        self.words.push((word.to_ascii_lowercase(), pattern));
    }

    pub fn build(self) -> Words {
        // Four bytes tell words apart well. A prefix of three is looked up with each byte that can
        // follow; where there are many, or shorter ones, all are looked up by fewer bytes.
        let lengths = || self.prefixes.iter().map(|(prefix, _)| prefix.len());
        let shortest = lengths().min().unwrap_or(0);
        let are_few = lengths().filter(|length| *length < 4).count() <= MOST_SHORT;
        let prefix_bytes = if shortest == 3 && are_few { 4 } else { shortest.min(4) };
        let prefix_mask = u32::MAX.checked_shr(32 - 8 * prefix_bytes as u32).unwrap_or(0);
        let prefixes = Table::new(self.prefixes.into_iter().flat_map(|(prefix, pattern)| {
            let nexts = if prefix.len() < prefix_bytes { 0x20..=0xFF } else { 0..=0u8 };
            nexts.filter(move |next| next & 0x20 == 0x20 || *next == 0).map(move |next| {
                let four = [prefix.as_slice(), &[next]].concat();
                (u64::from(first_four(&four, 0) & prefix_mask), prefix.clone(), pattern)
            })
        }));
        let words = Table::new(self.words.into_iter().map(|(word, pattern)| {
            let key = word_key(&word, 0, word.len());
            (key, word, pattern)
        }));
        Words { prefixes, prefix_mask, words }
    }
}

pub struct Words {
    pub prefixes: Table,
    prefix_mask: u32,
    pub words: Table,
}

/// More prefixes of three bytes than this are not spread out.
const MOST_SHORT: usize = 64;

/// 8 KiB stay in the first cache.
const FEWEST_BITS: usize = 64 << 10;

/// A text in lower case, and the pattern whose matches start with it.
type Needle = (Box<[u8]>, usize);

/// Needles by a key; a bitmap says which keys there are.
pub struct Table {
    bitmap: Vec<u64>,
    shift: u32,
    needles: AHashMap<u64, Vec<Needle>>,
}

impl Table {
    fn new(all: impl Iterator<Item = (u64, Vec<u8>, usize)>) -> Table {
        let mut needles: AHashMap<u64, Vec<Needle>> = AHashMap::new();
        for (key, needle, pattern) in all {
            needles.entry(key).or_default().push((needle.into_boxed_slice(), pattern));
        }
        // 64 bits a key: one word in 64 is looked up in vain, and hardly any where there are few keys.
        // 10,000 keys are 128 KiB, which stay in the second cache.
        let bits = (needles.len() * 64).next_power_of_two().max(FEWEST_BITS);
        let mut table =
            Table { bitmap: vec![0; bits / 64], shift: 64 - bits.trailing_zeros(), needles };
        for key in table.needles.keys() {
            let hash = hash(*key, table.shift);
            table.bitmap[hash / 64] |= 1 << (hash % 64);
        }
        table
    }

    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    #[inline(always)]
    fn may_contain(&self, key: u64) -> bool {
        let hash = hash(key, self.shift);
        self.bitmap[hash / 64] >> (hash % 64) & 1 == 1
    }
}

#[inline(always)]
fn hash(key: u64, shift: u32) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize
}

/// The bytes from `at` on; zeros after the end.
#[inline(always)]
fn load<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let rest = &bytes[at..];
    match rest.first_chunk() {
        Some(found) => *found,
        None => {
            let mut padded = [0; N];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}

/// Four bytes, letters in lower case.
#[inline(always)]
fn first_four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(load(bytes, at)) | 0x2020_2020
}

/// A word's first eight bytes, letters in lower case, and its length.
#[inline(always)]
fn word_key(bytes: &[u8], at: usize, length: usize) -> u64 {
    let mut eight = u64::from_le_bytes(load(bytes, at)) | 0x2020_2020_2020_2020;
    if length < 8 {
        eight &= (1 << (8 * length)) - 1;
    }
    eight ^ (length as u64) << 56
}

impl Words {
    /// Calls `attempt` with each candidate and its place until it says that it knows enough.
    pub fn search(
        &self,
        bytes: &[u8],
        marks: &mut Vec<u64>,
        attempt: &mut dyn FnMut(usize, Option<usize>) -> bool,
    ) -> bool {
        if self.is_empty() {
            return false;
        }
        mark_word_characters(bytes, marks);
        self.search_marked(bytes, marks, attempt)
    }

    /// Is there a candidate in a string as it is written? Its words are the same: what escapes stand
    /// for is no letter of any.
    pub fn occur(&self, value: Written<'_>, index: &Index, marks: &mut Vec<u64>) -> bool {
        if self.is_empty() {
            return false;
        }
        mark_word_characters(value.bytes(), marks);
        value.unmark_escapes(index, marks);
        self.search_marked(value.bytes(), marks, &mut |_, _| true)
    }

    fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.words.is_empty()
    }

    /// The texts that are looked for.
    pub fn needles(&self) -> impl Iterator<Item = &[u8]> {
        let tables = [&self.prefixes, &self.words].into_iter();
        tables.flat_map(|table| table.needles.values().flatten().map(|(needle, _)| &**needle))
    }

    fn search_marked(
        &self,
        bytes: &[u8],
        marks: &[u64],
        attempt: &mut dyn FnMut(usize, Option<usize>) -> bool,
    ) -> bool {
        let (has_prefixes, has_words) = (!self.prefixes.is_empty(), !self.words.is_empty());
        let mut before = 0;
        for (chunk, &word) in marks.iter().enumerate() {
            let mut starts = word & !(word << 1 | before);
            before = word >> 63;
            while starts != 0 {
                let bit = starts.trailing_zeros();
                starts &= starts - 1;
                let at = chunk * 64 + bit as usize;
                if has_prefixes {
                    let key = u64::from(first_four(bytes, at) & self.prefix_mask);
                    if self.prefixes.may_contain(key)
                        && self.try_needles(&self.prefixes, key, bytes, at, attempt)
                    {
                        return true;
                    }
                }
                if has_words {
                    let mut length = (!(word >> bit)).trailing_zeros() as usize;
                    if bit as usize + length == 64 {
                        length += run_at_start(&marks[chunk + 1..]);
                    }
                    let key = word_key(bytes, at, length);
                    if self.words.may_contain(key)
                        && self.try_needles(&self.words, key, bytes, at, attempt)
                    {
                        return true;
                    }
                }
            }
        }
        false
    }

    #[cold]
    fn try_needles(
        &self,
        table: &Table,
        key: u64,
        bytes: &[u8],
        at: usize,
        attempt: &mut dyn FnMut(usize, Option<usize>) -> bool,
    ) -> bool {
        let Some(needles) = table.needles.get(&key) else { return false };
        needles.iter().any(|(needle, pattern)| {
            let found = bytes.get(at..at + needle.len());
            found.is_some_and(|found| found.eq_ignore_ascii_case(needle))
                && attempt(*pattern, Some(at))
        })
    }
}

/// How many marks there are before the first gap.
fn run_at_start(marks: &[u64]) -> usize {
    let whole = marks.iter().take_while(|&&word| word == u64::MAX).count();
    whole * 64 + marks.get(whole).map_or(0, |word| (!word).trailing_zeros() as usize)
}

/// Is it a byte of a word, as ASCII has them?
pub fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
