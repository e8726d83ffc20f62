//! Lines or paragraphs that were there before.

use super::table::Table;
use super::words::span_of;

/// What duplicate lines or paragraphs there are.
pub struct Duplicates {
    pub total: usize,
    pub count: usize,
    pub chars: usize,
    /// The span of the first.
    pub first: (usize, usize),
}

impl Duplicates {
    /// `distinct` is a buffer for the distinct ones so far; the index is the number.
    pub fn new<'a>(
        value: &str,
        pieces: impl Iterator<Item = &'a str>,
        at_most: usize,
        table: &mut Table,
        distinct: &mut Vec<(usize, usize)>,
    ) -> Duplicates {
        table.reset(at_most);
        distinct.clear();
        let mut duplicates = Duplicates { total: 0, count: 0, chars: 0, first: (0, 0) };
        for piece in pieces {
            let span = span_of(value, piece);
            let hash = table.hash(piece.as_bytes());
            let next = distinct.len();
            let number = table.number(hash, next, |number| {
                let (start, end) = distinct[number];
                &value[start..end] == piece
            });
            duplicates.total += 1;
            if number as usize == next {
                distinct.push(span);
                continue;
            }
            if duplicates.count == 0 {
                duplicates.first = span;
            }
            duplicates.count += 1;
            duplicates.chars += piece.chars().count();
        }
        duplicates
    }
}
