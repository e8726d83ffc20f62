//! Reads one thing after the other in a line: a string, a number, a word; from mark to mark.

use super::index::Index;
use super::unreadable::Unreadable;

/// A JSON string between its quotes: `block[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text {
    pub start: usize,
    pub end: usize,
    pub escaped: bool,
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

    pub fn number(&mut self) -> Result<&'static str, Unreadable> {
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
        Ok("a number")
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
        let mut escaped = false;
        loop {
            self.at = self.index.next_stop(self.at).min(self.end);
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok(Text { start, end, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("an escape instead of a control character")),
                None => return Err(self.expected("the end of the string")),
            }
        }
    }

    /// Checks the escape at the cursor; a surrogate pair counts as one.
    fn escape(&mut self) -> Result<(), Unreadable> {
        let at = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => match self.unit()? {
                0xD800..0xDC00 => {
                    let paired = self.block[self.at..self.end].starts_with(b"\\u") && {
                        self.at += 1;
                        (0xDC00..0xE000).contains(&self.unit()?)
                    };
                    if !paired {
                        return Err(Unreadable::LoneSurrogate { at: at - self.start });
                    }
                }
                0xDC00..0xE000 => return Err(Unreadable::LoneSurrogate { at: at - self.start }),
                _ => {}
            },
            _ => return Err(self.expected("an escape sequence")),
        }
        Ok(())
    }

    /// Reads `uXXXX`, whose first byte is known.
    fn unit(&mut self) -> Result<u32, Unreadable> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.expected("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// Decodes a string that the scanner has checked, and appends it.
pub fn decode(mut escaped: &[u8], decoded: &mut Vec<u8>) {
    fn unit(escaped: &mut &[u8]) -> u32 {
        let (digits, rest) = escaped.split_at(4);
        *escaped = rest;
        digits.iter().fold(0, |unit, &digit| {
            unit << 4 | char::from(digit).to_digit(16).expect("checked by the scanner")
        })
    }
    while let Some(at) = memchr::memchr(b'\\', escaped) {
        decoded.extend_from_slice(&escaped[..at]);
        let kind = escaped[at + 1];
        escaped = &escaped[at + 2..];
        match kind {
            b'b' => decoded.push(8),
            b'f' => decoded.push(0xC),
            b'n' => decoded.push(b'\n'),
            b'r' => decoded.push(b'\r'),
            b't' => decoded.push(b'\t'),
            b'u' => {
                let mut code = unit(&mut escaped);
                if (0xD800..0xDC00).contains(&code) {
                    escaped = &escaped[2..];
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (unit(&mut escaped) - 0xDC00);
                }
                let c = char::from_u32(code).expect("surrogates are paired");
                decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            // `"`, `\` and `/` stand for themselves.
            other => decoded.push(other),
        }
    }
    decoded.extend_from_slice(escaped);
}
