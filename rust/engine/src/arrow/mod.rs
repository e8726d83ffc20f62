//! Rows that are in memory instead of in a file.
//!
//! The paths of a plan are followed once a batch, column by column, down to the arrays of strings
//! that they end in; a row is then judged without a look at the columns around. A null counts as a
//! value that is missing, as in JSON lines. A map is a list of objects with a key and a value each.
//! A column of JSON documents (Arrow's `arrow.json`, a logical type of Parquet) holds what they
//! say: a path leads into them. Rows that are objects of another language come as lines of JSON.

mod json;
mod matcher;

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type, RunEndIndexType};
use arrow_array::{Array, LargeStringArray, RunArray, StringArray, StringViewArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};

use crate::json::Index;
use crate::json::{Node, Tree};
use crate::json::{Record, Row, Unreadable, Value};
use crate::plan::Plan;

pub(crate) use json::write_json;
pub use matcher::{BatchMatcher, matches_schema};

/// The values of a plan's fields in all rows of a batch.
pub(crate) struct Batch<'a> {
    fields: Vec<Values<'a>>,
    rows: usize,
}

/// One row of a [`Batch`].
#[derive(Clone, Copy)]
pub(crate) struct BatchRow<'a> {
    batch: &'a Batch<'a>,
    row: usize,
}

/// The values of one field.
struct Values<'a> {
    array: Strings<'a>,
    rows: Rows,
}

/// What a path ends in.
enum Strings<'a> {
    Short(&'a StringArray),
    Long(&'a LargeStringArray),
    View(&'a StringViewArray),
    /// Elements that stand for others: those of a dictionary, or of runs.
    Keyed {
        keys: Vec<usize>,
        values: Box<Strings<'a>>,
    },
    /// What was located in JSON.
    Copied(Copied),
    /// Another type, as a reason calls it.
    Other(&'static str),
}

/// Texts that lie in no array: where each is, or why there is none.
#[derive(Default)]
struct Copied {
    texts: Vec<u8>,
    values: Vec<Result<Range<usize>, Unreadable>>,
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

impl Copied {
    /// Appends all values of a field.
    fn extend(&mut self, field: usize, located: &Result<Record<'_>, Unreadable>) {
        let record = match located {
            Ok(record) => record,
            Err(unreadable) => return self.values.push(Err(unreadable.clone())),
        };
        for value in record.values(field) {
            let start = self.texts.len();
            let value = value.map(|value| {
                self.texts.extend_from_slice(value.bytes);
                start..self.texts.len()
            });
            self.values.push(value);
        }
    }

    fn value(&self, at: usize) -> Result<Value<'_>, Unreadable> {
        let range = self.values[at].clone()?;
        let bytes = &self.texts[range];
        Ok(Value { bytes, is_ascii: bytes.is_ascii() })
    }
}

impl<'a> Strings<'a> {
    fn of(array: &'a dyn Array) -> Strings<'a> {
        if let Some(array) = array.as_string_opt::<i32>() {
            return Strings::Short(array);
        }
        if let Some(array) = array.as_string_opt::<i64>() {
            return Strings::Long(array);
        }
        if let Some(array) = array.as_string_view_opt() {
            return Strings::View(array);
        }
        if let Some((keys, values)) = keyed(array) {
            return match Strings::of(values) {
                Strings::Other(name) => Strings::Other(name),
                values => Strings::Keyed { keys, values: Box::new(values) },
            };
        }
        Strings::Other(name_of(array.data_type()))
    }

    /// The element at this position, which is not null.
    #[inline]
    fn get(&self, field: usize, at: usize) -> Result<Value<'_>, Unreadable> {
        match self {
            Strings::Short(array) => Ok(array.value(at).into()),
            Strings::Long(array) => Ok(array.value(at).into()),
            Strings::View(array) => Ok(array.value(at).into()),
            Strings::Keyed { keys, values } => values.get(field, keys[at]),
            Strings::Copied(copied) => copied.value(at),
            Strings::Other(found) => Err(Unreadable::NotAString { field, found }),
        }
    }
}

/// The array whose elements those of a dictionary or of runs stand for, and which.
fn keyed(array: &dyn Array) -> Option<(Vec<usize>, &dyn Array)> {
    if let Some(array) = array.as_any_dictionary_opt() {
        let is_empty = array.values().is_empty();
        let keys = if is_empty { Vec::new() } else { array.normalized_keys() };
        return Some((keys, array.values().as_ref()));
    }
    fn runs<E: RunEndIndexType>(array: &RunArray<E>) -> (Vec<usize>, &dyn Array) {
        let keys = (0..array.len()).map(|at| array.get_physical_index(at));
        (keys.collect(), array.values().as_ref())
    }
    let any = array.as_any();
    let short = any.downcast_ref::<RunArray<Int16Type>>().map(runs);
    let middle = || any.downcast_ref::<RunArray<Int32Type>>().map(runs);
    short.or_else(middle).or_else(|| any.downcast_ref::<RunArray<Int64Type>>().map(runs))
}

/// What a type would be in JSON, or its own name.
fn name_of(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Null => "null",
        DataType::Boolean => "a boolean",
        DataType::Struct(_) | DataType::Map(_, _) => "an object",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => "an array",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "binary data",
        DataType::Dictionary(_, values) => name_of(values),
        DataType::RunEndEncoded(_, values) => name_of(values.data_type()),
        other if other.is_numeric() => "a number",
        other if other.is_temporal() => "a time",
        _ => "another type",
    }
}

/// Does a column hold JSON documents?
pub(crate) fn is_json(column: &Field) -> bool {
    column.extension_type_name() == Some("arrow.json")
}

impl<'a> Batch<'a> {
    /// Follows the paths of the plan through the columns of `rows`.
    pub fn new(plan: &Plan, rows: &'a StructArray) -> Batch<'a> {
        let fields = 0..plan.fields().len();
        Batch { fields: fields.map(|field| locate(plan, field, rows)).collect(), rows: rows.len() }
    }

    /// Rows as lines of JSON, which end with a line feed each.
    pub fn of_lines(plan: &Plan, lines: &[u8]) -> Batch<'a> {
        let count = plan.fields().len();
        let mut fields: Vec<_> = (0..count).map(|_| (Copied::default(), Vec::new())).collect();
        let mut locator = plan.locator();
        let mut index = Index::default();
        index.build(lines);
        let (mut start, mut rows) = (0, 0);
        while start < lines.len() {
            let end = index.next_line_feed(start);
            let located = locator.locate(lines, &index, start, end);
            for (field, (copied, ends)) in fields.iter_mut().enumerate() {
                copied.extend(field, &located);
                ends.push(copied.values.len());
            }
            (start, rows) = (end + 1, rows + 1);
        }
        let values = fields.into_iter().map(|(copied, ends)| Values::copied(copied, ends));
        Batch { fields: values.collect(), rows }
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

type Ranges<'a> = Box<dyn Fn(usize) -> Range<usize> + 'a>;

/// The elements of all lists of an array, what they are, and where those of each list are.
fn elements(array: &dyn Array) -> Option<(&dyn Array, Option<&Field>, Ranges<'_>)> {
    let item = match array.data_type() {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item.as_ref()),
        _ => None,
    };
    let (values, range): (&dyn Array, Ranges<'_>) = if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        (list.values(), Box::new(|at| offsets[at] as usize..offsets[at + 1] as usize))
    } else if let Some(list) = array.as_list_opt::<i64>() {
        let offsets = list.value_offsets();
        (list.values(), Box::new(|at| offsets[at] as usize..offsets[at + 1] as usize))
    } else if let Some(list) = array.as_fixed_size_list_opt() {
        let length = list.value_length() as usize;
        (list.values(), Box::new(move |at| at * length..(at + 1) * length))
    } else if let Some(list) = array.as_list_view_opt::<i32>() {
        let (offsets, sizes) = (list.value_offsets(), list.value_sizes());
        (list.values(), Box::new(|at| offsets[at] as usize..(offsets[at] + sizes[at]) as usize))
    } else if let Some(list) = array.as_list_view_opt::<i64>() {
        let (offsets, sizes) = (list.value_offsets(), list.value_sizes());
        (list.values(), Box::new(|at| offsets[at] as usize..(offsets[at] + sizes[at]) as usize))
    } else {
        let map = array.as_map_opt()?;
        let offsets = map.value_offsets();
        (map.entries(), Box::new(|at| offsets[at] as usize..offsets[at + 1] as usize))
    };
    Some((values, item, range))
}

impl Row for BatchRow<'_> {
    #[inline]
    fn single(&self, field: usize) -> Option<Value<'_>> {
        let values = &self.batch.fields[field];
        let (start, end) = values.rows.range(self.row);
        if end - start != 1 {
            return None;
        }
        values.array.get(field, values.rows.position(start)).ok()
    }

    /// Tags are not written into these rows: nothing is in their way.
    fn has(&self, field: usize) -> bool {
        let range = self.batch.fields.get(field).map(|values| values.rows.range(self.row));
        range.is_some_and(|(start, end)| start < end)
    }

    fn for_each(
        &self,
        field: usize,
        each: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> Result<(), Unreadable> {
        let values = &self.batch.fields[field];
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
}

#[cfg(test)]
mod tests;
