//! Reads one thing after the other in a line: a string, a number, a word; from mark to mark.

use super::decoded::unit;
use super::index::{Index, Run};
use super::unreadable::Unreadable;

/// A JSON string between its quotes: `block[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text {
    pub start: usize,
    pub end: usize,
    pub escapes: Escaping,
}

/// What is known of the escapes in a string.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Escaping {
    /// There are none.
    None,
    /// None stands for an ASCII letter, digit or mark other than `"`, `\` and `/`, nor for a case
    /// variant of one: what the string says of these stands there as it is.
    Plain,
    /// There may be such ones.
    Hiding,
}

/// A place in a line.
#[derive(Clone)]
pub struct Cursor<'a> {
    pub block: &'a [u8],
    pub index: &'a Index,
    pub at: usize,
    /// Of the line.
    pub start: usize,
    pub end: usize,
}

impl Cursor<'_> {
    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        if self.at < self.end { Some(self.block[self.at]) } else { None }
    }

    #[cold]
    pub fn expected(&self, expected: &'static str) -> Unreadable {
        Unreadable::InvalidJson { at: self.at - self.start, expected }
    }

    #[inline(always)]
    pub fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    pub fn word(&mut self, word: &str, name: &'static str) -> Result<&'static str, Unreadable> {
        if !self.block[self.at..self.end].starts_with(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(name)
    }

    pub fn number(&mut self) -> Result<(), Unreadable> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A number has no leading zeros: after a 0 only `.`, `e` or its end may follow.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// Reads the string whose opening quote is at the cursor.
    #[inline]
    pub fn string(&mut self) -> Result<Text, Unreadable> {
        self.at += 1;
        self.rest_of_string()
    }

    /// Reads the string whose opening quote is before the cursor.
    #[inline(always)]
    pub fn rest_of_string(&mut self) -> Result<Text, Unreadable> {
        let start = self.at;
        let run = self.index.string(start);
        self.at = run.end.min(self.end);
        let escapes = match run {
            Run { unsure: true, .. } => self.check_escapes(start)?,
            Run { escaped: true, .. } => Escaping::Plain,
            _ => Escaping::None,
        };
        match self.peek() {
            Some(b'"') => {
                let end = self.at;
                self.at += 1;
                Ok(Text { start, end, escapes })
            }
            Some(_) => Err(self.expected("an escape instead of a control character")),
            None => Err(self.expected("the end of the string")),
        }
    }

    /// Checks every escape from `start` to the cursor.
    #[cold]
    fn check_escapes(&mut self, start: usize) -> Result<Escaping, Unreadable> {
        let end = self.at;
        let mut escapes = Escaping::Plain;
        self.at = start;
        while let Some(at) = self.index.next_escape(self.at, end) {
            self.at = at;
            if let Some(0..0x80 | 0x17F | 0x212A) = self.escape()? {
                escapes = Escaping::Hiding;
            }
        }
        self.at = end;
        Ok(escapes)
    }

    /// Checks the escape at the cursor, and returns the code of one that is a code; a surrogate pair
    /// counts as one.
    fn escape(&mut self) -> Result<Option<u32>, Unreadable> {
        let at = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(None)
            }
            Some(b'u') => {
                let unit = self.unit()?;
                let is_right = match unit {
                    0xD800..0xDC00 => {
                        self.block[self.at..self.end].starts_with(b"\\u") && {
                            self.at += 1;
                            (0xDC00..0xE000).contains(&self.unit()?)
                        }
                    }
                    _ => !(0xDC00..0xE000).contains(&unit),
                };
                if is_right {
                    Ok(Some(unit))
                } else {
                    Err(Unreadable::LoneSurrogate { at: at - self.start })
                }
            }
            _ => Err(self.expected("an escape sequence")),
        }
    }

    /// Reads `uXXXX`, whose first byte is known.
    fn unit(&mut self) -> Result<u32, Unreadable> {
        self.at += 1;
        let digits = self.block[self.at..self.end].first_chunk();
        if let Some(unit) = digits.and_then(|digits| unit(*digits)) {
            self.at += 4;
            return Ok(unit);
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
            self.at += 1;
        }
        Err(self.expected("a hexadecimal digit"))
    }
}
