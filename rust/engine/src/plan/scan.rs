//! Searches a value for the patterns of all regex and literal rules at once.
//!
//! Hardly any row matches any pattern, so the question that has to be answered fast is: could there
//! be a match at all, and where? Each pattern is put where that is cheapest to know:
//!
//! * *Words*: all its matches start with known letters, at the start of a word (`\bowls?\b`, or a
//!   whole-word literal). The words of a value are found 64 bytes at a time, and the first bytes of
//!   each are looked up in a bitmap.
//! * *Anywhere*: all its matches contain known text. One Aho-Corasick automaton finds these.
//! * *Rest*: nothing is known. One automaton for all of them reads the value.
//!
//! A candidate is then tried with the pattern itself: at that place if a match starts there and is
//! short, otherwise once in the whole value, so that the time stays linear. ASCII values are tried
//! with automata that know no Unicode.
//!
//! Candidates ignore ASCII case, whatever the pattern says. Two characters that are not ASCII are
//! case variants of ASCII letters (`ſ` of s, the Kelvin sign of k): in a value that has one of
//! them, every pattern is tried in the whole value.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::memmem::Finder;
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::json::Value;
use crate::json::mark_word_characters;
use crate::rules::literal::Literal;
use crate::rules::regex::{Parsed, compile, map_children};
use crate::unicode::composition::is_composed;
use crate::unicode::words::is_whole_word;

/// A match longer than this is not looked for at every candidate, but once in the whole value.
const LONGEST_AT_PLACE: usize = 256;

/// More alternatives than this at the start of a pattern are hardly a filter.
const MAX_NEEDLES: usize = 64;

/// Byte offsets into a value.
pub type Span = (usize, usize);

/// One pattern of one rule.
struct Pattern {
    /// The bit of its rule.
    rule: u32,
    /// The index of its reason in the rule.
    reason: usize,
    test: Test,
}

enum Test {
    Regex {
        any: meta::Regex,
        ascii: meta::Regex,
        place: Place,
    },
    Word {
        /// As written, or folded if case is ignored.
        text: Box<[u8]>,
        ignore_case: bool,
        whole_word: bool,
    },
}

/// Where a regular expression is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At each candidate; they come from left to right.
    Word,
    /// At each candidate; they come in the order of their ends.
    Anywhere,
    /// In the whole value.
    Value,
}

/// A literal rule, for the values in which folding is needed.
struct Folding {
    rule: u32,
    literal: Literal,
    /// Is it needed in every value that is not ASCII? Otherwise only where characters compose, or
    /// fold to ASCII.
    always: bool,
}

/// All patterns that look at one field.
pub struct Scan {
    patterns: Vec<Pattern>,
    words: Words,
    anywhere: Option<Anywhere>,
    rest: Option<Rest>,
    folding: Vec<Folding>,
    /// The rules with patterns here, one bit each.
    rules: u64,
    /// The rules whose patterns are regular expressions.
    regex_rules: u64,
    case_variants: [Finder<'static>; 2],
}

/// Buffers of a thread.
#[derive(Default)]
pub struct Scratch {
    marks: Vec<u64>,
    folded: String,
    /// The patterns that need not be tried again in this value, one bit each.
    done: Vec<u64>,
}

impl Scratch {
    fn clear(&mut self, patterns: usize) {
        self.done.clear();
        self.done.resize(patterns.div_ceil(64), 0);
    }

    /// Marks a pattern as done. Was it not?
    fn first_time(&mut self, pattern: usize) -> bool {
        let (word, bit) = (pattern / 64, 1 << (pattern % 64));
        let is_first = self.done[word] & bit == 0;
        self.done[word] |= bit;
        is_first
    }
}

/// Collects patterns and makes a [`Scan`] of them.
#[derive(Default)]
pub struct Builder {
    patterns: Vec<Pattern>,
    words: WordsBuilder,
    needles: Vec<(Vec<u8>, usize)>,
    rest: Vec<(usize, Parsed)>,
    folding: Vec<Folding>,
    regex_rules: u64,
}

impl Builder {
    /// Adds a regular expression.
    pub fn regex(&mut self, rule: u32, reason: usize, parsed: Parsed) -> Result<(), String> {
        let pattern = self.patterns.len();
        let any = compile(&[&parsed.hir], parsed.utf8)?;
        let ascii = compile(&[&parsed.ascii], parsed.utf8)?;
        let is_short =
            parsed.hir.properties().maximum_len().is_some_and(|length| length <= LONGEST_AT_PLACE);
        let folded = fold(&parsed.hir);
        let prefixes = literals(&folded, ExtractKind::Prefix);
        let at = |place| if is_short { place } else { Place::Value };
        let place;
        if let Some(prefixes) = prefixes.as_ref().filter(|_| starts_at_word(&folded))
            && prefixes.iter().all(|prefix| prefix.len() > 1 && prefix[0].is_ascii_alphanumeric())
        {
            place = at(Place::Word);
            for prefix in prefixes {
                self.words.prefix(prefix, pattern);
            }
        } else if let Some(prefixes) = prefixes.or_else(|| raw_literals(&parsed.hir)) {
            place = at(Place::Anywhere);
            self.needles.extend(prefixes.into_iter().map(|prefix| (prefix, pattern)));
        } else if let Some(suffixes) = literals(&folded, ExtractKind::Suffix) {
            place = Place::Value;
            self.needles.extend(suffixes.into_iter().map(|suffix| (suffix, pattern)));
        } else {
            place = Place::Value;
            self.rest.push((pattern, parsed));
        }
        self.regex_rules |= 1 << rule;
        self.patterns.push(Pattern { rule, reason, test: Test::Regex { any, ascii, place } });
        Ok(())
    }

    /// Adds all words of a literal rule.
    pub fn literal(&mut self, rule: u32, words: &[String], literal: Literal) {
        let (ignore_case, whole_word) = (literal.ignore_case(), literal.whole_word());
        for (reason, word) in words.iter().enumerate() {
            let text = literal.fold_word(word).into_bytes();
            // In an ASCII value only ASCII words can occur, and in others they are found by the
            // same bytes.
            if !text.is_ascii() {
                continue;
            }
            let pattern = self.patterns.len();
            let run = text.iter().take_while(|byte| is_word_byte(**byte)).count();
            // It starts where a run of word bytes starts if it must start at the edge of a word.
            if !whole_word || !text[0].is_ascii_alphanumeric() {
                self.needles.push((text.clone(), pattern));
            } else if text.ends_with(b"_") && run == text.len() {
                // More word bytes may follow: `_` is no edge.
                self.words.prefix(&text, pattern);
            } else {
                self.words.word(&text[..run], pattern);
            }
            let text = text.into_boxed_slice();
            let test = Test::Word { text, ignore_case, whole_word };
            self.patterns.push(Pattern { rule, reason, test });
        }
        let always = literal.ignore_diacritics() || words.iter().any(|word| !word.is_ascii());
        self.folding.push(Folding { rule, literal, always });
    }

    /// Compiles what was added.
    pub fn build(self) -> Result<Scan, String> {
        let mut rules = self.regex_rules;
        for folding in &self.folding {
            rules |= 1 << folding.rule;
        }
        Ok(Scan {
            words: self.words.build(),
            anywhere: Anywhere::new(self.needles)?,
            rest: Rest::new(self.rest)?,
            patterns: self.patterns,
            folding: self.folding,
            rules,
            regex_rules: self.regex_rules,
            case_variants: [Finder::new("\u{17F}"), Finder::new("\u{212A}")],
        })
    }
}

impl Scan {
    /// The rules with patterns here, one bit each.
    pub fn rules(&self) -> u64 {
        self.rules
    }

    /// Which of these rules have a pattern that matches? One bit each.
    pub fn matched(&self, rules: u64, value: Value<'_>, scratch: &mut Scratch) -> u64 {
        let mut matched = 0;
        self.search(rules, value, scratch, Spans::No, &mut |rule, _, _| {
            matched |= 1 << rule;
            matched == rules
        });
        matched
    }

    /// Calls `each` with the rule, the reason and the span of the first match of every pattern that
    /// matches, in no particular order.
    pub fn find(
        &self,
        value: Value<'_>,
        scratch: &mut Scratch,
        each: &mut dyn FnMut(u32, usize, Span),
    ) {
        self.search(self.rules, value, scratch, Spans::Yes, &mut |rule, reason, span| {
            each(rule, reason, span);
            false
        });
    }

    /// Calls `each` until it says that it knows enough. Without spans a pattern is not tried if its
    /// rule has matched already.
    fn search(
        &self,
        rules: u64,
        value: Value<'_>,
        scratch: &mut Scratch,
        spans: Spans,
        each: &mut dyn FnMut(u32, usize, Span) -> bool,
    ) {
        // The rules that need not be looked at any more.
        let mut done = !rules;
        let mut fold = false;
        if !value.is_ascii {
            fold = self.case_variants.iter().any(|variant| variant.find(value.bytes).is_some());
            // Words are compared in their composed form; patterns code point by code point.
            let foldings = self.folding.iter().filter(|folding| rules >> folding.rule & 1 == 1);
            // Checked once for all.
            let text = foldings.clone().next().map_or("", |_| value.text());
            let is_composed = is_composed(text);
            for folding in foldings {
                if fold || !is_composed || folding.always {
                    done |= 1 << folding.rule;
                    if folding.search(text, is_composed, scratch, spans, each) {
                        return;
                    }
                }
            }
        }
        scratch.clear(self.patterns.len());
        let mut marks = std::mem::take(&mut scratch.marks);
        let mut attempt = |pattern: usize, place: Option<usize>| {
            let (rule, test) = (self.patterns[pattern].rule, &self.patterns[pattern].test);
            if done >> rule & 1 == 1 {
                return false;
            }
            let span = match test {
                Test::Word { text, ignore_case, whole_word } => {
                    place.and_then(|at| word_at(value, at, text, *ignore_case, *whole_word))
                }
                Test::Regex { any, ascii, place: tried } => {
                    let regex = if value.is_ascii { ascii } else { any };
                    let mut input = Input::new(value.bytes);
                    // The first match is wanted: it starts first, but need not end first.
                    let is_ordered = *tried == Place::Word || spans == Spans::No;
                    match place {
                        Some(at) if *tried != Place::Value && is_ordered => {
                            input = input.range(at..).anchored(Anchored::Yes);
                        }
                        _ if !scratch.first_time(pattern) => return false,
                        _ => {}
                    }
                    if spans == Spans::No {
                        regex.is_match(input).then_some((0, 0))
                    } else {
                        regex.find(input).map(|found| (found.start(), found.end()))
                    }
                }
            };
            let Some(span) = span else { return false };
            if spans == Spans::No {
                done |= 1 << rule;
            } else if place.is_some()
                && self.is_tried_again(pattern)
                && !scratch.first_time(pattern)
            {
                return false;
            }
            each(rule, self.patterns[pattern].reason, span)
        };
        if fold {
            // Needles cannot be trusted here.
            let regexes = (0..self.patterns.len())
                .filter(|&pattern| self.regex_rules >> self.patterns[pattern].rule & 1 == 1);
            for pattern in regexes {
                if attempt(pattern, None) {
                    break;
                }
            }
            scratch.marks = marks;
            return;
        }
        let _ = self.words.search(value.bytes, &mut marks, &mut attempt)
            || self.anywhere.as_ref().is_some_and(|all| all.search(value.bytes, &mut attempt))
            || self.rest.as_ref().is_some_and(|all| all.search(value, &mut attempt));
        scratch.marks = marks;
    }

    /// Can a pattern be found again after it was found?
    fn is_tried_again(&self, pattern: usize) -> bool {
        matches!(
            self.patterns[pattern].test,
            Test::Word { .. } | Test::Regex { place: Place::Word, .. }
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spans {
    Yes,
    No,
}

impl Folding {
    fn search(
        &self,
        text: &str,
        is_composed: bool,
        scratch: &mut Scratch,
        spans: Spans,
        each: &mut dyn FnMut(u32, usize, Span) -> bool,
    ) -> bool {
        if spans == Spans::No {
            return self.literal.occurs(text, is_composed, &mut scratch.folded)
                && each(self.rule, 0, (0, 0));
        }
        for (reason, span) in self.literal.find(text, is_composed, &mut scratch.folded) {
            each(self.rule, reason, span);
        }
        false
    }
}

/// Is the word at this place?
fn word_at(
    value: Value<'_>,
    at: usize,
    word: &[u8],
    ignore_case: bool,
    whole_word: bool,
) -> Option<Span> {
    let end = at + word.len();
    let found = value.bytes.get(at..end)?;
    let is_equal = if ignore_case { found.eq_ignore_ascii_case(word) } else { found == word };
    (is_equal && (!whole_word || is_whole_word(value.bytes, at, end))).then_some((at, end))
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Patterns that start at the start of a word.
#[derive(Default)]
struct WordsBuilder {
    /// What a pattern's matches start with, in lower case.
    prefixes: Vec<(Vec<u8>, usize)>,
    /// The whole first word of a pattern's matches, in lower case.
    words: Vec<(Vec<u8>, usize)>,
}

impl WordsBuilder {
    fn prefix(&mut self, prefix: &[u8], pattern: usize) {
        self.prefixes.push((prefix.to_ascii_lowercase(), pattern));
    }

    fn word(&mut self, word: &[u8], pattern: usize) {
        self.words.push((word.to_ascii_lowercase(), pattern));
    }

    fn build(self) -> Words {
        let shortest = self.prefixes.iter().map(|(prefix, _)| prefix.len()).min();
        let prefix_bytes = shortest.unwrap_or(0).min(4);
        let prefix_mask = u32::MAX.checked_shr(32 - 8 * prefix_bytes as u32).unwrap_or(0);
        let prefixes = Table::new(self.prefixes.into_iter().map(|(prefix, pattern)| {
            (u64::from(first_four(&prefix, 0) & prefix_mask), prefix, pattern)
        }));
        let words = Table::new(self.words.into_iter().map(|(word, pattern)| {
            let key = word_key(&word, 0, word.len());
            (key, word, pattern)
        }));
        Words { prefixes, prefix_mask, words }
    }
}

struct Words {
    prefixes: Table,
    prefix_mask: u32,
    words: Table,
}

/// A text in lower case, and the pattern whose matches start with it.
type Needle = (Box<[u8]>, usize);

/// Needles by a key; a bitmap says which keys there are.
struct Table {
    bitmap: Vec<u64>,
    shift: u32,
    needles: HashMap<u64, Vec<Needle>>,
}

impl Table {
    fn new(all: impl Iterator<Item = (u64, Vec<u8>, usize)>) -> Table {
        let mut needles: HashMap<u64, Vec<Needle>> = HashMap::new();
        for (key, needle, pattern) in all {
            needles.entry(key).or_default().push((needle.into_boxed_slice(), pattern));
        }
        // 64 bits a key: one word in 64 is looked up in vain. 10,000 keys are 128 KiB, which stay
        // in the second cache.
        let bits = (needles.len() * 64).next_power_of_two().max(64);
        let mut table =
            Table { bitmap: vec![0; bits / 64], shift: 64 - bits.trailing_zeros(), needles };
        for key in table.needles.keys() {
            let hash = hash(*key, table.shift);
            table.bitmap[hash / 64] |= 1 << (hash % 64);
        }
        table
    }

    fn is_empty(&self) -> bool {
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
    fn search(
        &self,
        bytes: &[u8],
        marks: &mut Vec<u64>,
        attempt: &mut dyn FnMut(usize, Option<usize>) -> bool,
    ) -> bool {
        let (has_prefixes, has_words) = (!self.prefixes.is_empty(), !self.words.is_empty());
        if !has_prefixes && !has_words {
            return false;
        }
        mark_word_characters(bytes, marks);
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

/// Texts that may occur anywhere.
struct Anywhere {
    automaton: AhoCorasick,
    /// The length of the longest needle.
    longest: usize,
    patterns: Vec<usize>,
}

impl Anywhere {
    fn new(needles: Vec<(Vec<u8>, usize)>) -> Result<Option<Anywhere>, String> {
        if needles.is_empty() {
            return Ok(None);
        }
        // The large and fast kind, as long as it is not too large for the caches.
        let bytes: usize = needles.iter().map(|(needle, _)| needle.len()).sum();
        let kind = (bytes < 4000).then_some(AhoCorasickKind::DFA);
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(kind)
            .build(needles.iter().map(|(needle, _)| needle))
            .map_err(|error| error.to_string())?;
        let longest = needles.iter().map(|(needle, _)| needle.len()).max().unwrap_or(0);
        let patterns = needles.into_iter().map(|(_, pattern)| pattern).collect();
        Ok(Some(Anywhere { automaton, longest, patterns }))
    }

    fn search(&self, bytes: &[u8], attempt: &mut dyn FnMut(usize, Option<usize>) -> bool) -> bool {
        // This search can skip ahead; the one for overlapping matches cannot.
        let Some(first) = self.automaton.find(bytes) else { return false };
        // It is the one that ends first; another may have started before it.
        let start = first.end().saturating_sub(self.longest);
        let input = aho_corasick::Input::new(bytes).range(start..);
        self.automaton
            .find_overlapping_iter(input)
            .any(|found| attempt(self.patterns[found.pattern().as_usize()], Some(found.start())))
    }
}

/// Patterns of which nothing is known.
struct Rest {
    any: meta::Regex,
    ascii: meta::Regex,
    patterns: Vec<usize>,
}

impl Rest {
    fn new(patterns: Vec<(usize, Parsed)>) -> Result<Option<Rest>, String> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let utf8 = patterns.iter().all(|(_, parsed)| parsed.utf8);
        let any: Vec<&Hir> = patterns.iter().map(|(_, parsed)| &parsed.hir).collect();
        let ascii: Vec<&Hir> = patterns.iter().map(|(_, parsed)| &parsed.ascii).collect();
        let (any, ascii) = (compile(&any, utf8)?, compile(&ascii, utf8)?);
        let patterns = patterns.into_iter().map(|(pattern, _)| pattern).collect();
        Ok(Some(Rest { any, ascii, patterns }))
    }

    fn search(
        &self,
        value: Value<'_>,
        attempt: &mut dyn FnMut(usize, Option<usize>) -> bool,
    ) -> bool {
        let regex = if value.is_ascii { &self.ascii } else { &self.any };
        // With one pattern there is nothing to be known in advance.
        (self.patterns.len() == 1 || regex.is_match(value.bytes))
            && self.patterns.iter().any(|&pattern| attempt(pattern, None))
    }
}

/// The expression in lower case, as far as it is ASCII letters in either case.
fn fold(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Literal(literal) => Hir::literal(literal.0.to_ascii_lowercase()),
        HirKind::Class(class) => match letter(class) {
            Some(letter) => Hir::literal([letter]),
            None => hir.clone(),
        },
        _ => map_children(hir, &fold),
    }
}

/// The ASCII letter of which the class holds nothing but case variants.
fn letter(class: &Class) -> Option<u8> {
    let mut folded = match class {
        Class::Unicode(class) if class.ranges().len() <= 3 => {
            let ranges = class.ranges().iter().map(|range| (range.start(), range.end()));
            let chars: Vec<char> = ranges.flat_map(|(start, end)| start..=end).take(4).collect();
            chars
        }
        Class::Bytes(class) if class.ranges().len() <= 2 => {
            let ranges = class.ranges().iter().map(|range| (range.start(), range.end()));
            ranges.flat_map(|(start, end)| start..=end).take(4).map(char::from).collect()
        }
        _ => return None,
    };
    for c in &mut folded {
        *c = match *c {
            '\u{17F}' => 's',
            '\u{212A}' => 'k',
            other => other.to_ascii_lowercase(),
        };
    }
    let first = *folded.first()?;
    let is_letter = first.is_ascii_alphabetic() && folded.iter().all(|&c| c == first);
    is_letter.then_some(first as u8)
}

/// Does every match start at the start of a word, if it starts with a word character?
fn starts_at_word(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => starts_at_word(&capture.sub),
        HirKind::Concat(parts) => starts_at_word(&parts[0]),
        HirKind::Alternation(parts) => parts.iter().all(starts_at_word),
        HirKind::Look(look) => matches!(
            look,
            Look::WordAscii
                | Look::WordUnicode
                | Look::WordStartAscii
                | Look::WordStartUnicode
                | Look::WordStartHalfAscii
                | Look::WordStartHalfUnicode
        ),
        _ => false,
    }
}

/// ASCII texts, in lower case, one of which every match of the folded expression starts (or ends)
/// with; `None` if that says too little.
fn literals(folded: &Hir, kind: ExtractKind) -> Option<Vec<Vec<u8>>> {
    let is_prefix = matches!(kind, ExtractKind::Prefix);
    let mut extractor = Extractor::new();
    extractor.kind(kind).limit_total(MAX_NEEDLES);
    let found = extractor.extract(folded);
    let literals = found.literals()?;
    let mut all = Vec::new();
    for literal in literals {
        let bytes = literal.as_bytes();
        let ascii = if is_prefix {
            bytes.split(|byte| !byte.is_ascii()).next()
        } else {
            bytes.rsplit(|byte| !byte.is_ascii()).next()
        }?;
        if ascii.len() < 2 {
            return None;
        }
        all.push(ascii.to_ascii_lowercase());
    }
    (!all.is_empty()).then_some(all)
}

/// Byte strings, in the cases that there are, one of which every match starts with.
fn raw_literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut extractor = Extractor::new();
    extractor.limit_total(MAX_NEEDLES);
    let found = extractor.extract(hir);
    let all: Vec<Vec<u8>> =
        found.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    (!all.is_empty() && all.iter().all(|literal| literal.len() > 1)).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::{LiteralSpec, Mode, RegexSpec};

    const PATTERNS: &[&str] = &[
        r"\bowls?\b",
        r"(?i)\bowls?\b",
        r"(?i)kiss",
        r"\b(?:owl|eagle)s\b",
        r"owl|\beagle",
        r"\bowl.*eagle",
        r"[a-z]+owl",
        r"\d{3}",
        r"(?i)сова",
        r"\bé.",
        r"a*",
        r"^owl$",
        r"(?-u)\bowl\b",
        r"(?i:e)agle\b{end}",
        r"\Bowl",
        r"ow|owls",
        r"(?i)\bÉté",
        r"\b_?owl",
        r"\bk\b",
        r"[^o]owl",
        r"(?s-u)o.l",
        r"\bo\w{0,300}l\b",
        r"\P{L}owl\b",
    ];

    struct Rules {
        scan: Scan,
        regexes: Vec<(u32, meta::Regex)>,
        literals: Vec<(u32, Literal)>,
    }

    /// One rule for each regular expression and each word list.
    fn rules(patterns: &[&str], ignore_case: bool, words: &[(Vec<String>, [bool; 3])]) -> Rules {
        let mut builder = Builder::default();
        let (mut regexes, mut literals) = (Vec::new(), Vec::new());
        let mut rule = 0;
        for &pattern in patterns {
            let unicode = !pattern.contains("-u)");
            let patterns = vec![pattern.to_owned()];
            let spec = RegexSpec { patterns, mode: Mode::Forbid, ignore_case, unicode };
            let parsed = spec.parse(0).unwrap();
            regexes.push((rule, compile(&[&parsed.hir], unicode).unwrap()));
            builder.regex(rule, 0, parsed).unwrap();
            rule += 1;
        }
        for (words, [whole_word, ignore_case, ignore_diacritics]) in words {
            let (whole_word, ignore_case) = (*whole_word, *ignore_case);
            let ignore_diacritics = *ignore_diacritics;
            let spec =
                LiteralSpec { words: words.clone(), whole_word, ignore_case, ignore_diacritics };
            builder.literal(rule, words, Literal::new(&spec).unwrap());
            literals.push((rule, Literal::new(&spec).unwrap()));
            rule += 1;
        }
        Rules { scan: builder.build().unwrap(), regexes, literals }
    }

    /// Compares with every pattern searched for by itself.
    fn check(rules: &Rules, value: &str) {
        let mut expected = Vec::new();
        for (rule, regex) in &rules.regexes {
            expected
                .extend(regex.find(value).map(|found| (*rule, 0, (found.start(), found.end()))));
        }
        for (rule, literal) in &rules.literals {
            let found = literal.find(value, is_composed(value), &mut String::new());
            expected.extend(found.into_iter().map(|(reason, span)| (*rule, reason, span)));
        }
        let mut found = Vec::new();
        let mut scratch = Scratch::default();
        rules.scan.find(value.into(), &mut scratch, &mut |rule, reason, span| {
            found.push((rule, reason, span));
        });
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{value:?}");
        let mask = expected.iter().fold(0, |mask, (rule, _, _)| mask | 1u64 << rule);
        assert_eq!(rules.scan.matched(u64::MAX, value.into(), &mut scratch), mask, "{value:?}");
    }

    #[test]
    fn patterns_are_put_where_they_are_cheap() {
        let scan = rules(&[r"(?i)\bowls?\b", r"\beagle\w*"], false, &[]).scan;
        assert!(scan.anywhere.is_none() && scan.rest.is_none() && !scan.words.prefixes.is_empty());
        let scan = rules(&["owl+", "(?i)сова", r"\w+\d+tail"], false, &[]).scan;
        assert!(scan.anywhere.is_some() && scan.rest.is_none() && scan.words.prefixes.is_empty());
        let scan = rules(&[r"\d+", r"[a-z]{3}"], false, &[]).scan;
        assert!(scan.anywhere.is_none() && scan.rest.is_some());
        let words = ["owl", "bird of prey", "c++"].map(str::to_owned).to_vec();
        let scan = rules(&[], false, &[(words, [true, true, false])]).scan;
        assert!(scan.anywhere.is_none() && !scan.words.words.is_empty());
    }

    #[test]
    fn time_is_linear_where_every_place_is_a_candidate() {
        let rules = rules(&[r"\bow.*x\b", r"(?:ow)+y", r"\bow\b.{1,300}z"], false, &[]);
        // Quadratic time would be minutes.
        let value = "ow ".repeat(300_000);
        let mut scratch = Scratch::default();
        assert_eq!(rules.scan.matched(u64::MAX, value.as_str().into(), &mut scratch), 0);
    }

    #[test]
    fn long_words_and_long_values() {
        let words = vec!["a".repeat(100), "b".repeat(64), "c".repeat(63)];
        let rules = rules(&[r"\bddd\w*"], false, &[(words.clone(), [true, true, false])]);
        for pad in 0..140 {
            for word in words.iter().chain([&"d".repeat(200)]) {
                check(&rules, &format!("{}{word} {word}x", " ".repeat(pad)));
            }
        }
    }

    proptest! {
        // Most of the time goes into compiling patterns, so each set is tried with many values.
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn agrees_with_each_pattern_by_itself(
            patterns in prop::collection::vec(prop::sample::select(PATTERNS), 0..6),
            ignore_case: bool,
            words in prop::collection::vec(
                (
                    prop::collection::vec(
                        "(owls?|OWL|bird|kiss|c|été|a){1}([ +]{1,2}(of|prey|\\+))?|\\.net", 1..4,
                    ),
                    any::<[bool; 3]>(),
                ),
                0..3,
            ),
            values in prop::collection::vec(prop::collection::vec(
                prop::sample::select(vec![
                    "owl", "OWL", "owls", "Eagle", "eagles", "kiss", "KI\u{17F}S", "\u{212A}iss", "k",
                    " ", " ", " ", "_", "1", "23", "été", "ÉTÉ", "e\u{301}te\u{301}", "é", "сова", "СОВА",
                    "bird of", " prey", "c++", ".net", "\n", "-", "a", "\u{200D}", "x",
                    "a long text without anything in it that is looked for, to get past 64 bytes ",
                ]),
                0..12,
            ), 40),
        ) {
            let rules = rules(&patterns, ignore_case, &words);
            for value in values {
                check(&rules, &value.concat());
            }
        }
    }
}
