//! The tokenizers that tests use: one small vocabulary with the pre-tokenizers of several models.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::Tokenizer;

pub fn path() -> PathBuf {
    data("tokenizer.json")
}

pub fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(data("tokenizer_cases.json")).unwrap()).unwrap()
}

fn data(name: &str) -> PathBuf {
    let engine = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    engine.join("../../tests/filter/data").join(name)
}

/// The file's content with other values at some JSON pointers.
pub fn json(changes: &[(&str, Value)]) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    serde_json::to_vec(&file).unwrap()
}

/// Name and tokenizer of each variant in the cases.
pub static VARIANTS: LazyLock<Vec<(String, Arc<Tokenizer>)>> = LazyLock::new(|| {
    let cases = cases();
    let variants = cases["variants"].as_array().unwrap();
    let build = |variant: &Value| {
        let json = json(&[
            ("/pre_tokenizer", variant["pre_tokenizer"].clone()),
            ("/normalizer", variant["normalizer"].clone()),
            ("/model/ignore_merges", variant["ignore_merges"].clone()),
        ]);
        let name = variant["name"].as_str().unwrap().to_owned();
        (name, Arc::new(Tokenizer::from_json(&json).unwrap()))
    };
    variants.iter().map(build).collect()
});

/// Pieces of text in which tokenizers differ.
pub const ODD: &[&str] = &[
    "'s",
    "'S",
    "'ſ",
    "'ll",
    "'LL",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\n\n \n",
    "\u{A0}",
    "\u{2003}",
    "\u{85}",
    "\u{B}",
    "\0",
    "\u{4}",
    "\u{13}",
    "\u{7F}",
    "1",
    "12",
    "12345",
    "٣",
    "½",
    "𝟘",
    "a",
    "Ab",
    "ABC",
    "ß",
    "é",
    "e\u{301}",
    "A\u{30A}",
    "\u{212B}",
    "ガ",
    "か\u{3099}",
    "한",
    "Ж",
    "ǅ",
    "ʰ",
    "_",
    "-",
    "!?",
    "...",
    "//",
    "<|im_end|>",
    "<|im_",
    "owl",
    " owl",
    "🦉",
    "\u{40000}",
    "\u{10FFFF}",
    "ا\u{64E}",
    "一二三",
    "the",
    " the",
    "ing",
];
