//! Byte-level byte-pair encoding, recognised: what the fast path needs, and which values it may take.

use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use tokenizers::{ModelWrapper, NormalizedString, Normalizer};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use super::bytes::character;
use super::merge::Merges;
use super::split::Splitter;

/// What the fast path needs.
pub struct Fast {
    pub splitter: Splitter,
    pub merges: Merges,
    /// A whole piece that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    nfc: bool,
    /// Bytes of UTF-8 that are not in the vocabulary. The crate drops them, and then merges what
    /// was left and right of them.
    missing: Option<Box<[bool; 256]>>,
    /// Searched first, then what lies between by `normalized`.
    pub raw: Option<Added>,
    pub normalized: Option<Added>,
    /// Added tokens take spaces with them, or match whole words only: left to the crate.
    pub has_odd_added: bool,
}

/// Added tokens, such as `<|im_end|>`.
pub struct Added {
    pub automaton: AhoCorasick,
    pub ids: Vec<u32>,
}

impl Fast {
    /// Recognises the family. Whatever looks unfamiliar gets no fast path.
    pub fn new(json: &[u8], inner: &tokenizers::Tokenizer) -> Option<Fast> {
        let file: Value = serde_json::from_slice(json).ok()?;
        let nfc = match &file["normalizer"] {
            Value::Null => false,
            normalizer if normalizer["type"] == "NFC" => true,
            _ => return None,
        };
        let splitter = Splitter::new(&file["pre_tokenizer"])?;
        let ModelWrapper::BPE(model) = inner.get_model() else { return None };
        let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
        if affixes.into_iter().flatten().any(|affix| !affix.is_empty()) || model.byte_fallback {
            return None;
        }
        let vocabulary: AHashMap<&str, u32> = file["model"]["vocab"]
            .as_object()?
            .iter()
            .map(|(token, id)| Some((token.as_str(), u32::try_from(id.as_u64()?).ok()?)))
            .collect::<Option<_>>()?;
        if vocabulary.values().any(|&id| id == u32::MAX) {
            return None;
        }
        let mut bytes = [u32::MAX; 256];
        let mut missing = Box::new([false; 256]);
        for byte in 0..=u8::MAX {
            match vocabulary.get(character(byte).encode_utf8(&mut [0; 4]) as &str) {
                Some(&id) => bytes[usize::from(byte)] = id,
                None if matches!(byte, 0xC0 | 0xC1 | 0xF5..) => {}
                None if is_rare(byte) => missing[usize::from(byte)] = true,
                None => return None,
            }
        }
        let mut merges = Vec::new();
        for merge in file["model"]["merges"].as_array()? {
            let (left, right) = match merge {
                Value::String(line) if line.starts_with("#version") => continue,
                Value::String(line) => line.split_once(' ')?,
                merge => (merge[0].as_str()?, merge[1].as_str()?),
            };
            let merged = vocabulary.get(format!("{left}{right}").as_str())?;
            merges.push((*vocabulary.get(left)?, *vocabulary.get(right)?, *merged));
        }
        let mut raw = Vec::new();
        let mut normalized = Vec::new();
        let mut has_odd_added = false;
        for (id, token) in inner.get_added_tokens_decoder() {
            has_odd_added |= token.single_word || token.lstrip || token.rstrip;
            let mut content = NormalizedString::from(token.content.as_str());
            if token.normalized {
                inner.get_normalizer().map(|n| n.normalize(&mut content)).transpose().ok()?;
            }
            let list = if token.normalized { &mut normalized } else { &mut raw };
            list.push((content.get().to_owned(), id));
        }
        Some(Fast {
            splitter,
            merges: Merges::new(bytes, &merges),
            ignore_merges: model.ignore_merges,
            nfc,
            missing: missing.contains(&true).then_some(missing),
            raw: Added::new(&raw)?,
            normalized: Added::new(&normalized)?,
            has_odd_added,
        })
    }

    pub fn is_exact(&self, value: &str) -> bool {
        let has_odd = || {
            let added = [&self.raw, &self.normalized].into_iter().flatten();
            self.has_odd_added && { added }.any(|added| added.occurs(value))
        };
        !self.drops(value) && self.keeps_as_is(value) && !has_odd()
    }

    /// Does the value have bytes that become no token?
    #[inline]
    pub fn drops(&self, value: &str) -> bool {
        let Some(missing) = &self.missing else { return false };
        // The first test is a few vector instructions for 16 bytes.
        value.as_bytes().iter().fold(false, |any, &byte| any | is_rare(byte))
            && value.bytes().any(|byte| missing[usize::from(byte)])
    }

    /// Does normalisation surely leave the value alone?
    pub fn keeps_as_is(&self, value: &str) -> bool {
        // All characters below U+0300 are in NFC, in any order.
        let is_low = || value.as_bytes().iter().fold(true, |all, &byte| all & (byte < 0xCC));
        !self.nfc || is_low() || is_nfc_quick(value.chars()) == IsNormalized::Yes
    }
}

/// Control characters, and characters beyond U+40000: the only bytes that a vocabulary may lack.
#[inline]
fn is_rare(byte: u8) -> bool {
    byte < b'\t' || byte.wrapping_sub(0x0E) < 0x12 || byte == 0x7F || byte > 0xF0
}

impl Added {
    /// `Some(None)` without tokens; `None` on failure.
    fn new(tokens: &[(String, u32)]) -> Option<Option<Added>> {
        if tokens.is_empty() {
            return Some(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(content, _)| content))
            .ok()?;
        Some(Some(Added { automaton, ids: tokens.iter().map(|&(_, id)| id).collect() }))
    }

    pub fn occurs(&self, value: &str) -> bool {
        self.automaton.is_match(value)
    }
}
