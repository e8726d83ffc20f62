//! What a rule finds in a value.

/// One reason why a value breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// An index into the reasons of the rule.
    pub reason: usize,
    /// Byte offsets into the decoded value; `None` if the reason is about the value as a whole.
    pub span: Option<(usize, usize)>,
}
