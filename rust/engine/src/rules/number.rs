//! A number in a field of its own, such as the score of a judge, within bounds.
//!
//! Not to be confused with `numbers`, which reads a list of integers in a text. A number is compared
//! as the nearest `f64`, whatever it is written as: `1e2` is `100`, `-0` is `0`, an integer or decimal
//! of any length is rounded once, and what is beyond all of them is infinite. So rows say the same as
//! JSON lines and as columns of any numeric type.

use serde::Deserialize;

use crate::json::Number as Found;

const REASONS: [&str; 6] =
    ["missing", "null", "not a number", "NaN", "number too small", "number too large"];

/// A value breaks this rule if it is no number, or one that is out of bounds. Bounds are inclusive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberSpec {
    /// The smallest number allowed.
    #[serde(default)]
    pub min: Option<f64>,
    /// The largest number allowed.
    #[serde(default)]
    pub max: Option<f64>,
}

/// A compiled [`NumberSpec`].
pub struct Number {
    min: f64,
    max: f64,
}

impl Number {
    pub fn new(spec: &NumberSpec) -> Result<Number, String> {
        match (spec.min, spec.max) {
            (None, None) => return Err("sets no bound".to_owned()),
            (Some(min), Some(max)) if max < min => {
                return Err(format!("max {max} is less than min {min}"));
            }
            _ => {}
        }
        let number = Number {
            min: spec.min.unwrap_or(f64::NEG_INFINITY),
            max: spec.max.unwrap_or(f64::INFINITY),
        };
        Ok(number)
    }

    /// Which of the reasons there is why this breaks the rule.
    pub fn reason(&self, found: Found) -> Option<usize> {
        match found {
            Found::Missing => Some(0),
            Found::Null => Some(1),
            Found::Other => Some(2),
            Found::Value(value) if value.is_nan() => Some(3),
            Found::Value(value) if value < self.min => Some(4),
            Found::Value(value) if value > self.max => Some(5),
            Found::Value(_) => None,
        }
    }

    pub fn reasons() -> Vec<String> {
        REASONS.map(str::to_owned).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(bounds: serde_json::Value) -> Result<Number, String> {
        Number::new(&serde_json::from_value(bounds).unwrap())
    }

    fn reason(rule: &Number, found: Found) -> Option<&'static str> {
        rule.reason(found).map(|reason| REASONS[reason])
    }

    #[test]
    fn bounds_are_inclusive_and_what_is_no_number_is_refused() {
        let both = rule(serde_json::json!({"min": -0.0, "max": 0.1})).unwrap();
        for (token, expected) in [
            ("0", None),
            ("-0", None),
            ("-0.0e5", None),
            ("-1e-400", None),
            ("1E-1", None),
            ("0.1000000000000000055511151231257827021181583404541015625", None),
            ("0.10000000000000002", Some("number too large")),
            ("-1e-300", Some("number too small")),
            ("1e999", Some("number too large")),
            ("-1e999", Some("number too small")),
        ] {
            assert_eq!(reason(&both, Found::parse(token.as_bytes())), expected, "{token}");
        }
        let open = rule(serde_json::json!({"min": 78})).unwrap();
        assert_eq!(reason(&open, Found::Value(f64::INFINITY)), None);
        assert_eq!(reason(&open, Found::Value(f64::NAN)), Some("NaN"));
        assert_eq!(reason(&open, Found::Null), Some("null"));
        assert_eq!(reason(&open, Found::Missing), Some("missing"));
        assert_eq!(reason(&open, Found::Other), Some("not a number"));
    }

    #[test]
    fn bounds_that_make_no_sense() {
        let error = |bounds| rule(bounds).err().unwrap();
        assert_eq!(error(serde_json::json!({})), "sets no bound");
        assert_eq!(error(serde_json::json!({"min": 3, "max": 2.5})), "max 2.5 is less than min 3");
        let unknown = serde_json::json!({"max_value": 3});
        assert!(serde_json::from_value::<NumberSpec>(unknown).is_err());
    }

    proptest! {
        #[test]
        fn an_integer_is_as_large_as_it_is_in_a_column(value: i64, huge: u64, bound in -1e19..2e19) {
            let rule = rule(serde_json::json!({"max": bound})).unwrap();
            let written = |text: String| rule.reason(Found::parse(text.as_bytes()));
            prop_assert_eq!(written(value.to_string()), rule.reason(Found::Value(value as f64)));
            prop_assert_eq!(written(huge.to_string()), rule.reason(Found::Value(huge as f64)));
        }
    }
}
