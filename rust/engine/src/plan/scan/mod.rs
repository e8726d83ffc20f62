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

mod everywhere;
mod known;
mod words;

use memchr::memmem::Finder;
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::literal::ExtractKind;

use self::everywhere::{Anywhere, Rest};
use self::known::{fold, literals, raw_literals, starts_at_word};
use self::words::{Words, WordsBuilder, is_word_byte};
use crate::json::{Index, Value, Written};
use crate::rules::literal::Literal;
use crate::rules::regex::{Parsed, compile};
use crate::unicode::composition::is_composed;
use crate::unicode::words::is_whole_word;

/// A match longer than this is not looked for at every candidate, but once in the whole value.
const LONGEST_AT_PLACE: usize = 256;

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
    /// Can a string be searched for candidates as it is written?
    reads_written: bool,
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
        let words = self.words.build();
        // What no escape that is left as it is can stand for, nor be a part of.
        let is_plain = |needle: &[u8]| {
            needle.iter().all(|byte| matches!(byte, 0x20..0x7F) && !b"\"\\/".contains(byte))
        };
        let mut needles = self.needles.iter().map(|(needle, _)| needle.as_slice());
        let reads_written =
            self.rest.is_empty() && words.needles().chain(&mut needles).all(is_plain);
        Ok(Scan {
            words,
            anywhere: Anywhere::new(self.needles)?,
            rest: Rest::new(self.rest)?,
            patterns: self.patterns,
            folding: self.folding,
            rules,
            regex_rules: self.regex_rules,
            case_variants: [Finder::new("\u{17F}"), Finder::new("\u{212A}")],
            reads_written,
        })
    }
}

impl Scan {
    /// The rules with patterns here, one bit each.
    pub fn rules(&self) -> u64 {
        self.rules
    }

    /// Can a string be searched for candidates as it is written, with its escapes?
    pub fn reads_written(&self) -> bool {
        self.reads_written
    }

    /// Is it certain that no pattern matches, before anything is decoded? For a scan that reads what
    /// is written.
    #[inline]
    pub fn is_out(&self, value: Written<'_>, index: &Index, scratch: &mut Scratch) -> bool {
        let bytes = value.bytes();
        if !value.is_ascii || !self.folding.is_empty() {
            let is_hiding = |finder: &Finder<'_>| finder.find(bytes).is_some();
            // Words are compared in another form than the one they are written in.
            let is_folded = !self.folding.is_empty()
                && (!bytes.is_ascii() || memchr::memmem::find(bytes, b"\\u").is_some());
            if is_folded || self.case_variants.iter().any(is_hiding) {
                return false;
            }
        }
        !self.words.occur(value, index, &mut scratch.marks)
            && !self.anywhere.as_ref().is_some_and(|all| all.occur(bytes))
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
