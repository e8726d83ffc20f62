//! The values of a plan's fields in rows that are in memory.

use arrow_array::cast::AsArray;
use arrow_array::{Array, StructArray};
use arrow_buffer::NullBuffer;

use super::arrays::{Copied, Strings, elements, is_json, keyed, numbers};
use crate::json::{Index, Node, Number, Record, Row, Tree, Unreadable, Value};
use crate::plan::Plan;

/// The values of a plan's fields in all rows of a batch.
pub(crate) struct Batch<'a> {
    fields: Vec<Field<'a>>,
    rows: usize,
}

/// One row of a [`Batch`].
#[derive(Clone, Copy)]
pub(crate) struct BatchRow<'a> {
    batch: &'a Batch<'a>,
    row: usize,
}

/// What a field holds in all rows.
enum Field<'a> {
    Texts(Values<'a>),
    /// By row.
    Numbers(Vec<Result<Number, Unreadable>>),
}

/// The texts of one field.
struct Values<'a> {
    array: Strings<'a>,
    rows: Rows,
}

/// Which elements of an array belong to which row. None of them is null.
enum Rows {
    /// Row `i` has element `i`, unless that is null.
    Each(Option<NullBuffer>),
    /// Row `i` has `positions[ends[i - 1]..ends[i]]`.
    Several { ends: Vec<usize>, positions: Vec<usize> },
}

impl Rows {
    /// Leaves the elements for which `keep` says so.
    fn retain(self, rows: usize, keep: impl Fn(usize) -> bool) -> Rows {
        self.expand(rows, |at, positions| {
            if keep(at) {
                positions.push(at);
            }
        })
    }

    /// Replaces each element by what `expand` appends for it.
    fn expand(self, rows: usize, mut expand: impl FnMut(usize, &mut Vec<usize>)) -> Rows {
        let (mut ends, mut positions) = (Vec::with_capacity(rows), Vec::new());
        for row in 0..rows {
            self.for_each(row, &mut |at| expand(at, &mut positions));
            ends.push(positions.len());
        }
        Rows::Several { ends, positions }
    }

    /// Leaves the elements that are not null.
    fn without_nulls(self, rows: usize, nulls: Option<&NullBuffer>) -> Rows {
        match (self, nulls) {
            (same, None) => same,
            (Rows::Each(own), nulls) => Rows::Each(NullBuffer::union(own.as_ref(), nulls)),
            (several, Some(nulls)) => several.retain(rows, |at| nulls.is_valid(at)),
        }
    }

    fn for_each(&self, row: usize, each: &mut dyn FnMut(usize)) {
        match self {
            Rows::Each(nulls) if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) => {
                each(row);
            }
            Rows::Each(_) => {}
            Rows::Several { positions, .. } => {
                let (start, end) = self.range(row);
                positions[start..end].iter().for_each(|&at| each(at));
            }
        }
    }

    #[inline]
    fn range(&self, row: usize) -> (usize, usize) {
        match self {
            Rows::Each(nulls) => {
                let is_valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                (row, row + usize::from(is_valid))
            }
            Rows::Several { ends, .. } => (if row == 0 { 0 } else { ends[row - 1] }, ends[row]),
        }
    }

    #[inline]
    fn position(&self, index: usize) -> usize {
        match self {
            Rows::Each(_) => index,
            Rows::Several { positions, .. } => positions[index],
        }
    }
}

impl<'a> Batch<'a> {
    /// Follows the paths of the plan through the columns of `rows`.
    pub fn new(plan: &Plan, rows: &'a StructArray) -> Batch<'a> {
        let fields = (0..plan.fields().len()).map(|field| match plan.is_number(field) {
            true => Field::Numbers(locate_numbers(plan, field, rows)),
            false => Field::Texts(locate(plan, field, rows)),
        });
        Batch { fields: fields.collect(), rows: rows.len() }
    }

    /// Rows as lines of JSON, which end with a line feed each.
    pub fn of_lines(plan: &Plan, lines: &[u8]) -> Batch<'a> {
        let count = plan.fields().len();
        let mut texts: Vec<_> = (0..count).map(|_| (Copied::default(), Vec::new())).collect();
        let mut numbers = vec![Vec::new(); count];
        let mut locator = plan.locator().knowing_nan();
        let mut index = Index::default();
        index.build(lines);
        let (mut start, mut rows) = (0, 0);
        while start < lines.len() {
            let end = index.next_line_feed(start);
            let located = locator.locate(lines, &index, start, end);
            for (field, (copied, ends)) in texts.iter_mut().enumerate() {
                if plan.is_number(field) {
                    numbers[field].push(number_of(field, &located));
                    continue;
                }
                copied.extend(field, &located);
                ends.push(copied.values.len());
            }
            (start, rows) = (end + 1, rows + 1);
        }
        let found = texts.into_iter().zip(numbers).enumerate();
        let fields = found.map(|(field, ((copied, ends), numbers))| match plan.is_number(field) {
            true => Field::Numbers(numbers),
            false => Field::Texts(Values::copied(copied, ends)),
        });
        Batch { fields: fields.collect(), rows }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The row with this index.
    #[inline]
    pub fn row(&'a self, row: usize) -> BatchRow<'a> {
        BatchRow { batch: self, row }
    }
}

impl Values<'_> {
    fn copied(copied: Copied, ends: Vec<usize>) -> Self {
        let positions = (0..copied.values.len()).collect();
        Values { array: Strings::Copied(copied), rows: Rows::Several { ends, positions } }
    }
}

fn locate<'a>(plan: &Plan, field: usize, root: &'a StructArray) -> Values<'a> {
    let (tree, count) = (plan.tree(), root.len());
    let mut array: &'a dyn Array = root;
    let mut rows = Rows::Each(None);
    let mut at = 0;
    let mut is_documents = false;
    loop {
        let node = tree.node(at);
        let leads_on = |node: usize| tree.node(node).below >> field & 1 == 1;
        rows = rows.without_nulls(count, array.logical_nulls().as_ref());
        if is_documents {
            return documents(plan, field, at, Strings::of(array), &rows, count);
        }
        if node.here >> field & 1 == 1 {
            return Values { array: Strings::of(array), rows };
        }
        if let Some((keys, values)) = keyed(array) {
            rows = rows.expand(count, |at, positions| positions.push(keys[at]));
            array = values;
            continue;
        }
        if let Some(object) = array.as_struct_opt() {
            rows = require(tree, node, field, object, rows, count);
            let key = node.keys.iter().find(|(_, child)| leads_on(*child));
            if let Some((key, child)) = key
                && let Some((column, values)) = object.fields().find(key)
            {
                is_documents = is_json(values);
                (array, at) = (object.column(column), *child);
                continue;
            }
        } else if let Some(element) = node.element.filter(|element| leads_on(*element))
            && let Some((elements, item, range)) = elements(array)
        {
            rows = rows.expand(count, |at, positions| positions.extend(range(at)));
            is_documents = item.is_some_and(is_json);
            (array, at) = (elements, element);
            continue;
        }
        let nothing = Rows::Several { ends: vec![0; count], positions: Vec::new() };
        return Values { array: Strings::Other("null"), rows: nothing };
    }
}

/// What a line or a document says of a field that is looked at for a number.
fn number_of(field: usize, located: &Result<Record<'_>, Unreadable>) -> Result<Number, Unreadable> {
    located.as_ref().map_err(Clone::clone)?.number(field)
}

/// Follows the path of a field that is looked at for a number, which leads through objects alone.
fn locate_numbers(
    plan: &Plan,
    field: usize,
    root: &StructArray,
) -> Vec<Result<Number, Unreadable>> {
    let tree = plan.tree();
    // By row, where in the array it is; none where the path ended before.
    let mut rows: Vec<Option<usize>> = (0..root.len()).map(Some).collect();
    let mut array: &dyn Array = root;
    let mut at = 0;
    let mut is_documents = false;
    loop {
        let node = tree.node(at);
        let ends_here = node.here >> field & 1 == 1;
        let nulls = array.logical_nulls();
        let is_null = |at: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(at));
        if ends_here || is_documents {
            let (mut locator, mut index) = (plan.locator(), Index::default());
            let (number, texts) = (numbers(array), Strings::of(array));
            let mut found = |row: usize| match is_documents {
                false => Ok(number(row)),
                true => {
                    let document = texts.get(field, row)?;
                    index.build(document.bytes);
                    number_of(field, &locator.locate_at(at, document, &index))
                }
            };
            let numbers = rows.into_iter().map(|row| match row {
                None => Ok(Number::Missing),
                Some(row) if !is_null(row) => found(row),
                Some(_) => Ok(if ends_here { Number::Null } else { Number::Missing }),
            });
            return numbers.collect();
        }
        for row in &mut rows {
            *row = row.filter(|row| !is_null(*row));
        }
        if let Some((keys, values)) = keyed(array) {
            rows.iter_mut().flatten().for_each(|row| *row = keys[*row]);
            array = values;
            continue;
        }
        let mut keys = node.keys.iter();
        let key = keys.find(|(_, child)| tree.node(*child).below >> field & 1 == 1);
        if let Some(object) = array.as_struct_opt()
            && let Some((key, child)) = key
            && let Some((column, values)) = object.fields().find(key)
        {
            is_documents = is_json(values);
            (array, at) = (object.column(column), *child);
            continue;
        }
        return vec![Ok(Number::Missing); root.len()];
    }
}

/// What a field is in documents that stand at this node of the tree.
fn documents<'a>(
    plan: &Plan,
    field: usize,
    node: usize,
    texts: Strings<'_>,
    rows: &Rows,
    count: usize,
) -> Values<'a> {
    let (mut locator, mut index) = (plan.locator(), Index::default());
    let (mut copied, mut ends) = (Copied::default(), Vec::with_capacity(count));
    for row in 0..count {
        rows.for_each(row, &mut |at| {
            let located = texts.get(field, at).and_then(|document| {
                index.build(document.bytes);
                locator.locate_at(node, document, &index)
            });
            copied.extend(field, &located);
        });
        ends.push(copied.values.len());
    }
    Values::copied(copied, ends)
}

/// Leaves the objects that fulfil what the path of the field demands of them.
fn require(
    tree: &Tree,
    node: &Node,
    field: usize,
    object: &StructArray,
    mut rows: Rows,
    count: usize,
) -> Rows {
    for (index, condition) in node.conditions.iter().enumerate() {
        if condition.paths >> field & 1 == 0 {
            continue;
        }
        let decider =
            node.keys.iter().find(|(_, child)| tree.node(*child).decides.contains(&index));
        let column = decider.and_then(|(key, _)| object.fields().find(key));
        let Some((column, values)) = column else {
            return rows.retain(count, |_| false);
        };
        let column = object.column(column);
        let (nulls, strings) = (column.logical_nulls(), Strings::of(column));
        let is_met = |text: &[u8]| {
            if is_json(values) {
                let text = serde_json::from_slice::<String>(text);
                return text.is_ok_and(|text| text == condition.text);
            }
            text == condition.text.as_bytes()
        };
        rows = rows.retain(count, |at| {
            nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at))
                && strings.get(field, at).is_ok_and(|value| is_met(value.bytes))
        });
    }
    rows
}

impl<'a> BatchRow<'a> {
    #[inline]
    fn texts(&self, field: usize) -> Option<&'a Values<'a>> {
        match self.batch.fields.get(field) {
            Some(Field::Texts(values)) => Some(values),
            _ => None,
        }
    }
}

impl Row for BatchRow<'_> {
    #[inline]
    fn single(&self, field: usize) -> Option<Value<'_>> {
        let values = self.texts(field)?;
        let (start, end) = values.rows.range(self.row);
        if end - start != 1 {
            return None;
        }
        values.array.get(field, values.rows.position(start)).ok()
    }

    /// Tags are not written into these rows: nothing is in their way.
    fn has(&self, field: usize) -> bool {
        let range = self.texts(field).map(|values| values.rows.range(self.row));
        range.is_some_and(|(start, end)| start < end)
    }

    fn for_each(
        &self,
        field: usize,
        each: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> Result<(), Unreadable> {
        let values = self.texts(field).expect("it is looked at for texts");
        let (start, end) = values.rows.range(self.row);
        if start == end {
            return Err(Unreadable::MissingField { field });
        }
        for index in start..end {
            if !each(values.array.get(field, values.rows.position(index))?) {
                break;
            }
        }
        Ok(())
    }

    fn number(&self, field: usize) -> Result<Number, Unreadable> {
        match &self.batch.fields[field] {
            Field::Numbers(numbers) => numbers[self.row].clone(),
            Field::Texts(_) => unreachable!("it is looked at for a number"),
        }
    }
}
