//! How long a value may be, in characters, bytes, words and tokens.
//!
//! A character is a Unicode scalar value, a byte one of the UTF-8 of the decoded value (so `\u00e9`
//! in a row is one character and two bytes), and a word is what whitespace separates, with the
//! property `White_Space` of Unicode.
//!
//! The length in bytes is known without looking, and often decides the rest: a character has one to
//! four bytes, and words are at least a byte with a byte between them. Only what is still open then
//! is counted. Tokens are counted last: that is a hundred times slower than the rest.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::finding::Finding;
use crate::tokenizer::{self, Token, Tokenizer};

const REASONS: [&str; 9] = [
    "too few characters",
    "too many characters",
    "too few bytes",
    "too many bytes",
    "too few words",
    "too many words",
    "too few tokens",
    "too many tokens",
    "cannot be tokenised",
];

/// A value breaks this rule if one of its lengths is out of bounds. Bounds are inclusive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthSpec {
    /// The fewest Unicode scalar values allowed.
    #[serde(default)]
    pub min_chars: Option<u64>,
    /// The most Unicode scalar values allowed.
    #[serde(default)]
    pub max_chars: Option<u64>,
    /// The fewest bytes of UTF-8 allowed.
    #[serde(default)]
    pub min_bytes: Option<u64>,
    /// The most bytes of UTF-8 allowed.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// The fewest words allowed.
    #[serde(default)]
    pub min_words: Option<u64>,
    /// The most words allowed.
    #[serde(default)]
    pub max_words: Option<u64>,
    /// The fewest tokens allowed.
    #[serde(default)]
    pub min_tokens: Option<u64>,
    /// The most tokens allowed.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// The `tokenizer.json` of a model, if tokens are counted.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// The digest that the file must have, in hexadecimal digits.
    #[serde(default)]
    pub tokenizer_sha256: Option<String>,
}

/// Buffers that counting tokens reuses from row to row.
#[derive(Default)]
pub struct Scratch {
    tokenizer: tokenizer::Scratch,
    tokens: Vec<Token>,
}

/// A compiled [`LengthSpec`].
pub struct Length {
    chars: Bounds,
    bytes: Bounds,
    words: Bounds,
    tokens: Option<(Arc<Tokenizer>, Bounds)>,
    reasons: Vec<String>,
}

/// No bound is a bound that nothing breaks.
#[derive(Clone, Copy)]
struct Bounds {
    min: usize,
    max: usize,
}

impl Bounds {
    fn new(min: Option<u64>, max: Option<u64>) -> Bounds {
        let length = |bound: u64| bound.try_into().unwrap_or(usize::MAX);
        Bounds { min: min.map_or(0, length), max: max.map_or(usize::MAX, length) }
    }

    fn broken_by(self, length: usize) -> bool {
        length < self.min || length > self.max
    }

    /// The answer for every length from `least` to `most`, if it is the same for all of them.
    fn decided_by(self, least: usize, most: usize) -> Option<bool> {
        if most < self.min || least > self.max {
            Some(true)
        } else if least >= self.min && most <= self.max {
            Some(false)
        } else {
            None
        }
    }
}

impl Length {
    pub fn new(spec: &LengthSpec) -> Result<Length, String> {
        let pairs = [
            ("chars", spec.min_chars, spec.max_chars),
            ("bytes", spec.min_bytes, spec.max_bytes),
            ("words", spec.min_words, spec.max_words),
            ("tokens", spec.min_tokens, spec.max_tokens),
        ];
        if pairs.iter().all(|(_, min, max)| min.is_none() && max.is_none()) {
            return Err("sets no bound".to_owned());
        }
        for (unit, min, max) in pairs {
            if let (Some(min), Some(max)) = (min, max)
                && max < min
            {
                return Err(format!("max_{unit} {max} is less than min_{unit} {min}"));
            }
        }
        let counts_tokens = spec.min_tokens.is_some() || spec.max_tokens.is_some();
        let tokens = match (&spec.tokenizer, counts_tokens) {
            (Some(path), true) => {
                let tokenizer = Tokenizer::load(path, spec.tokenizer_sha256.as_deref())?;
                Some((tokenizer, Bounds::new(spec.min_tokens, spec.max_tokens)))
            }
            (None, true) => return Err("bounds on tokens need a tokenizer".to_owned()),
            (Some(_), false) => return Err("a tokenizer needs bounds on tokens".to_owned()),
            (None, false) => None,
        };
        Ok(Length {
            chars: Bounds::new(spec.min_chars, spec.max_chars),
            bytes: Bounds::new(spec.min_bytes, spec.max_bytes),
            words: Bounds::new(spec.min_words, spec.max_words),
            tokens,
            reasons: REASONS.map(str::to_owned).to_vec(),
        })
    }

    pub fn breaks(&self, value: &str, scratch: &mut Scratch) -> bool {
        self.is_out_of_bounds(value)
            || self.tokens.as_ref().is_some_and(|(tokenizer, bounds)| {
                scratch.count(tokenizer, value).is_none_or(|count| bounds.broken_by(count))
            })
    }

    fn is_out_of_bounds(&self, value: &str) -> bool {
        let bytes = value.len();
        if self.bytes.broken_by(bytes) {
            return true;
        }
        let chars = self.chars.decided_by(bytes.div_ceil(4), bytes);
        let words = self.words.decided_by(0, bytes.div_ceil(2));
        if chars == Some(true) || words == Some(true) {
            return true;
        }
        (chars.is_none() && self.chars.broken_by(value.chars().count()))
            || (words.is_none() && self.words.broken_by(count_words(value, self.words)))
    }

    /// The span of "too many" is the surplus: all that would have to go from the end.
    pub fn find(&self, value: &str, scratch: &mut Scratch, findings: &mut Vec<Finding>) {
        let end = value.len();
        let lengths = [
            (self.chars, value.chars().count()),
            (self.bytes, value.len()),
            (self.words, value.split_whitespace().count()),
        ];
        for (unit, (bounds, length)) in lengths.into_iter().enumerate() {
            if length < bounds.min {
                findings.push(Finding { reason: 2 * unit, span: None });
            }
            if length > bounds.max {
                let span = match unit {
                    0 => value.char_indices().nth(bounds.max).map(|(at, _)| (at, end)),
                    1 => Some((floor_char_boundary(value, bounds.max), end)),
                    _ => value.split_whitespace().nth(bounds.max).map(|word| {
                        // Words are slices of the value.
                        (word.as_ptr() as usize - value.as_ptr() as usize, value.trim_end().len())
                    }),
                };
                findings.push(Finding { reason: 2 * unit + 1, span });
            }
        }
        if let Some((tokenizer, bounds)) = &self.tokens {
            match scratch.count(tokenizer, value) {
                Some(count) if count < bounds.min => {
                    findings.push(Finding { reason: 6, span: None });
                }
                Some(count) if count > bounds.max => {
                    let span = Some((scratch.tokens[bounds.max].start, end));
                    findings.push(Finding { reason: 7, span });
                }
                Some(_) => {}
                None => findings.push(Finding { reason: 8, span: None }),
            }
        }
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

impl Scratch {
    /// The number of tokens; `None` if the tokenizer refuses the value.
    fn count(&mut self, tokenizer: &Tokenizer, value: &str) -> Option<usize> {
        tokenizer.encode(value, &mut self.tokenizer, &mut self.tokens).ok()?;
        Some(self.tokens.len())
    }
}

/// The start of the character that the byte at `at` is part of.
fn floor_char_boundary(value: &str, mut at: usize) -> usize {
    while !value.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The number of words, or some number of which the bounds say the same.
fn count_words(value: &str, bounds: Bounds) -> usize {
    if !value.is_ascii() {
        let enough = if bounds.max == usize::MAX { bounds.min } else { bounds.max + 1 };
        return value.split_whitespace().take(enough).count();
    }
    // Words start where a byte is not whitespace and the one before it is. Counted in blocks that a
    // u8 can count, without branches, this is done for many bytes at a time.
    let bytes = value.as_bytes();
    let is_space = |byte: u8| (byte == b' ') | (byte.wrapping_sub(b'\t') < 5);
    let starts = |block: &[u8], before: &[u8]| {
        let pairs = block.iter().zip(before);
        pairs.map(|(&b, &before)| u8::from(!is_space(b) & is_space(before))).sum::<u8>()
    };
    let first = bytes.first().is_some_and(|&byte| !is_space(byte));
    let rest = bytes.get(1..).unwrap_or_default();
    let blocks = rest.chunks(255).zip(bytes.chunks(255));
    usize::from(first)
        + blocks.map(|(block, before)| usize::from(starts(block, before))).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(bounds: serde_json::Value) -> Result<Length, String> {
        Length::new(&serde_json::from_value(bounds).unwrap())
    }

    fn find(rule: &Length, value: &str) -> Vec<(&'static str, Option<String>)> {
        let mut findings = Vec::new();
        rule.find(value, &mut Scratch::default(), &mut findings);
        assert_eq!(rule.breaks(value, &mut Scratch::default()), !findings.is_empty(), "{value:?}");
        findings
            .iter()
            .map(|found| {
                assert_eq!(rule.reasons()[found.reason], REASONS[found.reason]);
                let text = found.span.map(|(start, end)| value[start..end].to_owned());
                (REASONS[found.reason], text)
            })
            .collect()
    }

    #[test]
    fn tokens_are_counted_by_a_tokenizer() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/filter/data/tokenizer.json");
        let tokenizer = Tokenizer::load(path.as_ref(), None).unwrap();
        let value = "the owls of the forest, 123";
        let mut tokens = Vec::new();
        tokenizer.encode(value, &mut tokenizer::Scratch::default(), &mut tokens).unwrap();
        let count = tokens.len();
        assert!(count > 5);
        let bounds = |min: usize, max: usize| serde_json::json!({"min_tokens": min, "max_tokens": max, "tokenizer": path});
        assert_eq!(find(&rule(bounds(count, count)).unwrap(), value), []);
        assert_eq!(
            find(&rule(bounds(count + 1, count + 1)).unwrap(), value),
            [("too few tokens", None)]
        );
        let surplus = value[tokens[count - 2].start..].to_owned();
        assert_eq!(
            find(&rule(bounds(0, count - 2)).unwrap(), value),
            [("too many tokens", Some(surplus))]
        );
        assert!(rule(serde_json::json!({"max_tokens": 1})).is_err());
        assert!(rule(serde_json::json!({"max_words": 1, "tokenizer": path})).is_err());
    }

    #[test]
    fn each_unit_has_its_own_bounds() {
        let all = rule(serde_json::json!({
            "min_chars": 3, "max_chars": 5, "min_bytes": 4, "max_bytes": 8,
            "min_words": 1, "max_words": 2,
        }))
        .unwrap();
        assert_eq!(find(&all, "owls"), []);
        assert_eq!(find(&all, "été"), []);
        assert_eq!(
            find(&all, ""),
            [("too few characters", None), ("too few bytes", None), ("too few words", None)]
        );
        assert_eq!(find(&all, "owl"), [("too few bytes", None)]);
        assert_eq!(find(&all, "owl éé"), [("too many characters", Some("é".to_owned()))]);
        // The limit is in the middle of the third character, which is surplus as a whole.
        assert_eq!(find(&all, "😀é€x"), [("too many bytes", Some("€x".to_owned()))]);
        assert_eq!(find(&all, "a b\u{2003}c"), [("too many words", Some("c".to_owned()))]);
        assert_eq!(
            find(&all, "a b c d \n"),
            [
                ("too many characters", Some(" d \n".to_owned())),
                ("too many bytes", Some("\n".to_owned())),
                ("too many words", Some("c d".to_owned())),
            ]
        );
    }

    #[test]
    fn words_are_what_unicode_whitespace_separates() {
        let two = rule(serde_json::json!({"min_words": 2, "max_words": 2})).unwrap();
        for value in
            ["a b", " a\u{b}b", "a\u{c}b\r\n", "a\u{85}b", "a\u{a0}b", "a\u{3000}b\u{2028}"]
        {
            assert_eq!(find(&two, value), [], "{value:?}");
        }
        // U+001C to U+001F and the zero-width space separate nothing.
        for value in ["a", "a\u{1c}b", "a\u{1f}b", "a\u{200b}b", " \t"] {
            assert_eq!(find(&two, value), [("too few words", None)], "{value:?}");
        }
    }

    #[test]
    fn nothing_and_everything_can_be_asked_for() {
        let empty = rule(serde_json::json!({"max_chars": 0})).unwrap();
        assert_eq!(find(&empty, ""), []);
        assert_eq!(find(&empty, "é"), [("too many characters", Some("é".to_owned()))]);
        let none = rule(serde_json::json!({"max_words": 0})).unwrap();
        assert_eq!(find(&none, " \n"), []);
        assert_eq!(find(&none, " é "), [("too many words", Some("é".to_owned()))]);
        let huge = rule(serde_json::json!({"min_words": u64::MAX, "max_chars": u64::MAX})).unwrap();
        assert_eq!(find(&huge, "a"), [("too few words", None)]);
    }

    #[test]
    fn long_values_are_counted_in_blocks() {
        for count in [254, 255, 256, 257, 511, 5000] {
            let bounds = serde_json::json!({"min_words": count, "max_words": count});
            let exactly = rule(bounds).unwrap();
            assert_eq!(find(&exactly, &"a ".repeat(count)), []);
            assert_eq!(find(&exactly, &" a".repeat(count)), []);
            assert_eq!(find(&exactly, &" é".repeat(count)), []);
            assert_eq!(find(&exactly, &" a".repeat(count - 1)), [("too few words", None)]);
            assert_eq!(find(&exactly, &"a ".repeat(count + 1)).len(), 1);
        }
    }

    #[test]
    fn bounds_that_make_no_sense() {
        let error = |bounds| rule(bounds).err().unwrap().to_string();
        assert_eq!(error(serde_json::json!({})), "sets no bound");
        assert_eq!(
            error(serde_json::json!({"min_words": 3, "max_words": 2})),
            "max_words 2 is less than min_words 3"
        );
        let unknown = serde_json::json!({"max_char": 3});
        assert!(serde_json::from_value::<LengthSpec>(unknown).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_counting(
            value in "[ab\t\n \u{b}\u{1f}]{0,12}|[abé€😀 \u{a0}\u{2003}\n]{0,12}",
            bounds in prop::collection::vec((0usize..14, 0usize..14), 3),
        ) {
            let units = ["chars", "bytes", "words"];
            let mut spec = serde_json::Map::new();
            for (unit, (one, other)) in units.iter().zip(&bounds) {
                // Half of the range of either stands for no bound.
                let (min, max) = (one.min(other), one.max(other));
                if *min > 2 {
                    spec.insert(format!("min_{unit}"), (min - 2).into());
                }
                if *max < 12 {
                    spec.insert(format!("max_{unit}"), (*max).into());
                }
            }
            prop_assume!(!spec.is_empty());
            let spec = serde_json::Value::from(spec);
            let rule = rule(spec.clone()).unwrap();
            let lengths = [
                value.chars().count(),
                value.len(),
                value.split(char::is_whitespace).filter(|word| !word.is_empty()).count(),
            ];
            let mut expected = Vec::new();
            for (unit, length) in lengths.into_iter().enumerate() {
                let bound = |which: &str| spec[format!("{which}_{}", units[unit])].as_u64();
                if bound("min").is_some_and(|min| (length as u64) < min) {
                    expected.push(REASONS[2 * unit]);
                }
                if bound("max").is_some_and(|max| length as u64 > max) {
                    expected.push(REASONS[2 * unit + 1]);
                }
            }
            let found = find(&rule, &value);
            prop_assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), expected);
            for (reason, text) in found {
                let max = |unit: &str| spec[format!("max_{unit}")].as_u64().unwrap() as usize;
                match (reason, text) {
                    ("too many characters", Some(text)) => {
                        prop_assert_eq!(text.chars().count(), lengths[0] - max("chars"));
                    }
                    ("too many bytes", Some(text)) => {
                        let kept = value.len() - text.len();
                        prop_assert!(kept <= max("bytes") && kept + 4 > max("bytes"));
                    }
                    ("too many words", Some(text)) => {
                        prop_assert_eq!(text.split_whitespace().count(), lengths[2] - max("words"));
                        prop_assert_eq!(text.trim(), &text);
                    }
                    (_, text) => prop_assert_eq!(text, None),
                }
            }
        }
    }
}
