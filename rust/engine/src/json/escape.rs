//! Escapes in strings: found 64 bytes at a time, and replaced by what they stand for.
//!
//! Rows of code, chats and reasoning have an escape every thirty bytes, and rows in other scripts
//! are nothing else where Python's `json.dumps` wrote them. So what is right with nearly all of them
//! is seen without a look at any: an [`super::Index`] knows where escapes begin, and whether one
//! could be wrong.

use super::index::Index;

/// Which of 64 bytes may be a part of an escape, one bit each.
#[derive(Clone, Copy, Default)]
pub struct Classes {
    /// What may follow a backslash: one of `"\/bfnrtu`.
    pub letter: u64,
    /// `u`.
    pub u: u64,
    /// A hexadecimal digit.
    pub digit: u64,
    /// One of 8 to F.
    pub high: u64,
    /// D.
    pub d: u64,
    /// 0, 1 and 2.
    pub zero: u64,
    pub one: u64,
    pub two: u64,
}

impl Classes {
    /// The classes of a byte, each 0 or 1.
    pub fn of(byte: u8) -> Classes {
        let is_digit = byte.is_ascii_hexdigit();
        Classes {
            letter: u64::from(matches!(
                byte,
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u'
            )),
            u: u64::from(byte == b'u'),
            digit: u64::from(is_digit),
            high: u64::from(is_digit && byte > b'7'),
            d: u64::from(matches!(byte, b'd' | b'D')),
            zero: u64::from(byte == b'0'),
            one: u64::from(byte == b'1'),
            two: u64::from(byte == b'2'),
        }
    }
}

/// The escapes that begin or end in 64 bytes.
#[derive(Clone, Copy, Default)]
pub struct Escapes {
    /// Where they begin: their backslashes.
    pub starts: u64,
    /// What follows these backslashes.
    pub escaped: u64,
    /// All that belongs to them but the backslashes.
    pub inside: u64,
    /// Where one must be looked at: it is wrong, half of a surrogate pair, or stands for a
    /// character that could be ASCII, or a case variant of one.
    pub unsure: u64,
}

/// What escapes that have begun expect of the bytes to come; the lowest bit is the next byte's.
#[derive(Default)]
pub struct Pending {
    escaped: u64,
    digits: u64,
    /// Where a first digit is, and where second digits are after a first D, 0 or 2.
    first: u64,
    after_d: u64,
    after_zero: u64,
    after_two: u64,
}

impl Pending {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.escaped | self.digits == 0
    }

    /// Finds the escapes of the next 64 bytes.
    #[inline(always)]
    pub fn find(&mut self, backslashes: u64, classes: Classes) -> Escapes {
        let escaped = self.escaped(backslashes);
        let u = escaped & classes.u;
        let digits = self.digits | u << 1 | u << 2 | u << 3 | u << 4;
        self.digits = u >> 63 | u >> 62 | u >> 61 | u >> 60;
        let first = self.first | u << 1;
        self.first = u >> 63;
        let next = |pending: &mut u64, first: u64| {
            let second = *pending | first << 1;
            *pending = first >> 63;
            second
        };
        // D8 to DF is half of a surrogate pair. 00 may be ASCII; 01 and 21 may be `ſ` and the Kelvin
        // sign, and hardly any text is made of their neighbours.
        let suspects = (next(&mut self.after_d, first & classes.d) & classes.high)
            | (next(&mut self.after_zero, first & classes.zero) & (classes.zero | classes.one))
            | (next(&mut self.after_two, first & classes.two) & classes.one);
        Escapes {
            starts: backslashes & !escaped,
            escaped,
            inside: escaped | digits,
            unsure: (escaped & !classes.letter) | (digits & !classes.digit) | suspects,
        }
    }

    /// What follows a backslash that is not escaped itself: of each run of backslashes every second
    /// one, and what comes after it if their number is odd. The addition carries through each run
    /// that begins at an odd place (Langdale and Lemire 2019).
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        const EVEN: u64 = u64::MAX / 3;
        let backslashes = backslashes & !self.escaped;
        let follows = backslashes << 1 | self.escaped;
        let odd_runs = backslashes & !EVEN & !follows;
        let (carried, is_over) = odd_runs.overflowing_add(backslashes);
        self.escaped = u64::from(is_over);
        (EVEN ^ carried << 1) & follows
    }
}

/// The value of four hexadecimal digits, if they are.
#[inline(always)]
pub fn unit(digits: [u8; 4]) -> Option<u32> {
    digits.iter().all(u8::is_ascii_hexdigit).then(|| checked_unit(digits))
}

/// The value of four hexadecimal digits. The low four bits of a letter are its value less 9.
#[inline(always)]
fn checked_unit(digits: [u8; 4]) -> u32 {
    let digits = u32::from_be_bytes(digits);
    let values = (digits & 0x0F0F_0F0F) + 9 * (digits >> 6 & 0x0101_0101);
    let pairs = values | values >> 4;
    (pairs >> 8 & 0xFF00) | (pairs & 0xFF)
}

/// Text of strings with escapes, in a buffer that is never cleared: what is behind `length` is room.
#[derive(Default)]
pub struct Decoded {
    bytes: Vec<u8>,
    length: usize,
}

/// How much is copied where less may be needed: most runs between escapes are shorter.
const COPY: usize = 32;

impl Decoded {
    pub fn clear(&mut self) {
        self.length = 0;
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Appends what the string `block[start..end]` says, which was checked. Is it ASCII?
    ///
    /// Measured with a rule that asks nothing: ...
    pub fn append(&mut self, block: &[u8], index: &Index, start: usize, end: usize) -> bool {
        // No text is longer than its escaped form; the rest is for copying more than is needed.
        let room = self.length + (end - start) + COPY;
        if self.bytes.len() < room {
            self.bytes.resize(room.next_power_of_two(), 0);
        }
        let (mut from, mut to) = (start, self.length);
        let mut is_ascii = index.is_ascii(start, end);
        while let Some(at) = index.next_escape(from, end) {
            to = self.copy(block, from, at, to);
            let kind = block[at + 1];
            if kind != b'u' {
                self.bytes[to] = simple(kind);
                to += 1;
                from = at + 2;
                continue;
            }
            from = at;
            // Where there is one there are many.
            while let [b'\\', b'u', a, b, c, d, rest @ ..] = &block[from..end] {
                let mut code = checked_unit([*a, *b, *c, *d]);
                from += 6;
                if let (0xD800..0xDC00, [b'\\', b'u', a, b, c, d, ..]) = (code, rest) {
                    let low = checked_unit([*a, *b, *c, *d]);
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    from += 6;
                }
                is_ascii &= code < 0x80;
                to = self.push(code, to);
            }
        }
        self.length = self.copy(block, from, end, to);
        is_ascii
    }

    #[inline(always)]
    fn copy(&mut self, block: &[u8], from: usize, until: usize, to: usize) -> usize {
        let length = until - from;
        match (block.get(from..from + COPY), self.bytes.get_mut(to..to + COPY)) {
            (Some(source), Some(target)) if length <= COPY => target.copy_from_slice(source),
            _ => self.bytes[to..to + length].copy_from_slice(&block[from..until]),
        }
        to + length
    }

    /// In UTF-8.
    #[inline(always)]
    fn push(&mut self, code: u32, to: usize) -> usize {
        let low = |shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
        let (bytes, length) = match code {
            0..0x80 => ([code as u8, 0, 0, 0], 1),
            0x80..0x800 => ([0xC0 | (code >> 6) as u8, low(0), 0, 0], 2),
            0x800..0x1_0000 => ([0xE0 | (code >> 12) as u8, low(6), low(0), 0], 3),
            _ => ([0xF0 | (code >> 18) as u8, low(12), low(6), low(0)], 4),
        };
        self.bytes[to..to + 4].copy_from_slice(&bytes);
        to + length
    }
}

#[inline(always)]
fn simple(kind: u8) -> u8 {
    match kind {
        b'b' => 8,
        b'f' => 0xC,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        // `"`, `\` and `/` stand for themselves.
        other => other,
    }
}
