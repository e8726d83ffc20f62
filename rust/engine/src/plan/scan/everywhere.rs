//! Patterns whose matches may start anywhere: with known text in them, or with nothing known.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::meta;
use regex_syntax::hir::Hir;

use crate::json::Value;
use crate::rules::regex::{Parsed, compile};

/// Texts that may occur anywhere.
pub struct Anywhere {
    automaton: AhoCorasick,
    /// The length of the longest needle.
    longest: usize,
    patterns: Vec<usize>,
}

impl Anywhere {
    pub fn new(needles: Vec<(Vec<u8>, usize)>) -> Result<Option<Anywhere>, String> {
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

    /// Is there any of them?
    pub fn occur(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    pub fn search(
        &self,
        bytes: &[u8],
        attempt: &mut dyn FnMut(usize, Option<usize>) -> bool,
    ) -> bool {
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
pub struct Rest {
    any: meta::Regex,
    ascii: meta::Regex,
    patterns: Vec<usize>,
}

impl Rest {
    pub fn new(patterns: Vec<(usize, Parsed)>) -> Result<Option<Rest>, String> {
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

    pub fn search(
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
