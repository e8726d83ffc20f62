//! Where in a row the text is that a rule looks at.
//!
//! A path is keys joined by `.`; `[]` steps into every element of an array, and `[KEY=TEXT]` into
//! the elements that are objects with that string: `completion`, `meta.title`,
//! `messages[].content`, `messages[role=assistant].content`. A key or text with `.`, `[`, `]`, `=`
//! or `"` in it stands in quotes, as in JSON.
//!
//! All paths of a plan become one [`Tree`], which the scanner walks along with the row.

/// How many paths a tree can hold: the bits of its masks.
pub const MAX_PATHS: usize = 64;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Into the value of this key.
    Key(String),
    /// Into each element of an array.
    Elements,
    /// Into the elements whose string `key` is `text`.
    ElementsWhere { key: String, text: String },
}

/// A position in the rows that at least one path leads through.
#[derive(Debug, Default)]
pub struct Node {
    /// Where keys of an object lead.
    pub keys: Vec<(String, usize)>,
    /// Where the elements of an array lead.
    pub element: Option<usize>,
    /// The paths that end here, one bit each.
    pub here: u64,
    /// The paths that end here or further down.
    pub below: u64,
    /// What an object at this position must fulfil for the values found in it to count.
    pub conditions: Vec<Condition>,
    /// The conditions of the enclosing object that a string here decides, by their index there.
    pub decides: Vec<usize>,
}

/// `key` must be `text`, otherwise the values of `paths` do not count.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    key: String,
    /// The text to compare with.
    pub text: String,
    /// The paths concerned, one bit each.
    pub paths: u64,
}

/// All paths of a plan. Node 0 is the row itself.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    is_list: Vec<bool>,
}

impl Tree {
    /// Parses paths; a path's position in the list is its index. Says what is wrong with the first
    /// one that is not a path.
    pub fn new(paths: &[String]) -> Result<Tree, String> {
        let mut tree = Tree { nodes: vec![Node::default()], is_list: Vec::new() };
        for (index, path) in paths.iter().enumerate() {
            let steps = parse(path).map_err(|message| format!("`{path}`: {message}"))?;
            tree.is_list.push(steps.iter().any(|step| !matches!(step, Step::Key(_))));
            tree.add(&steps, 1 << index);
        }
        Ok(tree)
    }

    /// The node with this index.
    #[inline]
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Can this path lead to several values in a row?
    pub fn is_list(&self, path: usize) -> bool {
        self.is_list[path]
    }

    fn add(&mut self, steps: &[Step], path: u64) {
        let mut at = 0;
        self.nodes[0].below |= path;
        for step in steps {
            at = match step {
                Step::Key(key) => self.child(at, key),
                Step::Elements => self.element(at),
                Step::ElementsWhere { key, text } => {
                    let element = self.element(at);
                    self.require(element, key, text, path);
                    element
                }
            };
            self.nodes[at].below |= path;
        }
        self.nodes[at].here |= path;
    }

    fn child(&mut self, at: usize, key: &str) -> usize {
        if let Some((_, child)) = self.nodes[at].keys.iter().find(|(known, _)| known == key) {
            return *child;
        }
        let child = self.push();
        self.nodes[at].keys.push((key.to_owned(), child));
        child
    }

    fn element(&mut self, at: usize) -> usize {
        if let Some(element) = self.nodes[at].element {
            return element;
        }
        let element = self.push();
        self.nodes[at].element = Some(element);
        element
    }

    fn require(&mut self, element: usize, key: &str, text: &str, path: u64) {
        let conditions = &mut self.nodes[element].conditions;
        let known = conditions.iter().position(|other| other.key == key && other.text == text);
        if let Some(index) = known {
            conditions[index].paths |= path;
            return;
        }
        let index = conditions.len();
        conditions.push(Condition { key: key.to_owned(), text: text.to_owned(), paths: path });
        let decider = self.child(element, key);
        self.nodes[decider].decides.push(index);
    }

    fn push(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }
}

fn parse(path: &str) -> Result<Vec<Step>, String> {
    let mut rest = path;
    let mut steps = Vec::new();
    loop {
        steps.push(Step::Key(take_text(&mut rest)?));
        while let Some(inner) = rest.strip_prefix('[') {
            rest = inner;
            if let Some(after) = rest.strip_prefix(']') {
                rest = after;
                steps.push(Step::Elements);
                continue;
            }
            let key = take_text(&mut rest)?;
            rest = rest.strip_prefix('=').ok_or("expected `[]` or `[key=text]`")?;
            let text = take_text(&mut rest)?;
            rest = rest.strip_prefix(']').ok_or("expected `]`")?;
            steps.push(Step::ElementsWhere { key, text });
        }
        if rest.is_empty() {
            return Ok(steps);
        }
        rest = rest.strip_prefix('.').ok_or("expected `.` between keys")?;
    }
}

/// Takes a key or a text, bare or in quotes.
fn take_text(rest: &mut &str) -> Result<String, String> {
    if rest.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let text = texts.next().transpose().ok().flatten().ok_or("expected a text in quotes")?;
        *rest = &rest[texts.byte_offset()..];
        return Ok(text);
    }
    let end = rest.find(['.', '[', ']', '=', '"']).unwrap_or(rest.len());
    if end == 0 {
        return Err("expected a key (in quotes if it is empty or has one of . [ ] = \")".to_owned());
    }
    let (text, after) = rest.split_at(end);
    *rest = after;
    Ok(text.to_owned())
}

/// The positions of the bits that are set, lowest first.
#[inline]
pub(crate) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_steps() {
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(parse("completion"), Ok(vec![key("completion")]));
        assert_eq!(parse("meta.Größe"), Ok(vec![key("meta"), key("Größe")]));
        assert_eq!(parse(r#""a.b"."\"".c"#), Ok(vec![key("a.b"), key("\""), key("c")]));
        assert_eq!(
            parse("messages[role=assistant].content[]"),
            Ok(vec![
                key("messages"),
                Step::ElementsWhere { key: "role".to_owned(), text: "assistant".to_owned() },
                key("content"),
                Step::Elements,
            ])
        );
        for wrong in ["", ".a", "a.", "a..b", "a[", "a[0]", "a[b=c", "a]", "a[]b", "\"a", "\"\\x\""]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn paths_share_nodes() {
        let paths = ["a", "m[].c", "m[r=x].c", "m[r=x].d"].map(str::to_owned);
        let tree = Tree::new(&paths).unwrap();
        assert_eq!(tree.node(0).below, 0b1111);
        assert_eq!(tree.nodes.len(), 1 + 1 + 1 + 1 + 3);
        let element = tree.nodes.iter().find(|node| !node.conditions.is_empty()).unwrap();
        assert_eq!(element.conditions.len(), 1);
        assert_eq!(element.conditions[0].paths, 0b1100);
        assert_eq!((tree.is_list(0), tree.is_list(1)), (false, true));
        let wrong = Tree::new(&["a".to_owned(), "b.".to_owned()]).unwrap_err();
        assert!(wrong.starts_with("`b.`: "), "{wrong}");
    }
}
