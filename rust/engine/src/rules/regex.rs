//! Regular expressions, matched in time linear in the value: no backtracking, so no look-around and
//! no back-references. Syntax and Unicode version are those of the `regex` crate; `$` matches at
//! the very end only.
//!
//! How the patterns of all rules are searched together is the business of [`crate::scan`].

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};
use serde::Deserialize;

/// The compiled size above which a pattern is refused.
const MAX_COMPILED_BYTES: usize = 256 << 20;

/// A value breaks this rule if a forbidden pattern matches, or no required one does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexSpec {
    /// At least one.
    pub patterns: Vec<String>,
    /// What a match means.
    #[serde(default)]
    pub mode: Mode,
    /// Match letters of either case.
    #[serde(default)]
    pub ignore_case: bool,
    /// Unicode classes, word boundaries and case. Without it `\w`, `\d`, `\s` and `\b` are ASCII,
    /// and `.` matches one *byte*, so a span may cut a character.
    #[serde(default = "yes")]
    pub unicode: bool,
}

/// What a match of a pattern means.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No pattern may match.
    #[default]
    Forbid,
    /// At least one pattern must match.
    Require,
}

fn yes() -> bool {
    true
}

/// A pattern, parsed.
pub struct Parsed {
    /// For any value.
    pub hir: Hir,
    /// For values that are ASCII: it decides the same, and needs no Unicode tables. On 1 kB of
    /// text `(?i)\bword\b` takes 100 times as long with a Unicode word boundary.
    pub ascii: Hir,
    /// Is the empty match between two bytes of a character excluded?
    pub utf8: bool,
}

impl RegexSpec {
    /// Parses the pattern with this index, or says what is wrong with it.
    pub fn parse(&self, index: usize) -> Result<Parsed, String> {
        let config = syntax::Config::new()
            .case_insensitive(self.ignore_case)
            .unicode(self.unicode)
            .utf8(self.unicode);
        let hir = syntax::parse_with(&self.patterns[index], &config)
            .map_err(|error| error.to_string())?;
        let ascii = for_ascii(&hir);
        Ok(Parsed { hir, ascii, utf8: self.unicode })
    }
}

/// Compiles one automaton for all of these.
pub fn compile(patterns: &[&Hir], utf8: bool) -> Result<meta::Regex, String> {
    let config = meta::Config::new()
        .utf8_empty(utf8)
        .nfa_size_limit(Some(MAX_COMPILED_BYTES))
        .hybrid_cache_capacity(16 << 20);
    meta::Regex::builder().configure(config).build_many_from_hir(patterns).map_err(|error| {
        match error.size_limit() {
            Some(limit) => format!("larger than {limit} bytes when compiled"),
            None => error.to_string(),
        }
    })
}

/// The same expression for values that are ASCII.
fn for_ascii(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            other => *other,
        }),
        HirKind::Class(Class::Unicode(class)) => {
            let mut class = class.clone();
            class.intersect(&ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7F')]));
            Hir::class(Class::Unicode(class))
        }
        _ => map_children(hir, &for_ascii),
    }
}

/// The same expression with other parts.
pub fn map_children(hir: &Hir, map: &dyn Fn(&Hir) -> Hir) -> Hir {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let mut repetition = repetition.clone();
            repetition.sub = Box::new(map(&repetition.sub));
            Hir::repetition(repetition)
        }
        HirKind::Capture(capture) => {
            let mut capture = capture.clone();
            capture.sub = Box::new(map(&capture.sub));
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(map).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(map).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pattern: &str, ignore_case: bool, unicode: bool) -> Result<Parsed, String> {
        let patterns = vec![pattern.to_owned()];
        RegexSpec { patterns, mode: Mode::Forbid, ignore_case, unicode }.parse(0)
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let message = |pattern| parse(pattern, false, true).err().unwrap();
        assert!(message("(open").contains("unclosed group"), "{}", message("(open"));
        assert!(message("a(?=b)").contains("look-around"), "{}", message("a(?=b)"));
        let large = parse(r"(?:\w{1000}){1000}", false, true).unwrap();
        let message = compile(&[&large.hir], true).unwrap_err();
        assert!(message.contains("bytes when compiled"), "{message}");
    }

    proptest! {
        #[test]
        fn the_ascii_form_decides_the_same(
            pattern in prop::sample::select(vec![
                r"\bk\w*\b", r"[^a]+\b", r"\B.\B", r"(?i)s[^\d]k", r"\s\S", r"^\W*$", r"é|x", r"[é-ü]*b",
                r"\b{start}a", r"a\b{end}", r"(?m)^x?$", r"(?-u:\b)a(?-u:\w)", r"\p{Lu}+", r"\P{L}a",
            ]),
            ignore_case: bool,
            value in "[\\x00-\\x7f]{0,12}|[akxs _1A]{0,12}",
        ) {
            let parsed = parse(pattern, ignore_case, true).unwrap();
            let whole = compile(&[&parsed.hir], true).unwrap();
            let ascii = compile(&[&parsed.ascii], true).unwrap();
            prop_assert_eq!(whole.find(&value), ascii.find(&value));
        }
    }
}
