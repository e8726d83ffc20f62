//! Pre-tokenisation: cutting text into the pieces that byte-pair encoding never crosses.
//!
//! A `tokenizer.json` lists stages, each of which cuts the pieces of the one before. A stage's next
//! piece depends on nothing before it, so the stages run side by side, in one pass. A regular
//! expression is an anchored DFA that is walked once a piece; the one look-ahead of this family,
//! `\s+(?!\S)`, becomes `\s+` that gives back its last character where text follows.

use ahash::AHashMap;
use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_syntax::Parser;
use serde_json::Value;

/// The pattern of GPT-2, which the stage `ByteLevel` uses unless told otherwise.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How such patterns end. Only here is a look-ahead understood.
const TAIL: &str = r"|\s+(?!\S)|\s+";

/// How large a compiled pattern may be. That of GPT-2 takes 1.5 MB.
const MAX_DFA_BYTES: usize = 32 << 20;

const MAX_STAGES: usize = 7;

/// A pre-tokenizer of `tokenizer.json`, compiled.
pub struct Splitter {
    stages: Vec<Stage>,
}

enum Stage {
    Digits { individual: bool },
    Pattern(Box<Pattern>),
}

/// An anchored DFA of three patterns: all alternatives but the last two; the tail `\s+` that gives
/// back its last character; any one character, where nothing else matches.
///
/// Its table is flatter than that of `regex_automata`, with a row of 256 for each state: 1.08x in
/// all, as most pieces are short.
struct Pattern {
    /// By state and byte: the next state, with [`MATCHED`] if the bytes before this one match.
    next: Vec<u16>,
    states: Vec<State>,
}

/// What a state says of the bytes so far.
#[derive(Clone, Copy)]
struct State {
    /// What the bytes before the last one match.
    before: Alternative,
    /// What all bytes match if the text ends here.
    at_end: Option<Alternative>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alternative {
    Head,
    Tail,
    Gap,
}

/// Of all states, the first; there is no way out of it.
const DEAD: u16 = 0;
/// Of all states, the second.
const START: u16 = 1;
const MATCHED: u16 = 1 << 15;

impl Splitter {
    /// Compiles the `pre_tokenizer` of a `tokenizer.json`, if it is a sequence of `Digits` and
    /// `Split` that ends in `ByteLevel`, and its patterns mean here what they mean to Oniguruma,
    /// the library that the Python package uses.
    pub fn new(pre_tokenizer: &Value) -> Option<Splitter> {
        let mut stages = Vec::new();
        let steps = match kind(pre_tokenizer)? {
            "Sequence" => pre_tokenizer["pretokenizers"].as_array()?.as_slice(),
            _ => std::slice::from_ref(pre_tokenizer),
        };
        let (last, steps) = steps.split_last()?;
        for step in steps {
            stages.push(match kind(step)? {
                "Digits" => Stage::Digits { individual: step["individual_digits"].as_bool()? },
                "Split" if step["behavior"] == "Isolated" => {
                    Stage::Pattern(Box::new(Pattern::new(step["pattern"]["Regex"].as_str()?)?))
                }
                _ => return None,
            });
        }
        if kind(last)? != "ByteLevel" || last["add_prefix_space"].as_bool()? {
            return None;
        }
        if last["use_regex"].as_bool().unwrap_or(true) {
            stages.push(Stage::Pattern(Box::new(Pattern::new(GPT2)?)));
        }
        (stages.len() <= MAX_STAGES).then_some(Splitter { stages })
    }

    /// The pieces of `value[start..end]`, in order and without gaps.
    pub fn pieces<'a>(&'a self, value: &'a str, start: usize, end: usize) -> Pieces<'a> {
        let mut bounds = [start; MAX_STAGES + 1];
        bounds[0] = end;
        Pieces { stages: &self.stages, value, at: start, bounds }
    }
}

fn kind(step: &Value) -> Option<&str> {
    step["type"].as_str()
}

/// See [`Splitter::pieces`].
pub struct Pieces<'a> {
    stages: &'a [Stage],
    value: &'a str,
    at: usize,
    /// Where the text ends, and then for each stage where its current piece ends.
    bounds: [usize; MAX_STAGES + 1],
}

impl Iterator for Pieces<'_> {
    /// Byte offsets: start and end.
    type Item = (usize, usize);

    #[inline]
    fn next(&mut self) -> Option<(usize, usize)> {
        let start = self.at;
        if start >= self.bounds[0] {
            return None;
        }
        for (index, stage) in self.stages.iter().enumerate() {
            if self.bounds[index + 1] <= start {
                self.bounds[index + 1] = stage.end_of_piece(self.value, start, self.bounds[index]);
            }
        }
        self.at = self.bounds[self.stages.len()];
        Some((start, self.at))
    }
}

impl Stage {
    /// Where the piece ends that starts at `start`, in text that ends at `end`.
    #[inline]
    fn end_of_piece(&self, value: &str, start: usize, end: usize) -> usize {
        match self {
            Stage::Digits { individual } => end_of_digits(&value[start..end], *individual) + start,
            Stage::Pattern(pattern) => pattern.end_of_piece(value.as_bytes(), start, end),
        }
    }
}

/// A number or a digit at the start of the text, or else all up to the first one.
fn end_of_digits(text: &str, individual: bool) -> usize {
    let first = text.chars().next().unwrap_or_default();
    if first.is_numeric() && individual {
        return first.len_utf8();
    }
    let mut at = first.len_utf8();
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        let (is_numeric, length) = if byte.is_ascii() {
            (byte.is_ascii_digit(), 1)
        } else {
            let c = text[at..].chars().next().unwrap_or_default();
            (c.is_numeric(), c.len_utf8())
        };
        if is_numeric != first.is_numeric() {
            break;
        }
        at += length;
    }
    at
}

impl Pattern {
    fn new(regex: &str) -> Option<Pattern> {
        let (head, has_tail) = match regex.strip_suffix(TAIL) {
            Some(head) => (head, true),
            None => (regex, false),
        };
        if !is_understood(head) {
            return None;
        }
        let (patterns, alternatives): (Vec<_>, Vec<_>) =
            [(head, Alternative::Head), (r"\s+", Alternative::Tail), ("(?s:.)", Alternative::Gap)]
                .into_iter()
                .filter(|(_, alternative)| has_tail || *alternative != Alternative::Tail)
                .unzip();
        let dfa = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .accelerate(false)
                    .dfa_size_limit(Some(MAX_DFA_BYTES))
                    .determinize_size_limit(Some(MAX_DFA_BYTES)),
            )
            .build_many(&patterns)
            .ok()?;
        let start = dfa.universal_start_state(Anchored::Yes)?;
        let alternative = |state: StateID| {
            dfa.is_match_state(state).then(|| alternatives[dfa.match_pattern(state, 0)])
        };
        let dead = State { before: Alternative::Gap, at_end: None };
        let mut pattern = Pattern { next: vec![DEAD; 256], states: vec![dead] };
        let mut order = vec![start];
        let mut numbers = AHashMap::from([(start, START)]);
        let mut at = 0;
        while let Some(&state) = order.get(at) {
            at += 1;
            pattern.states.push(State {
                before: alternative(state).unwrap_or(Alternative::Gap),
                at_end: alternative(dfa.next_eoi_state(state)),
            });
            for byte in 0..=u8::MAX {
                let next = dfa.next_state(state, byte);
                if dfa.is_dead_state(next) {
                    pattern.next.push(DEAD);
                    continue;
                }
                let number = *numbers.entry(next).or_insert_with(|| {
                    order.push(next);
                    order.len() as u16
                });
                let matched = if dfa.is_match_state(next) { MATCHED } else { 0 };
                pattern.next.push(number | matched);
            }
            if order.len() >= usize::from(MATCHED) {
                return None;
            }
        }
        Some(pattern)
    }

    fn end_of_piece(&self, value: &[u8], start: usize, end: usize) -> usize {
        let (alternative, mut stop) = self.longest(value, start, end);
        if alternative == Alternative::Tail && stop < end {
            // What follows is not a space: `\s+` took all of them.
            let mut last = stop - 1;
            while value[last] & 0xC0 == 0x80 {
                last -= 1;
            }
            return if last > start { last } else { stop };
        }
        if alternative == Alternative::Gap {
            // What lies between matches is one piece.
            while stop < end {
                let (alternative, next) = self.longest(value, stop, end);
                if alternative != Alternative::Gap {
                    break;
                }
                stop = next;
            }
        }
        stop
    }

    /// The match that a backtracking engine would find at `start`, and where it ends. There always
    /// is one, because of the alternative for gaps.
    #[inline]
    fn longest(&self, value: &[u8], start: usize, end: usize) -> (Alternative, usize) {
        let mut state = START;
        let mut matched = (DEAD, end);
        for (at, &byte) in (start..).zip(&value[start..end]) {
            let next = self.next[usize::from(state) << 8 | usize::from(byte)];
            state = next & !MATCHED;
            if next & MATCHED != 0 {
                matched = (state, at);
            } else if state == DEAD {
                return (self.states[usize::from(matched.0)].before, matched.1);
            }
        }
        match self.states[usize::from(state)].at_end {
            Some(alternative) => (alternative, end),
            None => (self.states[usize::from(matched.0)].before, matched.1),
        }
    }
}

/// Does the pattern mean the same to `regex-syntax` and to Oniguruma?
///
/// Left out is what differs or might: groups with flags (other than `(?i:` around contractions),
/// look-around, assertions, possessive quantifiers, classes within classes, `\w` (marks and digits
/// differ), `\h`, and patterns that can match nothing.
fn is_understood(regex: &str) -> bool {
    // Oniguruma lets (?i:ss) match ß, and the like. The contractions of English are safe.
    let is_contraction = |group: &str| {
        let group = group.split(')').next().unwrap_or_default();
        let is_known = group.chars().all(|c| "'|[]sdmtlrev".contains(c));
        is_known && !group.contains("ss") && !group.contains("st")
    };
    if !regex.split("(?i:").skip(1).all(is_contraction) {
        return false;
    }
    let mut rest = regex;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let next = after.chars().next().unwrap_or_default();
        rest = match (c, in_class) {
            ('\\', _) => match next {
                'p' | 'P' | 'x' if after[1..].starts_with('{') => {
                    let Some(close) = after.find('}') else { return false };
                    &after[close + 1..]
                }
                's' | 'S' | 'd' | 'D' | 'r' | 'n' | 't' => &after[1..],
                'p' | 'P' if after.len() > 2 => &after[2..],
                _ if next.is_ascii_punctuation() => &after[1..],
                _ => return false,
            },
            ('[', false) => {
                in_class = true;
                let class = after.strip_prefix('^').unwrap_or(after);
                if class.starts_with(']') {
                    return false;
                }
                class
            }
            (']', true) => {
                in_class = false;
                after
            }
            ('[', true) => return false,
            ('&' | '-' | '~', true) if next == c => return false,
            ('(', false) if next == '?' => {
                let Some(group) = ["?:", "?i:"].iter().find_map(|flag| after.strip_prefix(*flag))
                else {
                    return false;
                };
                group
            }
            ('*' | '+' | '?' | '}', false) if next == '+' => return false,
            _ => after,
        };
    }
    Parser::new().parse(regex).is_ok_and(|hir| {
        let properties = hir.properties();
        properties.look_set().is_empty() && properties.minimum_len().is_some_and(|len| len > 0)
    })
}
