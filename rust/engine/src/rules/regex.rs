//! Regular expressions, matched in time linear in the value: no backtracking, so no look-around and
//! no back-references. Syntax and Unicode version are those of the `regex` crate; `$` matches at
//! the very end only. Characters are compared one by one: `é` is not `e` with a mark after it, and
//! `\b` is Unicode's, which knows no scripts without spaces; the `literal` rule does both.
//!
//! How the patterns of all rules are searched together is the business of `plan/scan`.

use std::sync::LazyLock;

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};
use serde::Deserialize;

use crate::unicode::Set;
use crate::unicode::words::UNSPACED;

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

impl Parsed {
    /// What to know about this pattern before relying on it.
    pub fn remark(&self) -> Option<&'static str> {
        let mut found = Neighbours::default();
        Edges::of(&self.hir, &mut found);
        if found.unspaced {
            Some(
                "asks for a word boundary (\\b) beside a letter of a script without spaces, and \
                 within a text of such a script there is none: leave \\b out there, or use kind \
                 literal, for which these letters are words by themselves",
            )
        } else if found.emoji {
            Some(
                "asks for a word boundary (\\b) beside an emoji, which is there only if a letter or \
                 digit is on the other side: leave \\b out there, or use kind literal",
            )
        } else {
            None
        }
    }
}

/// What characters may be somewhere.
#[derive(Clone, Copy, Default)]
struct Neighbours {
    /// Letters of scripts that write no spaces.
    unspaced: bool,
    emoji: bool,
}

impl Neighbours {
    fn add(&mut self, other: Neighbours) {
        self.unspaced |= other.unspaced;
        self.emoji |= other.emoji;
    }

    /// Of a class that holds them all, such as `\w` or `.`, they are not what it is there for.
    fn of(class: &ClassUnicode) -> Neighbours {
        static KINDS: LazyLock<[ClassUnicode; 2]> = LazyLock::new(|| {
            let classes = [format!(r"[\p{{L}}&&[{UNSPACED}]]"), r"[\p{Emoji}--\w#*]".to_owned()];
            classes.map(|class| Set::new(&class).to_class())
        });
        let has = |kind: &ClassUnicode| {
            let mut found = class.clone();
            found.intersect(kind);
            !found.ranges().is_empty() && found != *kind
        };
        Neighbours { unspaced: has(&KINDS[0]), emoji: has(&KINDS[1]) }
    }

    fn of_char(c: Option<char>) -> Neighbours {
        let ranges = c.map(|c| ClassUnicodeRange::new(c, c));
        Neighbours::of(&ClassUnicode::new(ranges))
    }
}

/// How the matches of an expression may begin and end.
#[derive(Clone, Copy, Default)]
struct Edges {
    first: Neighbours,
    last: Neighbours,
    /// Is a word boundary asked for before the first character, or after the last one?
    opens: bool,
    closes: bool,
    is_empty: bool,
}

impl Edges {
    /// The edges of an expression; adds what is beside a word boundary within it.
    fn of(hir: &Hir, found: &mut Neighbours) -> Edges {
        match hir.kind() {
            HirKind::Empty => Edges { is_empty: true, ..Edges::default() },
            HirKind::Look(look) => {
                let asks = !matches!(
                    look,
                    Look::Start
                        | Look::End
                        | Look::StartLF
                        | Look::EndLF
                        | Look::StartCRLF
                        | Look::EndCRLF
                        | Look::WordAsciiNegate
                        | Look::WordUnicodeNegate
                );
                Edges { opens: asks, closes: asks, is_empty: true, ..Edges::default() }
            }
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).unwrap_or_default();
                Edges {
                    first: Neighbours::of_char(text.chars().next()),
                    last: Neighbours::of_char(text.chars().next_back()),
                    ..Edges::default()
                }
            }
            HirKind::Class(Class::Unicode(class)) => {
                let either = Neighbours::of(class);
                Edges { first: either, last: either, ..Edges::default() }
            }
            HirKind::Class(Class::Bytes(_)) => Edges::default(),
            HirKind::Capture(capture) => Edges::of(&capture.sub, found),
            HirKind::Repetition(repetition) => {
                let mut edges = Edges::of(&repetition.sub, found);
                if repetition.max != Some(1) {
                    edges.then(edges, found);
                }
                edges.is_empty |= repetition.min == 0;
                edges
            }
            HirKind::Concat(parts) => {
                let mut all = Edges { is_empty: true, ..Edges::default() };
                for part in parts {
                    let part = Edges::of(part, found);
                    all = all.then(part, found);
                }
                all
            }
            HirKind::Alternation(parts) => {
                let mut all = Edges::default();
                for part in parts {
                    let part = Edges::of(part, found);
                    all.first.add(part.first);
                    all.last.add(part.last);
                    all.opens |= part.opens;
                    all.closes |= part.closes;
                    all.is_empty |= part.is_empty;
                }
                all
            }
        }
    }

    fn then(mut self, next: Edges, found: &mut Neighbours) -> Edges {
        if self.closes {
            found.add(next.first);
        }
        if next.opens {
            found.add(self.last);
        }
        if self.is_empty {
            self.first.add(next.first);
            self.opens |= next.opens;
        }
        let (mut last, mut closes) = (next.last, next.closes);
        if next.is_empty {
            last.add(self.last);
            closes |= self.closes;
        }
        let is_empty = self.is_empty && next.is_empty;
        Edges { last, closes, is_empty, ..self }
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

    #[test]
    fn remarks_on_boundaries_that_are_hardly_there() {
        let remark = |pattern| parse(pattern, false, true).unwrap().remark();
        for pattern in [
            r"\b猫\b",
            r"\b(?:owl|猫)s?",
            r"(?:owl|フクロウ)\b",
            r"\b[猫犬]+\b",
            r"\b\p{Han}",
            r"\b(x?)猫",
            r"\b{start}นก",
            r"(\bx|y\b)*ー",
            r"猫(\b)",
            r"(?-u:\b)猫",
        ] {
            let found = remark(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert!(found.contains("script without spaces"), "{pattern}: {found}");
        }
        for pattern in [r"\b🦉\b", r"owl\s*\b[🦉🦅]", r"\p{Emoji_Presentation}\b"] {
            let found = remark(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert!(found.contains("emoji"), "{pattern}: {found}");
        }
        for pattern in [
            r"\bowls?\b",
            r"猫",
            r"猫 \bowl\b",
            r"\b\w+\b",
            r"\b.",
            r"\p{L}\b",
            r"\bсова\b",
            r"\b[^a]",
            r"\B猫",
            r"^🦉$",
            r"🦉 \d\b",
            r"\b올빼미\b",
        ] {
            assert_eq!(remark(pattern), None, "{pattern}");
        }
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
