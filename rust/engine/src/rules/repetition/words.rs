//! The words of a value, and where they are in it.

/// A word of the value.
#[derive(Clone, Copy)]
pub struct Word {
    /// Byte offsets.
    pub start: usize,
    pub end: usize,
    /// Characters of all words before it.
    pub chars_before: usize,
}

/// Replaces `words` by the words of the value, and one more, which is empty, so that each has a
/// successor.
pub fn split(value: &str, is_ascii: bool, words: &mut Vec<Word>) {
    let mut chars_before = 0;
    words.clear();
    for piece in value.split_whitespace() {
        let offset = span_of(value, piece).0;
        for_each_word(piece, |start, end| {
            words.push(Word { start: offset + start, end: offset + end, chars_before });
            let chars = if is_ascii { end - start } else { piece[start..end].chars().count() };
            chars_before += chars;
        });
    }
    words.push(Word { start: value.len(), end: value.len(), chars_before });
}

/// Calls `each` with the span of each word in a piece without whitespace: the punctuation marks
/// before its first and after its last word character, and all that is between these two.
fn for_each_word(piece: &str, mut each: impl FnMut(usize, usize)) {
    let bytes = piece.as_bytes();
    if bytes[0].is_ascii_alphanumeric() && bytes[bytes.len() - 1].is_ascii_alphanumeric() {
        return each(0, piece.len());
    }
    let start = piece.find(is_word_character).unwrap_or(piece.len());
    let end = piece.trim_end_matches(|c| !is_word_character(c)).len();
    for_each_mark(&piece[..start], 0, &mut each);
    if start < end {
        each(start, end);
        for_each_mark(&piece[end..], end, &mut each);
    }
}

/// A mark is one character, but several dots or hyphens in a row are one mark.
fn for_each_mark(marks: &str, offset: usize, each: &mut impl FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(c) = marks[at..].chars().next() {
        let mut length = c.len_utf8();
        if matches!(c, '.' | '-') {
            length = marks.len() - at - marks[at..].trim_start_matches(c).len();
        }
        each(offset + at, offset + at + length);
        at += length;
    }
}

fn is_word_character(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => true,
        c if c.is_ascii() => false,
        c => regex_syntax::is_word_character(c),
    }
}

/// Where a part of the value is.
pub fn span_of(value: &str, part: &str) -> (usize, usize) {
    let start = part.as_ptr() as usize - value.as_ptr() as usize;
    (start, start + part.len())
}
