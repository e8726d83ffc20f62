//! A line of JSON located without a document: where the values of the needed fields are, and whether
//! all of the line is what it should be.
//!
//! An [`Index`] marks the bytes that matter; a [`Locator`] walks from mark to mark along the [`Tree`]
//! of all paths, and gives a [`Record`]. Rules ask any [`Row`], of which a record is one kind.

mod cursor;
mod decoded;
mod escapes;
mod found;
mod index;
mod locator;
mod path;
mod row;
mod shape;
mod unreadable;

pub use index::Index;
pub(crate) use index::mark_word_characters;
pub use locator::Locator;
pub(crate) use path::{MAX_PATHS, Node, Tree, bits};
pub(crate) use row::Written;
pub use row::{Number, Record, Row, Value};
pub use unreadable::{MAX_DEPTH, Unreadable};
