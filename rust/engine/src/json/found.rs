//! What was found in a line so far: the values of its fields, and what has to be remembered until it
//! is known that they count.

use super::cursor::{Cursor, Escaping, Text};
use super::decoded::Decoded;
use super::index::Index;
use super::path::{Tree, bits};
use super::row::{NULL, Record, Slot};
use super::unreadable::Unreadable;

/// The node of the row itself.
pub const ROW: usize = 0;
/// Where no path leads.
pub const UNTRACKED: usize = usize::MAX;

/// Buffers that the next line reuses.
pub struct Found {
    /// The values of each field, in the order of the row.
    values: Vec<Vec<Slot>>,
    /// The decoded text of strings with escapes.
    decoded: Decoded,
    key: Decoded,
    frames: Vec<Frame>,
    /// What the frames on the stack remember: how many values each field had before.
    counts: Vec<usize>,
    /// The paths for which a null is something that is there, one bit each.
    pub nulls: u64,
    /// Is there a word for what is no number?
    pub knows_nan: bool,
    /// Are strings with escapes left as they are?
    pub leave_escapes: bool,
    /// Were some?
    has_escapes: bool,
}

/// An open object that a path leads through, other than the row itself.
struct Frame {
    node: usize,
    /// Where its counts start.
    counts: usize,
    /// The conditions that are met, one bit each.
    met: u64,
}

impl Found {
    /// Nothing, for so many paths.
    pub fn new(paths: usize) -> Found {
        Found {
            values: vec![Vec::new(); paths],
            decoded: Decoded::default(),
            key: Decoded::default(),
            frames: Vec::new(),
            counts: Vec::new(),
            nulls: 0,
            knows_nan: false,
            leave_escapes: false,
            has_escapes: false,
        }
    }

    /// The line in which all of it was found.
    #[inline]
    pub fn record<'a>(&'a self, block: &'a [u8], is_ascii: bool) -> Record<'a> {
        Record { block, is_ascii, found: &self.values, decoded: self.decoded.bytes() }
    }

    pub fn forget_all(&mut self) {
        for values in &mut self.values {
            values.clear();
        }
        self.decoded.clear();
        self.has_escapes = false;
        self.frames.clear();
        self.counts.clear();
    }

    /// Reads a key of the object at `node`, and its colon. Says where its value is in the tree.
    #[inline]
    pub fn key(
        &mut self,
        tree: &Tree,
        cursor: &mut Cursor<'_>,
        node: usize,
    ) -> Result<usize, Unreadable> {
        if cursor.peek() != Some(b'"') {
            return Err(cursor.expected("a key in quotes"));
        }
        let text = cursor.string()?;
        cursor.skip_space();
        if cursor.peek() != Some(b':') {
            return Err(cursor.expected("`:`"));
        }
        cursor.at += 1;
        cursor.skip_space();
        if node == UNTRACKED {
            return Ok(UNTRACKED);
        }
        let mut key = &cursor.block[text.start..text.end];
        if text.escapes != Escaping::None {
            self.key.clear();
            self.key.append(cursor.block, cursor.index, text.start, text.end);
            key = self.key.bytes();
        }
        for (name, child) in &tree.node(node).keys {
            if name.as_bytes() == key {
                self.forget(tree, *child, node != ROW);
                return Ok(*child);
            }
        }
        Ok(UNTRACKED)
    }

    /// With duplicate keys the last one counts, as in Python's `json` and in `serde_json`.
    #[inline]
    fn forget(&mut self, tree: &Tree, child: usize, is_nested: bool) {
        let child = tree.node(child);
        let counts = match self.frames.last_mut() {
            Some(frame) if is_nested => {
                for condition in &child.decides {
                    frame.met &= !(1 << condition);
                }
                frame.counts
            }
            _ => usize::MAX,
        };
        for field in bits(child.below) {
            let count = if counts == usize::MAX { 0 } else { self.counts[counts + field] };
            self.values[field].truncate(count);
        }
    }

    pub fn enter(&mut self, tree: &Tree, node: usize) {
        debug_assert!(tree.node(node).below != 0);
        self.frames.push(Frame { node, counts: self.counts.len(), met: 0 });
        self.counts.extend(self.values.iter().map(Vec::len));
    }

    /// The object on top of the stack has ended: what its conditions forbid does not count.
    pub fn leave(&mut self, tree: &Tree) {
        let frame = self.frames.pop().expect("every tracked object has a frame");
        for (index, condition) in tree.node(frame.node).conditions.iter().enumerate() {
            if frame.met >> index & 1 == 0 {
                for field in bits(condition.paths) {
                    self.values[field].truncate(self.counts[frame.counts + field]);
                }
            }
        }
        self.counts.truncate(frame.counts);
    }

    #[inline]
    pub fn take_text(&mut self, tree: &Tree, node: usize, cursor: &Cursor<'_>, text: Text) {
        let node = tree.node(node);
        let block = cursor.block;
        let Text { start, end, escapes } = text;
        let slot = if escapes == Escaping::None {
            Slot::Plain { start, end }
        } else if self.leave_escapes && node.decides.is_empty() {
            self.has_escapes = true;
            Slot::Escaped { start, end, is_plain: escapes == Escaping::Plain }
        } else {
            self.decode(block, cursor.index, start, end)
        };
        for field in bits(node.here) {
            self.values[field].push(slot);
        }
        if let Some(frame) = self.frames.last_mut()
            && !node.decides.is_empty()
        {
            let bytes = match slot {
                Slot::Decoded { start, end, .. } => &self.decoded.bytes()[start..end],
                _ => &block[text.start..text.end],
            };
            for &condition in &node.decides {
                if tree.node(frame.node).conditions[condition].text.as_bytes() == bytes {
                    frame.met |= 1 << condition;
                }
            }
        }
    }

    fn decode(&mut self, block: &[u8], index: &Index, start: usize, end: usize) -> Slot {
        let from = self.decoded.length();
        let is_ascii = self.decoded.append(block, index, start, end);
        Slot::Decoded { start: from, end: self.decoded.length(), is_ascii }
    }

    /// Decodes what was left as it is.
    pub fn decode_all(&mut self, block: &[u8], index: &Index) {
        if !std::mem::take(&mut self.has_escapes) {
            return;
        }
        let mut values = std::mem::take(&mut self.values);
        // Of a string that several fields have, once.
        let mut last = None;
        for slot in values.iter_mut().flatten() {
            let Slot::Escaped { start, end, .. } = *slot else { continue };
            *slot = match last {
                Some((at, decoded)) if at == start => decoded,
                _ => self.decode(block, index, start, end),
            };
            last = Some((start, *slot));
        }
        self.values = values;
    }

    #[inline]
    pub fn take_number(&mut self, tree: &Tree, node: usize, start: usize, end: usize) {
        for field in bits(tree.node(node).here) {
            self.values[field].push(Slot::Number { start, end });
        }
    }

    #[inline]
    pub fn take_other(&mut self, tree: &Tree, node: usize, name: &'static str) {
        let counted = if name == NULL { self.nulls } else { u64::MAX };
        for field in bits(tree.node(node).here & counted) {
            self.values[field].push(Slot::Other(name));
        }
    }
}
