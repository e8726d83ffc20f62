//! The characters that stand for bytes in a byte-level vocabulary.

/// The character that stands for a byte in the vocabulary: itself where it is printable.
pub fn character(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE.. => char::from(byte),
        0..=b' ' => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        0x7F..=0xA0 => char::from_u32(0x121 + u32::from(byte) - 0x7F).unwrap_or_default(),
        0xAD => '\u{143}',
    }
}

/// Those of all bytes.
pub fn characters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(character).collect()
}

/// The bytes that a token of the vocabulary stands for. `None` if it stands for none.
pub fn decode(token: &str) -> Option<Vec<u8>> {
    let byte = |c| match c {
        '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' => u8::try_from(c).ok(),
        '\u{100}'..='\u{120}' => u8::try_from(u32::from(c) - 0x100).ok(),
        '\u{121}'..='\u{142}' => u8::try_from(u32::from(c) - 0x121 + 0x7F).ok(),
        '\u{143}' => Some(0xAD),
        _ => None,
    };
    token.chars().map(byte).collect()
}
