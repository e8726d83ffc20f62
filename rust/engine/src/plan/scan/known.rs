//! What is known of all matches of an expression before it is tried.

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::rules::regex::map_children;

/// More alternatives than this at the start of a pattern are hardly a filter.
const MAX_NEEDLES: usize = 64;

/// The expression in lower case, as far as it is ASCII letters in either case.
pub fn fold(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Literal(literal) => Hir::literal(literal.0.to_ascii_lowercase()),
        HirKind::Class(class) => match letter(class) {
            Some(letter) => Hir::literal([letter]),
            None => hir.clone(),
        },
        _ => map_children(hir, &fold),
    }
}

/// The ASCII letter of which the class holds nothing but case variants.
fn letter(class: &Class) -> Option<u8> {
    let mut folded = match class {
        Class::Unicode(class) if class.ranges().len() <= 3 => {
            let ranges = class.ranges().iter().map(|range| (range.start(), range.end()));
            let chars: Vec<char> = ranges.flat_map(|(start, end)| start..=end).take(4).collect();
            chars
        }
        Class::Bytes(class) if class.ranges().len() <= 2 => {
            let ranges = class.ranges().iter().map(|range| (range.start(), range.end()));
            ranges.flat_map(|(start, end)| start..=end).take(4).map(char::from).collect()
        }
        _ => return None,
    };
    for c in &mut folded {
        *c = match *c {
            '\u{17F}' => 's',
            '\u{212A}' => 'k',
            other => other.to_ascii_lowercase(),
        };
    }
    let first = *folded.first()?;
    let is_letter = first.is_ascii_alphabetic() && folded.iter().all(|&c| c == first);
    is_letter.then_some(first as u8)
}

/// Does every match start at the start of a word, if it starts with a word character?
pub fn starts_at_word(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => starts_at_word(&capture.sub),
        HirKind::Concat(parts) => starts_at_word(&parts[0]),
        HirKind::Alternation(parts) => parts.iter().all(starts_at_word),
        HirKind::Look(look) => matches!(
            look,
            Look::WordAscii
                | Look::WordUnicode
                | Look::WordStartAscii
                | Look::WordStartUnicode
                | Look::WordStartHalfAscii
                | Look::WordStartHalfUnicode
        ),
        _ => false,
    }
}

/// ASCII texts, in lower case, one of which every match of the folded expression starts (or ends)
/// with; `None` if that says too little.
pub fn literals(folded: &Hir, kind: ExtractKind) -> Option<Vec<Vec<u8>>> {
    let is_prefix = matches!(kind, ExtractKind::Prefix);
    let mut extractor = Extractor::new();
    extractor.kind(kind).limit_total(MAX_NEEDLES);
    let found = extractor.extract(folded);
    let literals = found.literals()?;
    let mut all = Vec::new();
    for literal in literals {
        let bytes = literal.as_bytes();
        let ascii = if is_prefix {
            bytes.split(|byte| !byte.is_ascii()).next()
        } else {
            bytes.rsplit(|byte| !byte.is_ascii()).next()
        }?;
        if ascii.len() < 2 {
            return None;
        }
        all.push(ascii.to_ascii_lowercase());
    }
    (!all.is_empty()).then_some(all)
}

/// Byte strings, in the cases that there are, one of which every match starts with.
pub fn raw_literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut extractor = Extractor::new();
    extractor.limit_total(MAX_NEEDLES);
    let found = extractor.extract(hir);
    let all: Vec<Vec<u8>> =
        found.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    (!all.is_empty() && all.iter().all(|literal| literal.len() > 1)).then_some(all)
}
