//! Regular expressions, matched in time linear in the value: no backtracking, so no look-around and
//! no back-references.
//!
//! All patterns of a rule are compiled into one automaton, which answers whether any of them
//! matches in a single pass; only then is each pattern asked for itself. Syntax and Unicode version
//! are those of the `regex` crate; `$` matches at the very end only.

use regex_automata::meta;
use regex_automata::util::syntax;
use serde::Deserialize;

use super::{Finding, default_field};
use crate::error::PlanError;

/// The compiled size above which a pattern is refused.
const MAX_COMPILED_BYTES: usize = 256 << 20;

/// A value breaks this rule if a forbidden pattern matches, or no required one does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexSpec {
    /// Unique within a plan.
    pub name: String,
    /// A top-level field, "completion" unless given.
    #[serde(default = "default_field")]
    pub field: String,
    /// At least one.
    pub patterns: Vec<String>,
    /// What a match means.
    #[serde(default)]
    pub mode: Mode,
    /// Match letters of either case.
    #[serde(default)]
    pub ignore_case: bool,
    /// Unicode classes, word boundaries and case. Without it `\w`, `\d`, `\s` and `\b` are ASCII,
    /// and `.` matches one *byte*, so a span may cut a character.
    #[serde(default = "yes")]
    pub unicode: bool,
}

/// What a match of a pattern means.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No pattern may match.
    #[default]
    Forbid,
    /// At least one pattern must match.
    Require,
}

fn yes() -> bool {
    true
}

/// A compiled [`RegexSpec`].
pub struct Regex {
    any: meta::Regex,
    each: Vec<meta::Regex>,
    mode: Mode,
    reasons: Vec<String>,
}

impl Regex {
    pub fn new(spec: &RegexSpec) -> Result<Regex, PlanError> {
        if spec.patterns.is_empty() {
            return Err(PlanError::Rule {
                rule: spec.name.clone(),
                message: "patterns is empty".to_owned(),
            });
        }
        let syntax = syntax::Config::new()
            .case_insensitive(spec.ignore_case)
            .unicode(spec.unicode)
            .utf8(spec.unicode);
        let config = meta::Config::new()
            .utf8_empty(spec.unicode)
            .nfa_size_limit(Some(MAX_COMPILED_BYTES))
            .hybrid_cache_capacity(16 << 20);
        let build = |patterns: &[String]| {
            meta::Regex::builder()
                .syntax(syntax)
                .configure(config.clone())
                .build_many(patterns)
                .map_err(|error| message(&error))
        };
        // Each pattern alone first: it is the one to name if it is wrong.
        let each = spec
            .patterns
            .iter()
            .map(|pattern| {
                build(std::slice::from_ref(pattern)).map_err(|message| PlanError::Pattern {
                    rule: spec.name.clone(),
                    pattern: pattern.clone(),
                    message,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let any = build(&spec.patterns)
            .map_err(|message| PlanError::Rule { rule: spec.name.clone(), message })?;
        let reasons = match spec.mode {
            Mode::Forbid => {
                spec.patterns.iter().map(|pattern| format!("matched `{pattern}`")).collect()
            }
            Mode::Require => vec!["matched no required pattern".to_owned()],
        };
        Ok(Regex { any, each, mode: spec.mode, reasons })
    }

    pub fn breaks(&self, value: &str) -> bool {
        self.any.is_match(value) == (self.mode == Mode::Forbid)
    }

    /// One finding for each forbidden pattern that matches, with the span of its first match.
    pub fn find(&self, value: &str, findings: &mut Vec<Finding>) {
        match self.mode {
            Mode::Forbid => {
                for (reason, regex) in self.each.iter().enumerate() {
                    if let Some(found) = regex.find(value) {
                        findings.push(Finding { reason, span: Some((found.start(), found.end())) });
                    }
                }
            }
            Mode::Require => {
                if self.breaks(value) {
                    findings.push(Finding { reason: 0, span: None });
                }
            }
        }
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

/// The innermost message: `regex_syntax` draws a caret under the place in the pattern.
fn message(error: &meta::BuildError) -> String {
    match (error.syntax_error(), error.size_limit()) {
        (Some(error), _) => error.to_string(),
        (None, Some(limit)) => format!("larger than {limit} bytes when compiled"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: serde_json::Value) -> Result<Regex, PlanError> {
        Regex::new(&serde_json::from_value(spec).unwrap())
    }

    fn find(rule: &Regex, value: &str) -> Vec<(usize, Option<(usize, usize)>)> {
        let mut findings = Vec::new();
        rule.find(value, &mut findings);
        assert_eq!(rule.breaks(value), !findings.is_empty(), "{value:?}");
        findings.iter().map(|found| (found.reason, found.span)).collect()
    }

    #[test]
    fn every_pattern_that_matches_is_found() {
        let rule = rule(serde_json::json!({
            "name": "r", "patterns": [r"\bowls?\b", "x+", "OWL"], "ignore_case": true,
        }))
        .unwrap();
        assert_eq!(
            find(&rule, "é an Owl, xx"),
            [(0, Some((6, 9))), (1, Some((11, 13))), (2, Some((6, 9)))]
        );
        assert_eq!(find(&rule, "bowl cat"), [(2, Some((1, 4)))]);
        assert_eq!(find(&rule, "cat"), []);
        assert_eq!(rule.reasons()[0], r"matched `\bowls?\b`");
    }

    #[test]
    fn require_wants_at_least_one() {
        let rule =
            rule(serde_json::json!({"name": "r", "patterns": ["a", "b"], "mode": "require"}))
                .unwrap();
        assert_eq!(find(&rule, "xbx"), []);
        assert_eq!(find(&rule, "xx"), [(0, None)]);
    }

    #[test]
    fn unicode_is_a_choice() {
        let spec =
            |unicode| serde_json::json!({"name": "r", "patterns": [r"\bé.\b"], "unicode": unicode});
        assert_eq!(find(&rule(spec(true)).unwrap(), "éa"), [(0, Some((0, 3)))]);
        assert_eq!(find(&rule(spec(false)).unwrap(), "éa"), []);
    }

    #[test]
    fn errors_name_rule_and_pattern() {
        let text = |patterns: &[&str]| {
            rule(serde_json::json!({"name": "my rule", "patterns": patterns}))
                .err()
                .unwrap()
                .to_string()
        };
        let message = text(&["fine", "(open"]);
        assert!(message.starts_with("rule `my rule`: pattern `(open`:"), "{message}");
        assert!(message.contains("unclosed group"), "{message}");
        assert!(text(&["a(?=b)"]).contains("look-around"), "{}", text(&["a(?=b)"]));
        assert_eq!(text(&[]), "rule `my rule`: patterns is empty");
    }
}
