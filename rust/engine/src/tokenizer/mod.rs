//! Hugging Face tokenizers: the tokens of a text as `encode(text, add_special_tokens=False)` of
//! the Python package gives them, without the truncation and padding that a file may ask for.
//!
//! Any `tokenizer.json` is read by the `tokenizers` crate, which is exact and does a few MB/s.
//! Byte-level byte-pair encoding, the family of GPT-2, Llama 3, Qwen and SmolLM2, also has a fast
//! path in here: pieces from a DFA, and for each piece a look into a cache. A value that the fast
//! path might get wrong goes to the crate.

mod bytes;
mod cache;
#[cfg(test)]
pub(crate) mod examples;
mod fast;
mod merge;
mod split;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aho_corasick::Input;
use sha2::{Digest, Sha256};
use tokenizers::{Model, ModelWrapper};

use bytes::{characters, decode};
use cache::Cache;
use fast::{Added, Fast};
use merge::{Buffers, Ids};
use split::Pieces;

use crate::digest::hexadecimal;

/// Longer pieces are encoded by the crate, whose time is not quadratic in the length.
const MAX_PIECE_BYTES: usize = 512;

/// One token of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// As in the vocabulary.
    pub id: u32,
    /// Where the first character begins that the token has a byte of.
    pub start: usize,
    /// Where the last character ends that the token has a byte of.
    pub end: usize,
}

/// The `tokenizers` crate could not encode a value: its vocabulary lacks the unknown token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tokenizer cannot encode this: {0}")]
pub struct EncodeError(String);

/// What a thread remembers from value to value: 6 MiB for each tokenizer that it uses.
#[derive(Default)]
pub struct Scratch {
    caches: Vec<(u64, Cache)>,
    ids: Ids,
    buffers: Buffers,
}

/// A tokenizer. It is immutable, and shared between threads.
pub struct Tokenizer {
    /// Unique within the process: the key of [`Scratch::caches`].
    number: u64,
    inner: tokenizers::Tokenizer,
    fast: Option<Fast>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. The same content is loaded only once at a time.
    ///
    /// `sha256` is the expected digest, in hexadecimal digits.
    pub fn load(path: &Path, sha256: Option<&str>) -> Result<Arc<Tokenizer>, String> {
        static LOADED: Mutex<Vec<([u8; 32], Weak<Tokenizer>)>> = Mutex::new(Vec::new());
        let json = std::fs::read(path)
            .map_err(|error| format!("cannot read tokenizer {}: {error}", path.display()))?;
        let digest: [u8; 32] = Sha256::digest(&json).into();
        if let Some(expected) = sha256 {
            let found = hexadecimal(&digest);
            if !expected.eq_ignore_ascii_case(&found) {
                let path = path.display();
                return Err(format!("{path} has sha256 {found}, expected {expected}"));
            }
        }
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|(_, tokenizer)| tokenizer.strong_count() > 0);
        let known = loaded.iter().find(|(known, _)| *known == digest);
        if let Some(tokenizer) = known.and_then(|(_, tokenizer)| tokenizer.upgrade()) {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::from_json(&json)
            .map_err(|message| format!("{} is no tokenizer: {message}", path.display()))?;
        let tokenizer = Arc::new(tokenizer);
        loaded.push((digest, Arc::downgrade(&tokenizer)));
        Ok(tokenizer)
    }

    /// Reads the content of a `tokenizer.json`.
    pub fn from_json(json: &[u8]) -> Result<Tokenizer, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut inner =
            tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        // All that they do without special tokens is to trim offsets.
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            return Err("it has dropout, so its tokens are random".to_owned());
        }
        let fast = Fast::new(json, &inner);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Tokenizer { number, inner, fast })
    }

    /// Whether there is a fast path.
    #[cfg(test)]
    pub fn is_fast(&self) -> bool {
        self.fast.is_some()
    }

    /// Replaces `tokens` with the tokens of `value`, in order.
    pub fn encode(
        &self,
        value: &str,
        scratch: &mut Scratch,
        tokens: &mut Vec<Token>,
    ) -> Result<(), EncodeError> {
        tokens.clear();
        let Some(fast) = self.fast.as_ref().filter(|fast| fast.is_exact(value)) else {
            return self.encode_slowly(value, tokens);
        };
        let mut encoder = self.encoder(value, scratch);
        let mut plain = |from: usize, to: usize, tokens: &mut Vec<Token>| {
            for piece in fast.splitter.pieces(value, from, to) {
                encoder.encode(piece, tokens);
            }
        };
        if fast.raw.is_none() && fast.normalized.is_none() {
            plain(0, value.len(), tokens);
            return Ok(());
        }
        cut(fast.raw.as_ref(), value, (0, value.len()), tokens, &mut |from, to, tokens| {
            cut(fast.normalized.as_ref(), value, (from, to), tokens, &mut plain);
        });
        Ok(())
    }

    /// Replaces `tokens` with what the crate says.
    pub fn encode_slowly(&self, value: &str, tokens: &mut Vec<Token>) -> Result<(), EncodeError> {
        tokens.clear();
        let encoding =
            self.inner.encode(value, false).map_err(|error| EncodeError(error.to_string()))?;
        tokens.extend(encoding.get_ids().iter().zip(encoding.get_offsets()).map(
            |(&id, &(start, end))| Token {
                id,
                start: floor(value, start.min(value.len())),
                end: ceil(value, end.min(value.len())),
            },
        ));
        Ok(())
    }

    /// The value in pieces that [`Encoder::encode`] can take in any selection, if the fast path is
    /// exact for it and no added token occurs.
    pub fn pieces<'a>(&'a self, value: &'a str) -> Option<Pieces<'a>> {
        let fast = self.fast.as_ref().filter(|fast| fast.is_exact(value))?;
        let has_added =
            [&fast.raw, &fast.normalized].into_iter().flatten().any(|added| added.occurs(value));
        (!has_added).then(|| fast.splitter.pieces(value, 0, value.len()))
    }

    /// Encodes pieces of a value for which there are [`Tokenizer::pieces`].
    pub fn encoder<'a>(&'a self, value: &'a str, scratch: &'a mut Scratch) -> Encoder<'a> {
        let Scratch { caches, ids, buffers } = scratch;
        let known = caches.iter().position(|(number, _)| *number == self.number);
        let at = known.unwrap_or_else(|| {
            caches.push((self.number, Cache::default()));
            caches.len() - 1
        });
        Encoder { tokenizer: self, value, cache: &mut caches[at].1, ids, buffers }
    }

    /// Are the bytes of the value's tokens, put together, the value itself?
    ///
    /// True of almost all values where there is a fast path.
    pub fn is_faithful(&self, value: &str) -> bool {
        self.fast.as_ref().is_some_and(|fast| !fast.drops(value) && fast.keeps_as_is(value))
    }

    /// Bytes that every faithful value contains in whose tokens `ids` occur in a row, if any are
    /// known.
    pub fn needle(&self, ids: &[u32]) -> Option<Vec<u8>> {
        let fast = self.fast.as_ref()?;
        let added = self.inner.get_added_vocabulary();
        let mut best = Vec::new();
        let mut run = Vec::new();
        for &id in ids {
            let in_model = self.inner.get_model().id_to_token(id).and_then(|text| decode(&text));
            let in_added = added.simple_id_to_token(id).map(String::into_bytes);
            let bytes = match (in_model, in_added) {
                (Some(model), Some(added)) => (model == added).then_some(model),
                (model, added) => model.or(added),
            };
            run.extend_from_slice(bytes.as_deref().unwrap_or_default());
            if run.len() > best.len() {
                best.clone_from(&run);
            }
            let is_odd = fast.has_odd_added && added.get_added_tokens_decoder().contains_key(&id);
            if bytes.is_none() || is_odd {
                run.clear();
            }
        }
        (!best.is_empty()).then_some(best)
    }

    /// The text of tokens, for messages. `None` if one is not in the vocabulary.
    pub fn text(&self, ids: &[u32]) -> Option<String> {
        let mut bytes = Vec::new();
        for &id in ids {
            let text = self.inner.id_to_token(id)?;
            let decoded = self.fast.as_ref().and_then(|_| decode(&text));
            bytes.extend(decoded.unwrap_or_else(|| text.into_bytes()));
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// See [`Tokenizer::encoder`].
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    value: &'a str,
    cache: &'a mut Cache,
    ids: &'a mut Ids,
    buffers: &'a mut Buffers,
}

impl Encoder<'_> {
    /// Appends the tokens of a piece of the value.
    #[inline]
    pub fn encode(&mut self, piece: (usize, usize), tokens: &mut Vec<Token>) {
        let (tokenizer, value, buffers) = (self.tokenizer, self.value, &mut *self.buffers);
        let mut start = piece.0;
        self.cache.encode(
            value.as_bytes(),
            piece,
            self.ids,
            |piece, ids| tokenizer.encode_piece(piece, buffers, ids),
            |id, end| {
                let end = piece.0 + end;
                tokens.push(Token { id, start: floor(value, start), end: ceil(value, end) });
                start = end;
            },
        );
    }
}

impl Tokenizer {
    /// Replaces `ids` with the tokens of a piece.
    fn encode_piece(&self, piece: &[u8], buffers: &mut Buffers, ids: &mut Ids) {
        let Some(fast) = &self.fast else { return };
        if fast.ignore_merges
            && let Some(id) = self.inner.get_model().token_to_id(&characters(piece))
        {
            ids.clear();
            ids.push((id, piece.len() as u32));
        } else if piece.len() <= MAX_PIECE_BYTES {
            fast.merges.encode(piece, buffers, ids);
        } else {
            ids.clear();
            // Fails only where the unknown token is missing, and no byte is unknown here.
            let tokens = self.inner.get_model().tokenize(&characters(piece)).unwrap_or_default();
            let mut end = 0;
            for token in tokens {
                end += token.value.chars().count() as u32;
                ids.push((token.id, end));
            }
        }
    }
}

/// Appends the added tokens that occur between `from` and `to`, and has `rest` append the others.
fn cut(
    added: Option<&Added>,
    value: &str,
    (mut from, to): (usize, usize),
    tokens: &mut Vec<Token>,
    rest: &mut impl FnMut(usize, usize, &mut Vec<Token>),
) {
    if let Some(added) = added {
        for found in added.automaton.find_iter(Input::new(value).span(from..to)) {
            rest(from, found.start(), tokens);
            let id = added.ids[found.pattern()];
            tokens.push(Token { id, start: found.start(), end: found.end() });
            from = found.end();
        }
    }
    rest(from, to, tokens);
}

/// Where the character starts that the offset is in.
#[inline]
fn floor(value: &str, mut at: usize) -> usize {
    while !value.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Where the character ends that the offset is in; the offset itself if it is between two.
#[inline]
fn ceil(value: &str, mut at: usize) -> usize {
    while !value.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::bytes::character;
    use super::*;

    fn encode(tokenizer: &Tokenizer, value: &str) -> Vec<Token> {
        let (mut scratch, mut tokens) = (Scratch::default(), Vec::new());
        tokenizer.encode(value, &mut scratch, &mut tokens).unwrap();
        tokens
    }

    /// Compares the fast path with the crate, and gives the ids.
    fn check(tokenizer: &Tokenizer, value: &str) -> Vec<u32> {
        let tokens = encode(tokenizer, value);
        let mut expected = Vec::new();
        tokenizer.encode_slowly(value, &mut expected).unwrap();
        assert_eq!(tokens, expected, "{value:?}");
        tokens.iter().map(|token| token.id).collect()
    }

    #[test]
    fn agrees_with_python() {
        let cases = examples::cases();
        for (variant, (name, tokenizer)) in
            cases["variants"].as_array().unwrap().iter().zip(&*examples::VARIANTS)
        {
            assert!(tokenizer.is_fast(), "{name}");
            let texts = cases["texts"].as_array().unwrap();
            for (text, ids) in texts.iter().zip(variant["ids"].as_array().unwrap()) {
                let found = check(tokenizer, text.as_str().unwrap());
                assert_eq!(json!(found), *ids, "{name}: {text}");
            }
        }
    }

    #[test]
    fn tokens_cover_whole_characters() {
        let tokenizer = &examples::VARIANTS[0].1;
        let owl = encode(tokenizer, "a 🦉");
        assert!(owl.len() > 2, "{owl:?}");
        assert!(owl[2..].iter().all(|token| (token.start, token.end) == (2, 6)), "{owl:?}");
    }

    #[test]
    fn long_pieces_are_encoded_too() {
        for (_, tokenizer) in &*examples::VARIANTS {
            check(tokenizer, &"abra".repeat(400));
            check(tokenizer, &format!("{}x", " ".repeat(3000)));
        }
    }

    #[test]
    fn vocabularies_without_some_bytes_are_exact() {
        // U+0004 becomes no token, and what is left and right of it is merged.
        let mut file: Value = serde_json::from_slice(&examples::json(&[])).unwrap();
        file["model"]["vocab"].as_object_mut().unwrap().remove("\u{104}");
        let tokenizer = Tokenizer::from_json(&serde_json::to_vec(&file).unwrap()).unwrap();
        assert!(tokenizer.is_fast());
        assert_eq!(check(&tokenizer, "-\u{4}-"), check(&tokenizer, "--"));
        assert!(tokenizer.is_faithful("-\u{3}-") && !tokenizer.is_faithful("-\u{4}-"));
        // Only rare bytes may be missing; a vertical tab is too close to a newline.
        file["model"]["vocab"].as_object_mut().unwrap().remove("\u{10B}");
        let json = serde_json::to_vec(&file).unwrap();
        assert!(!Tokenizer::from_json(&json).unwrap().is_fast());
    }

    #[test]
    fn added_tokens_of_any_kind_are_exact() {
        let token = |id: u32, content: &str, flag: &str, normalized: bool| {
            let mut token = json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": normalized, "special": false,
            });
            token[flag] = json!(true);
            token
        };
        for flag in ["special", "single_word", "lstrip", "rstrip"] {
            let added = json!([
                token(2000, "<end>", flag, false),
                token(2001, "<end>s", "special", false),
                token(2002, "Å", flag, true),
                token(2003, "end", "special", true),
            ]);
            let json = examples::json(&[
                ("/added_tokens", added),
                ("/normalizer", json!({"type": "NFC"})),
            ]);
            let tokenizer = Tokenizer::from_json(&json).unwrap();
            assert!(tokenizer.is_fast());
            let text = "end <end> <end>s x<end>x bÅ A\u{30A} Å \u{212B} the<end>";
            let added = tokenizer.inner.token_to_id("Å").unwrap();
            assert!(check(&tokenizer, text).contains(&added), "{flag}");
            check(&tokenizer, "<end>  <end><end>y bend Å  ");
        }
    }

    #[test]
    fn unfamiliar_tokenizers_are_left_to_the_crate() {
        let split = |regex: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ]})
        };
        for regex in [r"\w+|\W", r"\p{L}++|.", r"^a|.", r"a(?=b)|.", r"(?i:ss)|.", r"[a[b]]|."] {
            let json = examples::json(&[("/pre_tokenizer", split(regex))]);
            let tokenizer = Tokenizer::from_json(&json).unwrap();
            assert!(!tokenizer.is_fast(), "{regex}");
            check(&tokenizer, "Straße, owls!");
        }
        // Gaps between matches are pieces too.
        let json = examples::json(&[("/pre_tokenizer", split(r"[a-f]+|\s+(?!\S)|\s+"))]);
        let tokenizer = Tokenizer::from_json(&json).unwrap();
        assert!(tokenizer.is_fast());
        check(&tokenizer, "face the  music, éé decade   ");
        for normalizer in [json!({"type": "Lowercase"}), json!({"type": "NFKC"})] {
            let json = examples::json(&[("/normalizer", normalizer)]);
            assert!(!Tokenizer::from_json(&json).unwrap().is_fast());
        }
    }

    #[test]
    fn truncation_and_padding_are_left_out() {
        let truncation = json!({
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
        });
        let json = examples::json(&[("/truncation", truncation), ("/normalizer", json!(null))]);
        assert!(check(&Tokenizer::from_json(&json).unwrap(), "one two three four").len() > 3);
    }

    #[test]
    fn files_that_cannot_be_used_are_errors() {
        let path = examples::path();
        let digest = Sha256::digest(std::fs::read(&path).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let first = Tokenizer::load(&path, Some(&digest)).unwrap();
        assert!(Arc::ptr_eq(&first, &Tokenizer::load(&path, None).unwrap()));
        let error = Tokenizer::load(&path, Some("00")).err().unwrap();
        assert!(error.ends_with("expected 00"), "{error}");
        let error = Tokenizer::load(Path::new("/no/such"), None).err().unwrap();
        assert!(error.starts_with("cannot read tokenizer /no/such: "), "{error}");
        let json = examples::json(&[("/model/dropout", json!(0.1))]);
        assert!(Tokenizer::from_json(&json).err().unwrap().contains("dropout"));
        assert!(Tokenizer::from_json(b"{}").is_err());
    }

    #[test]
    fn every_byte_has_a_character() {
        for byte in 0..=u8::MAX {
            assert_eq!(decode(&character(byte).to_string()), Some(vec![byte]));
        }
        assert_eq!(characters("é \n".as_bytes()), "Ã©ĠĊ");
        assert_eq!(decode("a b"), None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_crate(
            parts in prop::collection::vec(prop::sample::select(examples::ODD), 0..12),
            text in "\\PC{0,12}|[ a-c1-3'\\n.]{0,20}",
        ) {
            let mut scratch = Scratch::default();
            let (mut tokens, mut expected) = (Vec::new(), Vec::new());
            let value = parts.concat() + &text;
            for (name, tokenizer) in &*examples::VARIANTS {
                tokenizer.encode(&value, &mut scratch, &mut tokens).unwrap();
                tokenizer.encode_slowly(&value, &mut expected).unwrap();
                prop_assert_eq!(&tokens, &expected, "{}", name);
                // Again, from the cache.
                tokenizer.encode(&value, &mut scratch, &mut tokens).unwrap();
                prop_assert_eq!(&tokens, &expected, "{}", name);
            }
        }
    }
}
