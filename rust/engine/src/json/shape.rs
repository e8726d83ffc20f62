//! The shape of a line, by which most lines of a file are read.

use super::cursor::Cursor;
use super::found::{Found, ROW, UNTRACKED};
use super::path::Tree;

/// What all lines of a file mostly have in common: the bytes between their values. A line with the
/// same bytes there needs no other look than at its values.
///
/// Measured with the number rule: 539 MB/s instead of 443 on number rows, 611 instead of 576 on text.
#[derive(Default)]
pub struct Shape {
    parts: Vec<Part>,
    /// After the last value.
    end: Piece,
}

/// A value, and what stands before it: braces, commas, keys, spaces, and the quote of a string.
struct Part {
    before: Piece,
    node: usize,
    is_string: bool,
}

/// Bytes that are the same in each line. Most are short, and compared without a loop.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// If there are no more of them: the bytes, and which of their bits count.
    short: Option<[[u128; 2]; 2]>,
}

const SHORT: usize = 32;

impl Piece {
    fn new(bytes: &[u8]) -> Piece {
        let short = (bytes.len() <= SHORT).then(|| {
            let (mut short, mut counts) = ([0; SHORT], [0; SHORT]);
            short[..bytes.len()].copy_from_slice(bytes);
            counts[..bytes.len()].fill(0xFF);
            [halves(&short), halves(&counts)]
        });
        Piece { bytes: bytes.to_vec(), short }
    }

    /// Is it at the cursor? It has no line feed, so it ends before the line does.
    #[inline(always)]
    fn is_next(&self, cursor: &Cursor<'_>) -> bool {
        let next = cursor.block[cursor.at..].first_chunk::<SHORT>();
        if let (Some([bytes, counts]), Some(next)) = (&self.short, next) {
            let next = halves(next);
            return ((next[0] ^ bytes[0]) & counts[0]) | ((next[1] ^ bytes[1]) & counts[1]) == 0;
        }
        cursor.block[cursor.at..cursor.end].starts_with(&self.bytes)
    }
}

impl Shape {
    /// Locates the fields in a line that looks like the ones before. `false` if it does not, or is
    /// not valid.
    #[inline]
    pub fn follow(&self, tree: &Tree, mut cursor: Cursor<'_>, found: &mut Found) -> bool {
        !self.parts.is_empty()
            && self.parts.iter().all(|part| part.follow(tree, &mut cursor, found))
            && cursor.at + self.end.bytes.len() == cursor.end
            && self.end.is_next(&cursor)
    }

    /// The shape of a line, if it is an object of strings and numbers, with other constants where
    /// no path leads.
    #[cold]
    pub fn learn(tree: &Tree, mut cursor: Cursor<'_>, found: &mut Found) -> Option<Shape> {
        let mut shape = Shape::default();
        let mut before = cursor.at;
        cursor.skip_space();
        if cursor.peek() != Some(b'{') {
            return None;
        }
        loop {
            cursor.at += 1;
            cursor.skip_space();
            let node = found.key(tree, &mut cursor, ROW).ok()?;
            let is_string = cursor.peek() == Some(b'"');
            let is_twice = shape.parts.iter().any(|part| part.node == node);
            match cursor.peek()? {
                _ if node != UNTRACKED && is_twice => return None,
                b'"' | b'-' | b'0'..=b'9' => {
                    cursor.at += usize::from(is_string);
                    let piece = Piece::new(&cursor.block[before..cursor.at]);
                    shape.parts.push(Part { before: piece, node, is_string });
                    if is_string {
                        cursor.rest_of_string().ok()?;
                    } else {
                        cursor.number().ok()?;
                    }
                    before = cursor.at;
                }
                _ if node != UNTRACKED => return None,
                b't' => drop(cursor.word("true", "").ok()?),
                b'f' => drop(cursor.word("false", "").ok()?),
                b'n' => drop(cursor.word("null", "").ok()?),
                _ => return None,
            }
            cursor.skip_space();
            match cursor.peek()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        cursor.at += 1;
        cursor.skip_space();
        shape.end = Piece::new(&cursor.block[before..cursor.end]);
        cursor.peek().is_none().then_some(shape)
    }
}

#[inline(always)]
fn halves(bytes: &[u8; SHORT]) -> [u128; 2] {
    let (halves, _) = bytes.as_chunks::<16>();
    [u128::from_ne_bytes(halves[0]), u128::from_ne_bytes(halves[1])]
}

impl Part {
    #[inline(always)]
    fn follow(&self, tree: &Tree, cursor: &mut Cursor<'_>, found: &mut Found) -> bool {
        if !self.before.is_next(cursor) {
            return false;
        }
        cursor.at += self.before.bytes.len();
        if self.is_string {
            let Ok(text) = cursor.rest_of_string() else { return false };
            if self.node != UNTRACKED {
                found.take_text(tree, self.node, cursor, text);
            }
        } else {
            let start = cursor.at;
            if cursor.number().is_err() {
                return false;
            }
            if self.node != UNTRACKED {
                found.take_number(tree, self.node, start, cursor.at);
            }
        }
        true
    }
}
