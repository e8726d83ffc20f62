//! Finds the needed top-level fields of one JSON object, without building a document.
//!
//! The scanner walks the line once and checks *all* of it: a kept row is valid JSON (RFC 8259) and
//! valid UTF-8 as a whole, so that what reads the kept rows later cannot stumble over them. It
//! accepts what `serde_json` accepts as a `Value`, except that it nests at most [`MAX_DEPTH`] deep
//! and sets no limit on numbers. It does not recurse, and it allocates only to decode a needed
//! string that holds a backslash, into a buffer that the next line reuses.

use std::fmt;

/// How deep objects and arrays may nest: one bit of a `u128` each.
pub const MAX_DEPTH: usize = 128;

/// Why a line is not a row that rules can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Longer than `max_line_bytes`.
    LineTooLong {
        /// The length of the line in bytes, terminator included.
        length: u64,
    },
    /// Not UTF-8 from byte `at` on.
    InvalidUtf8 {
        /// The offset in the line, without a byte-order mark.
        at: usize,
    },
    /// Not JSON from byte `at` on.
    InvalidJson {
        /// The offset in the line, without a byte-order mark.
        at: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// Objects and arrays nest more than [`MAX_DEPTH`] deep.
    TooDeep,
    /// A `\u` escape is half of a surrogate pair: no text corresponds to it.
    LoneSurrogate {
        /// The offset of the escape in the line.
        at: usize,
    },
    /// Valid JSON, but not an object.
    NotAnObject,
    /// The object lacks a needed field.
    MissingField {
        /// The index of the field.
        field: usize,
    },
    /// A needed field is not a string.
    NotAString {
        /// The index of the field.
        field: usize,
        /// What it is instead.
        found: &'static str,
    },
}

impl Unreadable {
    /// The reason as statistics count it: one of eight, without details.
    pub fn reason(&self) -> &'static str {
        match self {
            Unreadable::LineTooLong { .. } => "line too long",
            Unreadable::InvalidUtf8 { .. } => "invalid UTF-8",
            Unreadable::InvalidJson { .. } => "invalid JSON",
            Unreadable::TooDeep => "nested too deeply",
            Unreadable::LoneSurrogate { .. } => "lone surrogate",
            Unreadable::NotAnObject => "not a JSON object",
            Unreadable::MissingField { .. } => "missing field",
            Unreadable::NotAString { .. } => "field is not a string",
        }
    }

    /// The index of the field concerned, where it is about one.
    pub fn field(&self) -> Option<usize> {
        match self {
            Unreadable::MissingField { field } | Unreadable::NotAString { field, .. } => {
                Some(*field)
            }
            _ => None,
        }
    }
}

/// The details behind [`Unreadable::reason`].
impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::LineTooLong { length } => write!(f, "{length} bytes"),
            Unreadable::InvalidUtf8 { at } => write!(f, "at byte {at}"),
            Unreadable::InvalidJson { at, expected } => {
                write!(f, "expected {expected} at byte {at}")
            }
            Unreadable::TooDeep => write!(f, "more than {MAX_DEPTH} levels"),
            Unreadable::LoneSurrogate { at } => write!(f, "at byte {at}"),
            Unreadable::NotAnObject => write!(f, "expected an object"),
            Unreadable::MissingField { .. } => write!(f, "expected a string"),
            Unreadable::NotAString { found, .. } => write!(f, "expected a string, found {found}"),
        }
    }
}

/// Locates a fixed list of fields in one line after the other.
pub struct Locator {
    names: Vec<String>,
    slots: Vec<Slot>,
    decoded: Vec<String>,
    key: String,
}

/// Where the value of a needed field is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    Missing,
    /// A string between its quotes.
    Text(Text),
    /// Another type, by its name.
    Other(&'static str),
}

/// A JSON string between its quotes: `line[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Text {
    start: usize,
    end: usize,
    escaped: bool,
}

/// A line that is a JSON object, with its needed fields located.
pub struct Record<'a> {
    /// The line, without byte-order mark and terminator.
    pub text: &'a str,
    slots: &'a [Slot],
    decoded: &'a [String],
}

impl<'a> Record<'a> {
    /// The decoded value of the needed field with this index. With duplicate keys the last one
    /// counts, as in Python's `json` and in `serde_json`.
    pub fn field(&self, index: usize) -> Result<&'a str, Unreadable> {
        match self.slots[index] {
            Slot::Text(text) if text.escaped => Ok(&self.decoded[index]),
            Slot::Text(text) => Ok(&self.text[text.start..text.end]),
            Slot::Missing => Err(Unreadable::MissingField { field: index }),
            Slot::Other(found) => Err(Unreadable::NotAString { field: index, found }),
        }
    }
}

impl Locator {
    /// Prepares to locate the fields with these names; their order is their index.
    pub fn new(names: &[String]) -> Locator {
        Locator {
            names: names.to_vec(),
            slots: vec![Slot::Missing; names.len()],
            decoded: vec![String::new(); names.len()],
            key: String::new(),
        }
    }

    /// Checks the whole line and locates the fields in it.
    pub fn locate<'a>(&'a mut self, content: &'a [u8]) -> Result<Record<'a>, Unreadable> {
        let text = std::str::from_utf8(content)
            .map_err(|error| Unreadable::InvalidUtf8 { at: error.valid_up_to() })?;
        self.slots.fill(Slot::Missing);
        self.scan(text)?;
        for (slot, decoded) in self.slots.iter().zip(&mut self.decoded) {
            if let Slot::Text(found) = slot
                && found.escaped
            {
                decode(&text[found.start..found.end], decoded);
            }
        }
        Ok(Record { text, slots: &self.slots, decoded: &self.decoded })
    }

    fn scan(&mut self, text: &str) -> Result<(), Unreadable> {
        let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
        let mut open = Open::default();
        // The needed field that the next value belongs to.
        let mut field = None;
        cursor.skip_space();
        let is_object = cursor.peek() == Some(b'{');
        'value: loop {
            let slot = match cursor.peek() {
                Some(b'"') => Slot::Text(cursor.string()?),
                Some(b'{') => Slot::Other("an object"),
                Some(b'[') => Slot::Other("an array"),
                Some(b't') => cursor.word("true", "a boolean")?,
                Some(b'f') => cursor.word("false", "a boolean")?,
                Some(b'n') => cursor.word("null", "null")?,
                Some(b'-' | b'0'..=b'9') => cursor.number()?,
                _ => return Err(cursor.expected("a value")),
            };
            if let Some(index) = field.take() {
                self.slots[index] = slot;
            }
            match cursor.peek() {
                Some(b'{') if slot == Slot::Other("an object") => {
                    open.push(true)?;
                    cursor.at += 1;
                    cursor.skip_space();
                    if cursor.peek() != Some(b'}') {
                        field = self.key(text, &mut cursor, open.depth)?;
                        continue 'value;
                    }
                }
                Some(b'[') if slot == Slot::Other("an array") => {
                    open.push(false)?;
                    cursor.at += 1;
                    cursor.skip_space();
                    if cursor.peek() != Some(b']') {
                        continue 'value;
                    }
                }
                _ => {}
            }
            // A value has ended, or an empty container is about to.
            loop {
                cursor.skip_space();
                if open.depth == 0 {
                    return match cursor.peek() {
                        Some(_) => Err(cursor.expected("the end of the line")),
                        None if is_object => Ok(()),
                        None => Err(Unreadable::NotAnObject),
                    };
                }
                match (cursor.peek(), open.in_object()) {
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        cursor.at += 1;
                        open.pop();
                    }
                    (Some(b','), in_object) => {
                        cursor.at += 1;
                        cursor.skip_space();
                        if in_object {
                            field = self.key(text, &mut cursor, open.depth)?;
                        }
                        continue 'value;
                    }
                    (_, true) => return Err(cursor.expected("`,` or `}`")),
                    (_, false) => return Err(cursor.expected("`,` or `]`")),
                }
            }
        }
    }

    /// Reads a key and its colon. Says which needed field it is, if it is one.
    fn key(
        &mut self,
        text: &str,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<Option<usize>, Unreadable> {
        if cursor.peek() != Some(b'"') {
            return Err(cursor.expected("a key in quotes"));
        }
        let found = cursor.string()?;
        cursor.skip_space();
        if cursor.peek() != Some(b':') {
            return Err(cursor.expected("`:`"));
        }
        cursor.at += 1;
        cursor.skip_space();
        if depth != 1 {
            return Ok(None);
        }
        let mut key = &text[found.start..found.end];
        if found.escaped {
            decode(key, &mut self.key);
            key = &self.key;
        }
        Ok(self.names.iter().position(|name| name == key))
    }
}

/// The containers that are open, innermost last: a stack of bits.
#[derive(Default)]
struct Open {
    objects: u128,
    depth: usize,
}

impl Open {
    fn push(&mut self, is_object: bool) -> Result<(), Unreadable> {
        if self.depth == MAX_DEPTH {
            return Err(Unreadable::TooDeep);
        }
        self.objects = self.objects << 1 | u128::from(is_object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> Unreadable {
        Unreadable::InvalidJson { at: self.at, expected }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &'static str, name: &'static str) -> Result<Slot, Unreadable> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(Slot::Other(name))
    }

    fn number(&mut self) -> Result<Slot, Unreadable> {
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
        Ok(Slot::Other("a number"))
    }

    fn digits(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// Reads the string whose opening quote is at the cursor.
    fn string(&mut self) -> Result<Text, Unreadable> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
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
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.unit()? {
                0xD800..0xDC00 => {
                    let paired = self.bytes[self.at..].starts_with(b"\\u")
                        && (0xDC00..0xE000).contains(&self.unit()?);
                    if !paired {
                        return Err(Unreadable::LoneSurrogate { at });
                    }
                }
                0xDC00..0xE000 => return Err(Unreadable::LoneSurrogate { at }),
                _ => {}
            },
            _ => {
                self.at += 1;
                return Err(self.expected("an escape sequence"));
            }
        }
        Ok(())
    }

    /// Reads `\uXXXX`, whose first two bytes are known.
    fn unit(&mut self) -> Result<u32, Unreadable> {
        self.at += 2;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.expected("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(unit)
    }
}

/// How many bytes at the front are neither a quote, nor a backslash, nor a control character.
///
/// Looks at eight bytes at a time. Each term has the high bit set in the first byte that it looks
/// for; bytes after it may be marked wrongly (the subtraction borrows), bytes before it never.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let found = (below(word, 0x20)
            | below(word ^ (ONES * u64::from(b'"')), 1)
            | below(word ^ (ONES * u64::from(b'\\')), 1))
            & HIGH;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    chunks.len() * 8 + tail.iter().position(special).unwrap_or(tail.len())
}

/// Decodes a string that the scanner has checked.
fn decode(mut escaped: &str, decoded: &mut String) {
    decoded.clear();
    while let Some(at) = memchr::memchr(b'\\', escaped.as_bytes()) {
        decoded.push_str(&escaped[..at]);
        let kind = escaped.as_bytes()[at + 1];
        escaped = &escaped[at + 2..];
        decoded.push(match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut unit = || {
                    let unit = u32::from_str_radix(&escaped[..4], 16).expect("four hex digits");
                    escaped = &escaped[4..];
                    unit
                };
                let mut code = unit();
                if (0xD800..0xDC00).contains(&code) {
                    escaped = &escaped[2..];
                    let low = u32::from_str_radix(&escaped[..4], 16).expect("four hex digits");
                    escaped = &escaped[4..];
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                char::from_u32(code).expect("surrogates are paired")
            }
            // `"`, `\` and `/` stand for themselves.
            other => char::from(other),
        });
    }
    decoded.push_str(escaped);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn completion(line: &[u8]) -> Result<String, Unreadable> {
        let mut locator = Locator::new(&["completion".to_owned()]);
        let record = locator.locate(line)?;
        record.field(0).map(str::to_owned)
    }

    fn reason(line: &str) -> &'static str {
        completion(line.as_bytes()).unwrap_err().reason()
    }

    #[test]
    fn finds_the_last_top_level_value() {
        let cases = [
            (r#"{"completion":"a"}"#, "a"),
            (r#" { "x" : [1, {"completion":"no"}] , "completion" : "yes" } "#, "yes"),
            (r#"{"completion":"first","completion":"last"}"#, "last"),
            (r#"{"completion":1,"completion":"last"}"#, "last"),
            (r#"{"completion":"a\n\"b\"\\\/é😀","completion2":0}"#, "a\n\"b\"\\/é😀"),
            (r#"{"compl\u0065tion":"escaped key"}"#, "escaped key"),
            (r#"{"completion":"\ud83d\ude00\u0000\u00E9"}"#, "😀\0é"),
            (r#"{"completion":"","a":{},"b":[],"c":[[]],"d":-0.5e+3,"e":null,"f":true}"#, ""),
        ];
        for (line, expected) in cases {
            assert_eq!(completion(line.as_bytes()).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let cases = [
            (r#"{"completion":"a"}{"#, "invalid JSON"),
            (r#"{"completion":"a",}"#, "invalid JSON"),
            (r#"{"completion":"a"#, "invalid JSON"),
            (r#"{"completion""#, "invalid JSON"),
            (r#"{completion:"a"}"#, "invalid JSON"),
            ("{\"completion\":\"a\0\"}", "invalid JSON"),
            ("{\"completion\":\"a\"}\0", "invalid JSON"),
            (r#"{"completion":"\x"}"#, "invalid JSON"),
            (r#"{"completion":"\u00g0"}"#, "invalid JSON"),
            (r#"{"completion":"\"#, "invalid JSON"),
            (r#"{"completion":01}"#, "invalid JSON"),
            (r#"{"completion":1.}"#, "invalid JSON"),
            (r#"{"completion":NaN}"#, "invalid JSON"),
            (r#"{"completion":[1}"#, "invalid JSON"),
            (r#"{"completion":{]"#, "invalid JSON"),
            ("hello", "invalid JSON"),
            ("", "invalid JSON"),
            ("[1]", "not a JSON object"),
            ("\"text\"", "not a JSON object"),
            (r#"{"other":"\ud800"}"#, "lone surrogate"),
            (r#"{"other":"\udc00"}"#, "lone surrogate"),
            (r#"{"other":"\ud800\u0041"}"#, "lone surrogate"),
            (r#"{"other":"\ud800x"}"#, "lone surrogate"),
            ("{}", "missing field"),
            (r#"{"Completion":"a"}"#, "missing field"),
            (r#"{"completion":null}"#, "field is not a string"),
            (r#"{"completion":{"a":1}}"#, "field is not a string"),
            (r#"{"completion":"a","completion":[1]}"#, "field is not a string"),
        ];
        for (line, expected) in cases {
            assert_eq!(reason(line), expected, "{line}");
        }
        assert_eq!(completion(b"{\"a\":\"\xFF\"}"), Err(Unreadable::InvalidUtf8 { at: 6 }));
    }

    #[test]
    fn nesting_is_bounded_and_does_not_recurse() {
        let nested = |depth: usize| {
            format!("{{\"completion\":\"a\",\"b\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
        };
        assert_eq!(completion(nested(MAX_DEPTH - 1).as_bytes()).as_deref(), Ok("a"));
        for depth in [MAX_DEPTH, 10_000, 1_000_000] {
            assert_eq!(reason(&nested(depth)), "nested too deeply");
            assert_eq!(reason(&"{\"a\":".repeat(depth + 1)), "nested too deeply");
        }
    }

    #[test]
    fn a_locator_forgets_the_line_before() {
        let mut locator = Locator::new(&["a".to_owned(), "b".to_owned()]);
        assert!(locator.locate(br#"{"a":"\n","b":"2"}"#).is_ok());
        let record = locator.locate(br#"{"b":"3"}"#).unwrap();
        assert_eq!(record.field(0), Err(Unreadable::MissingField { field: 0 }));
        assert_eq!(record.field(1), Ok("3"));
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[ -~]{0,12}", "\\PC{0,6}", Just("completion".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let key = prop_oneof![Just("completion".to_owned()), text.clone()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// What `serde_json` makes of the line: the completion, or `None` if this is not such a row.
    fn reference(line: &[u8]) -> Option<String> {
        match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => object.get("completion")?.as_str().map(str::to_owned),
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_serde_json(
            value in json(),
            completion_text in "\\PC{0,12}|[\\x00-\\x7f]{0,12}",
            // Replace, insert or delete a byte somewhere; most results are broken JSON.
            edits in prop::collection::vec(
                (
                    0usize..400,
                    prop::sample::select(b"\"\\{}[],:ntu0d8-.eE \t\r\x00\x1f\x80\xff/".to_vec()),
                    0..3,
                ),
                0..3,
            ),
        ) {
            let mut line = serde_json::to_string(&serde_json::json!({
                "completion": completion_text,
                "value": value,
            }))
            .unwrap()
            .into_bytes();
            for (at, byte, edit) in edits {
                let at = at % line.len();
                match edit {
                    0 => line[at] = byte,
                    1 => line.insert(at, byte),
                    _ => drop(line.remove(at)),
                }
            }
            // The one thing that we read and `serde_json` does not: 1e999.
            let out_of_range = serde_json::from_slice::<Value>(&line)
                .is_err_and(|error| error.to_string().contains("number out of range"));
            prop_assume!(!out_of_range);
            prop_assert_eq!(completion(&line).ok(), reference(&line));
        }

        #[test]
        fn plain_prefix_agrees_with_a_loop(
            bytes in prop::collection::vec(prop_oneof![4 => 0x20u8..=0xff, 1 => any::<u8>()], 0..40),
        ) {
            let expected = bytes.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            prop_assert_eq!(plain_prefix(&bytes), expected.unwrap_or(bytes.len()));
        }
    }
}
