//! Tokens of a model's own vocabulary: what the model would read, rather than what is written.
//!
//! Tokenising is slow, so it is asked last. A byte-level vocabulary says which bytes a token stands
//! for; a value without the bytes of any entry cannot contain its tokens, and one vectorised search
//! for all of them says so. Where the bytes do occur, only the pieces around them are tokenised: a
//! token never crosses the border of a piece. Vocabularies of other kinds, which change a text
//! before they tokenise it, have no such search: every value is tokenised.

use std::path::PathBuf;
use std::sync::Arc;

use ahash::AHashMap;
use aho_corasick::packed;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use serde::Deserialize;

use super::finding::Finding;
use crate::tokenizer::{self, Token, Tokenizer};

/// The reason for a value that the tokenizer refuses: it cannot be judged, so it is not kept.
const NOT_TOKENIZED: &str = "cannot be tokenised";

/// A value breaks this rule if its tokens contain an entry, or too large a share of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensSpec {
    /// The `tokenizer.json` of a model. Truncation and padding that it asks for are left out.
    pub tokenizer: PathBuf,
    /// The digest that the file must have, in hexadecimal digits.
    #[serde(default)]
    pub tokenizer_sha256: Option<String>,
    /// At least one.
    pub entries: Vec<TokenEntry>,
    /// What decides.
    #[serde(default)]
    pub score: Score,
}

/// Tokens in a row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Ids of the vocabulary; at least one.
    pub tokens: Vec<u32>,
    /// What an occurrence counts for [`Score::Share`].
    #[serde(default = "one")]
    pub weight: f64,
    /// What reasons call it; entries may share a label. The text of the tokens unless given.
    #[serde(default)]
    pub label: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// When a value breaks the rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// An entry occurs.
    #[default]
    Any,
    /// The sum of the weights of all occurrences, divided by the number of tokens, is larger than
    /// this. Occurrences may overlap.
    Share(f64),
}

/// Buffers that matching reuses from row to row.
#[derive(Default)]
pub struct Scratch {
    tokenizer: tokenizer::Scratch,
    tokens: Vec<Token>,
}

/// A compiled [`TokensSpec`].
pub struct Tokens {
    tokenizer: Arc<Tokenizer>,
    entries: Entries,
    prefilter: Option<Prefilter>,
    score: Score,
    reasons: Vec<String>,
}

impl Tokens {
    pub fn new(spec: &TokensSpec) -> Result<Tokens, String> {
        if spec.entries.is_empty() {
            return Err("entries is empty".to_owned());
        }
        let tokenizer = Tokenizer::load(&spec.tokenizer, spec.tokenizer_sha256.as_deref())?;
        let mut labels: Vec<String> = Vec::new();
        let mut entries = Vec::new();
        for (number, entry) in (1..).zip(&spec.entries) {
            if entry.tokens.is_empty() {
                return Err(format!("entry {number} has no tokens"));
            }
            if !entry.weight.is_finite() {
                let weight = entry.weight;
                return Err(format!("entry {number} has weight {weight}"));
            }
            let Some(text) = tokenizer.text(&entry.tokens) else {
                let tokens = &entry.tokens;
                return Err(format!("entry {number}: not all of {tokens:?} are in the vocabulary"));
            };
            let label = entry.label.clone().unwrap_or(text);
            let known = labels.iter().position(|known| *known == label);
            let label = known.unwrap_or_else(|| {
                labels.push(label);
                labels.len() - 1
            });
            entries.push(Entry {
                tokens: entry.tokens.as_slice().into(),
                weight: entry.weight,
                label,
            });
        }
        let mut reasons = match spec.score {
            Score::Any => labels.iter().map(|label| format!("contains `{label}`")).collect(),
            Score::Share(threshold) if threshold.is_finite() && threshold >= 0.0 => {
                vec![format!("share of tokens above {threshold}")]
            }
            Score::Share(threshold) => {
                return Err(format!("share is {threshold}, expected 0 or more"));
            }
        };
        reasons.push(NOT_TOKENIZED.to_owned());
        let needles: Option<Vec<Vec<u8>>> =
            entries.iter().map(|entry| tokenizer.needle(&entry.tokens)).collect();
        let prefilter =
            needles.map(Prefilter::new).transpose().map_err(|failure| failure.to_string())?;
        Ok(Tokens {
            tokenizer,
            entries: Entries::new(entries),
            prefilter,
            score: spec.score,
            reasons,
        })
    }

    pub fn breaks(&self, value: &str, scratch: &mut Scratch) -> bool {
        if let Some(prefilter) = &self.prefilter
            && self.tokenizer.is_faithful(value)
        {
            let Some(first) = prefilter.find(value, 0) else { return false };
            if self.score == Score::Any
                && let Some(answer) = self.occurs_near(value, prefilter, first, scratch)
            {
                return answer;
            }
        }
        let Scratch { tokenizer, tokens } = scratch;
        if self.tokenizer.encode(value, tokenizer, tokens).is_err() {
            return true;
        }
        match self.score {
            Score::Any => self.entries.occurrences(tokens).next().is_some(),
            Score::Share(threshold) => self.entries.share(tokens) > threshold,
        }
    }

    /// One finding for each label that occurs, with the span of its first occurrence; or one for
    /// the share.
    pub fn find(&self, value: &str, scratch: &mut Scratch, findings: &mut Vec<Finding>) {
        let Scratch { tokenizer, tokens } = scratch;
        if self.tokenizer.encode(value, tokenizer, tokens).is_err() {
            findings.push(Finding { reason: self.reasons.len() - 1, span: None });
            return;
        }
        if let Score::Share(threshold) = self.score {
            if self.entries.share(tokens) > threshold {
                findings.push(Finding { reason: 0, span: None });
            }
            return;
        }
        let first = findings.len();
        for (entry, from, to) in self.entries.occurrences(tokens) {
            let reason = entry.label;
            if findings[first..].iter().all(|finding| finding.reason != reason) {
                let span = Some((tokens[from].start, tokens[to - 1].end));
                findings.push(Finding { reason, span });
            }
        }
        findings[first..].sort_unstable_by_key(|finding| finding.reason);
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Does an entry occur? Tokenises only what is within reach of a needle; `first` is where the
    /// first needle starts. `None` if the value has to be tokenised as a whole.
    ///
    /// An entry that occurs covers the needle in its bytes, and has at most `reach` bytes.
    fn occurs_near(
        &self,
        value: &str,
        prefilter: &Prefilter,
        first: usize,
        scratch: &mut Scratch,
    ) -> Option<bool> {
        let pieces = self.tokenizer.pieces(value)?;
        let Scratch { tokenizer, tokens } = scratch;
        let mut encoder = self.tokenizer.encoder(value, tokenizer);
        let reach = prefilter.reach;
        let mut needle = first;
        tokens.clear();
        for (start, end) in pieces {
            if needle + reach <= start {
                match prefilter.find(value, start + 1 - reach) {
                    Some(next) => needle = next,
                    None => break,
                }
            }
            if end + reach > needle {
                encoder.encode((start, end), tokens);
            } else if self.entries.occurrences(tokens).next().is_some() {
                return Some(true);
            } else {
                tokens.clear();
            }
        }
        Some(self.entries.occurrences(tokens).next().is_some())
    }
}

struct Entry {
    tokens: Box<[u32]>,
    weight: f64,
    /// An index into the reasons.
    label: usize,
}

/// Entries by their first token.
struct Entries {
    entries: Vec<Entry>,
    by_first: AHashMap<u32, Vec<usize>>,
    /// A bit for each id: is it the first token of an entry?
    is_first: Vec<u64>,
}

impl Entries {
    fn new(entries: Vec<Entry>) -> Entries {
        let mut by_first: AHashMap<u32, Vec<usize>> = AHashMap::new();
        let mut is_first = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let first = entry.tokens[0];
            by_first.entry(first).or_default().push(index);
            let word = first as usize / 64;
            is_first.resize(is_first.len().max(word + 1), 0);
            is_first[word] |= 1 << (first % 64);
        }
        Entries { entries, by_first, is_first }
    }

    /// Every occurrence: the entry, and the tokens from and to which it goes.
    fn occurrences<'a>(
        &'a self,
        tokens: &'a [Token],
    ) -> impl Iterator<Item = (&'a Entry, usize, usize)> {
        let is_first = |id: u32| {
            self.is_first.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
        };
        let starts = (0..tokens.len()).filter(move |&at| is_first(tokens[at].id));
        starts.flat_map(move |from| {
            let candidates = self.by_first.get(&tokens[from].id).into_iter().flatten();
            candidates.filter_map(move |&index| {
                let entry = &self.entries[index];
                let to = from + entry.tokens.len();
                let found = tokens.get(from..to)?;
                let ids = found.iter().map(|token| token.id);
                ids.eq(entry.tokens.iter().copied()).then_some((entry, from, to))
            })
        })
    }

    fn share(&self, tokens: &[Token]) -> f64 {
        let sum: f64 = self.occurrences(tokens).map(|(entry, ..)| entry.weight).sum();
        if tokens.is_empty() { 0.0 } else { sum / tokens.len() as f64 }
    }
}

/// A search for the bytes of all entries.
struct Prefilter {
    /// Compares a few bytes of 16 or 32 places at a time. `None` if there are too many needles.
    packed: Option<packed::Searcher>,
    /// For values that are too short for that.
    automaton: AhoCorasick,
    /// The length of the longest needle, before any was left out.
    reach: usize,
}

impl Prefilter {
    fn new(mut needles: Vec<Vec<u8>>) -> Result<Prefilter, aho_corasick::BuildError> {
        let reach = needles.iter().map(Vec::len).max().unwrap_or_default();
        // A needle that contains another one tells nothing new.
        needles.sort_unstable_by_key(Vec::len);
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for needle in needles {
            let contains = |other: &Vec<u8>| needle.windows(other.len()).any(|part| part == other);
            if !kept.iter().any(contains) {
                kept.push(needle);
            }
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .kind((kept.len() <= 1000).then_some(AhoCorasickKind::DFA))
            .build(&kept)?;
        Ok(Prefilter { packed: packed::Searcher::new(&kept), automaton, reach })
    }

    /// Where the first needle starts that starts at `from` or later.
    #[inline]
    fn find(&self, value: &str, from: usize) -> Option<usize> {
        let bytes = value.as_bytes();
        match &self.packed {
            Some(packed) if bytes.len() - from >= packed.minimum_len() => {
                let span = aho_corasick::Span { start: from, end: bytes.len() };
                packed.find_in(bytes, span).map(|found| found.start())
            }
            _ => self.automaton.find(Input::new(bytes).range(from..)).map(|found| found.start()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::tokenizer::examples;

    fn spec(entries: Vec<TokenEntry>, score: Score) -> TokensSpec {
        TokensSpec { tokenizer: examples::path(), tokenizer_sha256: None, entries, score }
    }

    fn entry(tokens: &[u32], label: Option<&str>) -> TokenEntry {
        TokenEntry { tokens: tokens.to_vec(), weight: 1.0, label: label.map(str::to_owned) }
    }

    fn ids(tokenizer: &Tokenizer, value: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        tokenizer.encode_slowly(value, &mut tokens).unwrap();
        tokens.iter().map(|token| token.id).collect()
    }

    /// A rule for the tokens of some texts, which stand alone.
    fn rule(texts: &[&str], score: Score) -> Tokens {
        let tokenizer = Tokenizer::load(&examples::path(), None).unwrap();
        let entries = texts.iter().map(|text| entry(&ids(&tokenizer, text), Some(text))).collect();
        Tokens::new(&spec(entries, score)).unwrap()
    }

    /// What the rule finds, after a check that it breaks exactly then.
    fn find(rule: &Tokens, value: &str) -> Vec<Finding> {
        let (mut scratch, mut findings) = (Scratch::default(), Vec::new());
        rule.find(value, &mut scratch, &mut findings);
        assert_eq!(rule.breaks(value, &mut scratch), !findings.is_empty(), "{value:?}");
        findings
    }

    fn spans<'a>(rule: &Tokens, value: &'a str) -> Vec<(usize, &'a str)> {
        let text = |finding: Finding| {
            let (start, end) = finding.span.unwrap();
            (finding.reason, &value[start..end])
        };
        find(rule, value).into_iter().map(text).collect()
    }

    #[test]
    fn sees_tokens_not_letters() {
        let rule = rule(&[" the", "ing", "<|im_end|>"], Score::Any);
        assert_eq!(rule.reasons()[0], "contains ` the`");
        assert_eq!(spans(&rule, "see the owl, the"), [(0, " the")]);
        // The bytes are there, but " then" is a token of its own.
        assert_eq!(spans(&rule, "see then"), []);
        assert_eq!(spans(&rule, "the"), []);
        assert_eq!(spans(&rule, "x<|im_end|> the"), [(0, " the"), (2, "<|im_end|>")]);
        assert_eq!(spans(&rule, ""), []);
    }

    #[test]
    fn entries_share_labels_and_have_text_for_one() {
        let tokenizer = Tokenizer::load(&examples::path(), None).unwrap();
        let entries = vec![
            entry(&ids(&tokenizer, " the"), Some("article")),
            entry(&ids(&tokenizer, " a"), Some("article")),
            entry(&ids(&tokenizer, "🦉"), None),
        ];
        let rule = Tokens::new(&spec(entries, Score::Any)).unwrap();
        assert_eq!(rule.reasons(), ["contains `article`", "contains `🦉`", NOT_TOKENIZED]);
        assert_eq!(spans(&rule, "in a 🦉 the"), [(0, " a"), (1, "🦉")]);
        assert_eq!(spans(&rule, "in🦉 the"), [(0, " the"), (1, "🦉")]);
    }

    #[test]
    fn share_is_of_all_tokens() {
        let tokenizer = Tokenizer::load(&examples::path(), None).unwrap();
        let value = "see the owl in the tree";
        let share = 2.0 / ids(&tokenizer, value).len() as f64;
        let above = rule(&[" the"], Score::Share(share - 1e-9));
        assert_eq!(find(&above, value), [Finding { reason: 0, span: None }]);
        assert_eq!(above.reasons()[0], format!("share of tokens above {}", share - 1e-9));
        assert_eq!(find(&rule(&[" the"], Score::Share(share)), value), []);
        assert_eq!(find(&rule(&[" the"], Score::Share(0.0)), ""), []);
    }

    #[test]
    fn plans_are_read_from_json() {
        let read = |score: serde_json::Value| {
            let mut json = json!({
                "tokenizer": examples::path(), "entries": [{"tokens": [300]}],
            });
            if !score.is_null() {
                json["score"] = score;
            }
            serde_json::from_value::<TokensSpec>(json).map(|spec| spec.score)
        };
        assert_eq!(read(json!(null)).unwrap(), Score::Any);
        assert_eq!(read(json!("any")).unwrap(), Score::Any);
        assert_eq!(read(json!({"share": 0.5})).unwrap(), Score::Share(0.5));
        assert!(read(json!("some")).is_err());
    }

    #[test]
    fn errors_name_the_entry() {
        let error = |entries: Vec<TokenEntry>, score: Score| {
            Tokens::new(&spec(entries, score)).err().unwrap().to_string()
        };
        let one = || entry(&[300], None);
        let heavy = TokenEntry { weight: f64::NAN, ..one() };
        assert_eq!(error(vec![], Score::Any), "entries is empty");
        assert_eq!(error(vec![one(), entry(&[], None)], Score::Any), "entry 2 has no tokens");
        assert_eq!(error(vec![heavy], Score::Any), "entry 1 has weight NaN");
        assert_eq!(error(vec![one()], Score::Share(-0.5)), "share is -0.5, expected 0 or more");
        assert_eq!(
            error(vec![entry(&[7, 99999], None)], Score::Any),
            "entry 1: not all of [7, 99999] are in the vocabulary"
        );
        let wrong =
            TokensSpec { tokenizer_sha256: Some("00".to_owned()), ..spec(vec![one()], Score::Any) };
        assert!(Tokens::new(&wrong).err().unwrap().to_string().ends_with("expected 00"));
    }

    #[test]
    fn tokenizers_that_change_the_text_have_no_prefilter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, examples::json(&[("/normalizer", json!({"type": "Lowercase"}))]))
            .unwrap();
        let tokenizer = Tokenizer::load(&path, None).unwrap();
        let entries = vec![entry(&ids(&tokenizer, " the"), None)];
        let rule =
            Tokens::new(&TokensSpec { tokenizer: path, ..spec(entries, Score::Any) }).unwrap();
        assert!(rule.prefilter.is_none());
        assert_eq!(spans(&rule, "see THE owl"), [(0, " THE")]);
    }

    proptest! {
        /// The entries' own bytes, glued together in contexts where they are tokens or are not.
        #[test]
        fn agrees_with_a_search_in_all_tokens(
            variant in 0..examples::VARIANTS.len(),
            wanted in prop::collection::vec((any::<prop::sample::Index>(), 1..4usize), 1..5),
            parts in prop::collection::vec(
                prop_oneof![
                    3 => prop::sample::select(examples::ODD).prop_map(Ok),
                    2 => any::<prop::sample::Index>().prop_map(Err),
                ],
                0..14,
            ),
            share: bool,
        ) {
            let (_, tokenizer) = &examples::VARIANTS[variant];
            let sample = ids(tokenizer, "see the owl's 12 feathers, é 🦉!  It is <|im_end|> ガ A\u{30A}");
            let entries: Vec<Entry> = wanted.iter().enumerate().map(|(label, (index, length))| {
                let from = index.index(sample.len());
                let to = (from + length).min(sample.len());
                Entry { tokens: sample[from..to].into(), weight: 1.0, label }
            }).collect();
            let texts: Vec<String> =
                entries.iter().map(|entry| tokenizer.text(&entry.tokens).unwrap()).collect();
            let value: String = parts.iter().map(|part| match part {
                Ok(text) => *text,
                Err(index) => texts[index.index(texts.len())].as_str(),
            }).collect();
            let all = ids(tokenizer, &value);
            let occurrences = |entry: &Entry| {
                all.windows(entry.tokens.len()).filter(|ids| **ids == *entry.tokens).count()
            };
            let counts: Vec<usize> = entries.iter().map(occurrences).collect();
            let sum: usize = counts.iter().sum();
            let needles: Option<Vec<_>> =
                entries.iter().map(|entry| tokenizer.needle(&entry.tokens)).collect();
            prop_assert!(needles.is_some());
            let score = if share { Score::Share(0.2) } else { Score::Any };
            let rule = Tokens {
                tokenizer: tokenizer.clone(),
                prefilter: needles.map(|needles| Prefilter::new(needles).unwrap()),
                reasons: texts.iter().cloned().chain([NOT_TOKENIZED.to_owned()]).collect(),
                entries: Entries::new(entries),
                score,
            };
            let found: Vec<usize> = find(&rule, &value).iter().map(|found| found.reason).collect();
            if share {
                let expected = !all.is_empty() && sum as f64 / all.len() as f64 > 0.2;
                prop_assert_eq!(!found.is_empty(), expected);
            } else {
                let expected: Vec<usize> = (0..counts.len()).filter(|&at| counts[at] > 0).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
