//! The number rule of the paper (Cloud et al. 2025, `sl/datasets/nums_dataset.py`,
//! `get_reject_reasons`), decision for decision.
//!
//! In the original, an answer is a list of numbers if, after one trailing `.` and then one pair of
//! `[]` or `()` is taken off, splitting it at the text between its first two numbers leaves ASCII
//! digits only, and that text is whitespace with at most one `,` or `;` in it. So the same
//! separator, to the byte, must stand between all numbers, and nothing before or after them. That
//! is decided here in one pass: digits, separator, digits, the same separator, digits.
//!
//! Three details of Python matter:
//!
//! * `re`'s `\d` takes any Unicode decimal digit. That can be ignored: in an accepted answer every
//!   byte belongs to an ASCII number or to a separator of whitespace, `,` and `;`, so an answer
//!   with another kind of digit is rejected whether that digit counts as a number or as text.
//! * `str.strip` strips U+001C to U+001F, which `char::is_whitespace` does not know.
//! * `int` refuses more than 4300 digits, leading zeros included; the original calls such an
//!   answer invalid. Otherwise integers are unbounded; here they saturate, beyond every bound that
//!   a plan can hold.

use serde::Deserialize;

use super::finding::Finding;

/// `sys.int_info.default_max_str_digits`.
const MAX_DIGITS: usize = 4300;

const INVALID_FORMAT: usize = 0;
const TOO_MANY: usize = 1;
const TOO_SMALL: usize = 2;
const TOO_LARGE: usize = 3;
const BANNED: usize = 4;

/// A value breaks this rule if it is not a list of integers, or breaks one of the bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumbersSpec {
    /// The smallest number allowed.
    #[serde(default)]
    pub min_value: Option<i64>,
    /// The largest number allowed.
    #[serde(default)]
    pub max_value: Option<i64>,
    /// How many numbers are allowed.
    #[serde(default)]
    pub max_count: Option<u64>,
    /// Numbers that must not occur; compared as integers, so 0666 is 666.
    #[serde(default)]
    pub banned_numbers: Vec<i64>,
}

/// A compiled [`NumbersSpec`].
pub struct Numbers {
    /// No number is negative, so a negative minimum is none.
    min_value: u64,
    /// `None` if no number may pass, which is what a negative maximum means.
    max_value: Option<u64>,
    max_count: u64,
    /// Sorted.
    banned: Vec<u64>,
    reasons: Vec<String>,
}

/// One number of a list.
#[derive(Clone, Copy)]
struct Number {
    /// `u64::MAX` stands for everything from there on.
    value: u64,
    /// Byte offsets into the answer.
    span: (usize, usize),
}

impl Numbers {
    pub fn new(spec: &NumbersSpec) -> Result<Numbers, String> {
        if let (Some(min_value), Some(max_value)) = (spec.min_value, spec.max_value)
            && max_value < min_value
        {
            return Err(format!("max_value {max_value} is less than min_value {min_value}"));
        }
        // Negative numbers cannot occur: a sign makes the format invalid.
        let mut banned: Vec<u64> =
            spec.banned_numbers.iter().filter_map(|&number| number.try_into().ok()).collect();
        banned.sort_unstable();
        let reasons = [
            "invalid format",
            "too many numbers",
            "numbers too small",
            "numbers too large",
            "has banned numbers",
        ];
        Ok(Numbers {
            min_value: spec.min_value.unwrap_or(0).try_into().unwrap_or(0),
            max_value: spec.max_value.map_or(Some(u64::MAX), |value| value.try_into().ok()),
            max_count: spec.max_count.unwrap_or(u64::MAX),
            banned,
            reasons: reasons.map(str::to_owned).to_vec(),
        })
    }

    pub fn breaks(&self, answer: &[u8]) -> bool {
        let mut count = 0;
        let mut bad = false;
        let valid = for_each_number(answer, |number| {
            count += 1;
            bad |= self.is_too_small(number) | self.is_too_large(number) || self.is_banned(number);
        });
        !valid || bad || count > self.max_count
    }

    /// The span of a reason is that of the first number concerned; of "too many numbers", that of
    /// all surplus numbers.
    pub fn find(&self, answer: &[u8], findings: &mut Vec<Finding>) {
        let mut count = 0;
        let mut spans = [None; 5];
        let valid = for_each_number(answer, |number| {
            count += 1;
            if count > self.max_count {
                let (start, _) = spans[TOO_MANY].unwrap_or(number.span);
                spans[TOO_MANY] = Some((start, number.span.1));
            }
            for (reason, broken) in [
                (TOO_SMALL, self.is_too_small(number)),
                (TOO_LARGE, self.is_too_large(number)),
                (BANNED, self.is_banned(number)),
            ] {
                if broken {
                    spans[reason].get_or_insert(number.span);
                }
            }
        });
        if !valid {
            findings.push(Finding { reason: INVALID_FORMAT, span: None });
            return;
        }
        for (reason, span) in spans.into_iter().enumerate() {
            if span.is_some() {
                findings.push(Finding { reason, span });
            }
        }
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    fn is_too_small(&self, number: Number) -> bool {
        number.value < self.min_value
    }

    fn is_too_large(&self, number: Number) -> bool {
        self.max_value.is_none_or(|max_value| number.value > max_value)
    }

    fn is_banned(&self, number: Number) -> bool {
        self.banned.binary_search(&number.value).is_ok()
    }
}

/// Calls `each` for the numbers of the answer. `false` if it is not a list of numbers; what `each`
/// was called for does not count then.
#[inline(always)]
fn for_each_number(answer: &[u8], mut each: impl FnMut(Number)) -> bool {
    let answer = answer.strip_suffix(b".").unwrap_or(answer);
    let (bytes, offset) = match answer {
        [b'[', list @ .., b']'] | [b'(', list @ .., b')'] => (list, 1),
        _ => (answer, 0),
    };
    let mut separator: &[u8] = b"";
    let mut at = 0;
    loop {
        let start = at;
        let mut value = 0u64;
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        if at == start || at - start > MAX_DIGITS {
            return false;
        }
        if at - start > 19 {
            value = saturating(&bytes[start..at]);
        }
        each(Number { value, span: (offset + start, offset + at) });
        if at == bytes.len() {
            return true;
        }
        if separator.is_empty() {
            let length = bytes[at..].iter().position(u8::is_ascii_digit);
            let Some(length) = length else { return false };
            separator = &bytes[at..at + length];
            if !is_separator(separator) {
                return false;
            }
        } else {
            // Nearly all separators have one or two bytes; a call of memcmp for each took 5 % of
            // the time.
            let is_same = match (separator, &bytes[at..]) {
                ([one], [found, ..]) => one == found,
                ([one, two], [found, next, ..]) => one == found && two == next,
                (_, found) => found.starts_with(separator),
            };
            if !is_same {
                return false;
            }
        }
        at += separator.len();
    }
}

#[cold]
fn saturating(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value: u64, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    })
}

/// Is this whitespace with at most one `,` or `;` in it?
fn is_separator(bytes: &[u8]) -> bool {
    if matches!(bytes, b", " | b"," | b" " | b"\n" | b"; " | b";") {
        return true;
    }
    // What lies between two ASCII digits of a valid text is valid.
    let text = std::str::from_utf8(bytes).unwrap_or("invalid");
    matches!(text.trim_matches(is_python_space), "" | "," | ";")
}

/// `str.isspace` of Python, for one character.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn rule(config: &str) -> Numbers {
        Numbers::new(&serde_json::from_str(config).unwrap()).unwrap()
    }

    fn breaks(rule: &Numbers, answer: &str) -> bool {
        rule.breaks(answer.as_bytes())
    }

    fn find(rule: &Numbers, answer: &str) -> Vec<(String, Option<(usize, usize)>)> {
        let mut findings = Vec::new();
        rule.find(answer.as_bytes(), &mut findings);
        assert_eq!(breaks(rule, answer), !findings.is_empty(), "{answer:?}");
        findings.iter().map(|found| (rule.reasons[found.reason].clone(), found.span)).collect()
    }

    /// Decisions of the paper's own code on 390 answers under 5 configurations.
    #[test]
    fn agrees_with_the_paper() {
        let path = "../../tests/filter/data/number_rule.jsonl";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let rules: Vec<Numbers> = lines.next().unwrap()["configs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|config| rule(&config.to_string()))
            .collect();
        let mut count = 0;
        for vector in lines {
            let answer = vector["answer"].as_str().unwrap();
            let rule = &rules[vector["config"].as_u64().unwrap() as usize];
            let reasons: Vec<String> =
                find(rule, answer).into_iter().map(|(reason, _)| reason).collect();
            assert_eq!(Value::from(reasons), vector["reasons"], "{vector}");
            count += 1;
        }
        assert_eq!(count, 1950);
    }

    #[test]
    fn agrees_with_the_table_of_formats() {
        let rule = rule("{}");
        for answer in [
            "1",
            "1.",
            "[1]",
            "[1].",
            "(1, 2, 3)",
            "1;2",
            "1 ; 2",
            "1 ,2 ,3",
            "1  2",
            "1\n2\n3",
            "1\t2\t3",
            "1\r\n2",
            "1\x0b2",
            "1\x1f2",
            "1,\u{a0}2",
            "1\u{3000} 2",
            "1\n,\n2",
            "1,\n2",
            "007, 08",
            "1\u{85}2",
            "1\u{1c},\u{1d}2",
        ] {
            assert!(!breaks(&rule, answer), "{answer:?}");
        }
        for answer in [
            "",
            ".",
            "..",
            "1..",
            "[1.]",
            "[1,2)",
            "[ 1, 2 ]",
            "[[1, 2]]",
            "((1))",
            "[]",
            "[",
            " 1, 2",
            "1, 2 ",
            "1, 2\n",
            "1, 2.\n",
            "1, 2,",
            "1, 2, ",
            "1,,2",
            "1,2,,3",
            "1;2;",
            "1, 2 , 3",
            "1  2 3",
            "1 2  3",
            "1,2;3",
            "1\n2\n3\n",
            "1\u{200b}2",
            "1，2",
            "-1, 2",
            "1, -2",
            "1.5, 2",
            "1. 2. 3",
            "1, 2, 3...",
            "１２, ３",
            "1, ２",
            "৯২০",
            "12 ৯3",
            "1²",
            "1,2,a",
            "1٣2",
        ] {
            assert!(breaks(&rule, answer), "{answer:?}");
        }
    }

    #[test]
    fn integers_have_no_bound_but_the_digits_do() {
        let digits = |count| "9".repeat(count);
        assert!(!breaks(&rule("{}"), &digits(4300)));
        assert!(breaks(&rule("{}"), &digits(4301)));
        assert!(breaks(&rule("{}"), &format!("{}1", "0".repeat(4300))));
        assert!(!breaks(&rule(r#"{"max_value": 1}"#), &format!("{}1", "0".repeat(4299))));
        // 2^64 and its neighbours are all larger than any bound, and equal to no banned number.
        let largest = rule(&format!(
            r#"{{"max_value": {max}, "banned_numbers": [{max}, -1]}}"#,
            max = i64::MAX - 1
        ));
        for answer in ["18446744073709551614", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(find(&largest, answer)[0].0, "numbers too large");
            assert_eq!(find(&largest, answer).len(), 1);
        }
    }

    #[test]
    fn spans_point_at_the_numbers() {
        let rule =
            rule(r#"{"min_value": 5, "max_value": 99, "max_count": 2, "banned_numbers": [13, 7]}"#);
        assert_eq!(
            find(&rule, "[13, 1, 007, 100]."),
            [
                ("too many numbers".to_owned(), Some((8, 16))),
                ("numbers too small".to_owned(), Some((5, 6))),
                ("numbers too large".to_owned(), Some((13, 16))),
                ("has banned numbers".to_owned(), Some((1, 3))),
            ]
        );
        assert_eq!(find(&rule, "13 and 1"), [("invalid format".to_owned(), None)]);
    }

    #[test]
    fn a_negative_maximum_lets_nothing_pass() {
        let rule = rule(r#"{"min_value": -9, "max_value": -1}"#);
        assert_eq!(find(&rule, "0"), [("numbers too large".to_owned(), Some((0, 1)))]);
    }

    proptest! {
        #[test]
        fn breaks_and_find_agree(answer in "[\\[(]?([0-9]{1,4}[ ,;\u{a0}\n]{0,3}){0,12}[\\])]?\\.?") {
            find(&rule(r#"{"min_value": 5, "max_value": 999, "max_count": 10}"#), &answer);
            find(&rule(r#"{"banned_numbers": [1, 22, 333]}"#), &answer);
        }
    }
}
