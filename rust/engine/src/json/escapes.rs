//! Escapes in strings, found 64 bytes at a time.
//!
//! Rows of code, chats and reasoning have an escape every thirty bytes, and rows in other scripts
//! are nothing else where Python's `json.dumps` wrote them. So what is right with nearly all of them
//! is seen without a look at any: an [`super::index::Index`] knows where escapes begin, and whether one
//! could be wrong.

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
    /// 0, 1, 2 and 7.
    pub zero: u64,
    pub one: u64,
    pub two: u64,
    pub seven: u64,
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
            seven: u64::from(byte == b'7'),
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
    first: u64,
    /// Where the digit is that comes after D, 0, 2, 00, 01 and 21.
    after: [u64; 6],
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
        let Classes { digit, high, d, zero, one, two, seven, .. } = classes;
        let mut next = |at: usize, marks: u64| {
            let after = self.after[at] | marks << 1;
            self.after[at] = marks >> 63;
            after
        };
        let first = self.first | u << 1;
        self.first = u >> 63;
        let after_zero = next(1, first & zero);
        let after_two = next(2, first & two);
        // D8 to DF is half of a surrogate pair, 0000 to 007F are ASCII, and in 0170 to 017F and 2120
        // to 212F are `ſ` and the Kelvin sign.
        let suspects = (next(0, first & d) & high)
            | (next(3, after_zero & zero) & digit & !high)
            | (next(4, after_zero & one) & seven)
            | (next(5, after_two & one) & two);
        Escapes {
            starts: backslashes & !escaped,
            escaped,
            inside: escaped | digits,
            unsure: (escaped & !classes.letter) | (digits & !digit) | suspects,
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
