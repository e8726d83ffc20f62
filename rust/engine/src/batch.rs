//! Rows that are Arrow arrays instead of lines.
//!
//! The paths of a plan are followed once a batch, column by column, down to the arrays of strings
//! that they end in; a row is then judged without a look at the columns around. A null is treated
//! as a missing key of a JSON object: without any value, the field is missing; a value of another
//! type than string is not a string. A path does not lead into the keys of a map.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, LargeStringBuilder, ListBuilder, StringBuilder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, LargeStringArray, RecordBatch, StringArray, StringViewArray, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::error::PlanError;
use crate::path::{Node, Tree};
use crate::plan::{Plan, PlanFinding, Scratch};
use crate::record::{Row, Unreadable, Value, bits};
use crate::reject::Reasons;

/// Rows are matched in slices: what their reasons take is bounded.
const SLICE_ROWS: usize = 1 << 14;

/// The values of a plan's fields in all rows of a batch.
pub(crate) struct Batch<'a> {
    fields: Vec<Values<'a>>,
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
    Dictionary {
        keys: Vec<usize>,
        values: Box<Strings<'a>>,
    },
    /// Another type, as a reason calls it.
    Other(&'static str),
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
        if let Some(array) = array.as_any_dictionary_opt() {
            let values = Strings::of(array.values());
            if let Strings::Other(name) = values {
                return Strings::Other(name);
            }
            let is_empty = array.values().is_empty();
            let keys = if is_empty { Vec::new() } else { array.normalized_keys() };
            return Strings::Dictionary { keys, values: Box::new(values) };
        }
        Strings::Other(name_of(array.data_type()))
    }

    /// The element at this position, which is not null.
    #[inline]
    fn get(&self, at: usize) -> Result<&'a str, &'static str> {
        match self {
            Strings::Short(array) => Ok(array.value(at)),
            Strings::Long(array) => Ok(array.value(at)),
            Strings::View(array) => Ok(array.value(at)),
            Strings::Dictionary { keys, values } => values.get(keys[at]),
            Strings::Other(name) => Err(name),
        }
    }
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
        other if other.is_numeric() => "a number",
        other if other.is_temporal() => "a time",
        _ => "another type",
    }
}

impl<'a> Batch<'a> {
    /// Follows the paths of the plan through the columns of `rows`.
    pub fn new(plan: &Plan, rows: &'a StructArray) -> Batch<'a> {
        let fields = 0..plan.fields().len();
        Batch { fields: fields.map(|field| locate(plan.tree(), field, rows)).collect() }
    }

    /// The row with this index.
    #[inline]
    pub fn row(&'a self, row: usize) -> BatchRow<'a> {
        BatchRow { batch: self, row }
    }
}

fn locate<'a>(tree: &Tree, field: usize, root: &'a StructArray) -> Values<'a> {
    let count = root.len();
    let mut array: &'a dyn Array = root;
    let mut rows = Rows::Each(None);
    let mut node = tree.node(0);
    let leads_on = |at: usize| tree.node(at).below >> field & 1 == 1;
    loop {
        rows = rows.without_nulls(count, array.logical_nulls().as_ref());
        if node.here >> field & 1 == 1 {
            return Values { array: Strings::of(array), rows };
        }
        if let Some(object) = array.as_struct_opt() {
            rows = require(tree, node, field, object, rows, count);
            let key = node.keys.iter().find(|(_, child)| leads_on(*child));
            if let Some((key, child)) = key
                && let Some(column) = object.column_by_name(key)
            {
                (array, node) = (column, tree.node(*child));
                continue;
            }
        } else if let Some(element) = node.element.filter(|element| leads_on(*element))
            && let Some((elements, range)) = elements(array)
        {
            rows = rows.expand(count, |at, positions| positions.extend(range(at)));
            (array, node) = (elements, tree.node(element));
            continue;
        }
        let nothing = Rows::Several { ends: vec![0; count], positions: Vec::new() };
        return Values { array: Strings::Other("null"), rows: nothing };
    }
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
        let column = decider.and_then(|(key, _)| object.column_by_name(key));
        let nulls = column.and_then(|column| column.logical_nulls());
        let strings = column.map_or(Strings::Other("null"), |column| Strings::of(column));
        rows = rows.retain(count, |at| {
            nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at))
                && strings.get(at) == Ok(condition.text.as_str())
        });
    }
    rows
}

type Range<'a> = Box<dyn Fn(usize) -> std::ops::Range<usize> + 'a>;

/// The elements of all lists of an array, and where those of each list are.
fn elements(array: &dyn Array) -> Option<(&dyn Array, Range<'_>)> {
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        let range = move |at: usize| offsets[at] as usize..offsets[at + 1] as usize;
        return Some((list.values(), Box::new(range)));
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        let offsets = list.value_offsets();
        let range = move |at: usize| offsets[at] as usize..offsets[at + 1] as usize;
        return Some((list.values(), Box::new(range)));
    }
    if let Some(list) = array.as_fixed_size_list_opt() {
        let length = list.value_length() as usize;
        return Some((list.values(), Box::new(move |at| at * length..(at + 1) * length)));
    }
    if let Some(list) = array.as_list_view_opt::<i32>() {
        let (offsets, sizes) = (list.value_offsets(), list.value_sizes());
        let range = move |at: usize| offsets[at] as usize..(offsets[at] + sizes[at]) as usize;
        return Some((list.values(), Box::new(range)));
    }
    let list = array.as_list_view_opt::<i64>()?;
    let (offsets, sizes) = (list.value_offsets(), list.value_sizes());
    let range = move |at: usize| offsets[at] as usize..(offsets[at] + sizes[at]) as usize;
    Some((list.values(), Box::new(range)))
}

impl Row for BatchRow<'_> {
    #[inline]
    fn single(&self, field: usize) -> Option<Value<'_>> {
        let values = &self.batch.fields[field];
        let (start, end) = values.rows.range(self.row);
        if end - start != 1 {
            return None;
        }
        values.array.get(values.rows.position(start)).ok().map(Value::from)
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
            let text = values.array.get(values.rows.position(index));
            let text = text.map_err(|found| Unreadable::NotAString { field, found })?;
            if !each(Value::from(text)) {
                break;
            }
        }
        Ok(())
    }
}

/// Matches the rows of one batch after the other, and writes nothing.
pub struct BatchMatcher<'a> {
    plan: &'a Plan,
    reasons: Option<Reasons<'a>>,
    schema: SchemaRef,
    scratch: Scratch,
    findings: Vec<PlanFinding>,
    text: Vec<u8>,
}

impl<'a> BatchMatcher<'a> {
    /// Prepares to match, and with `reasons` to say why rows break rules. Rules that compare rows
    /// are an error: a batch does not hold all of them.
    pub fn new(plan: &'a Plan, reasons: bool) -> Result<BatchMatcher<'a>, PlanError> {
        if let Some(comparison) = plan.comparisons().first() {
            return Err(PlanError::Rule {
                rule: plan.rules()[comparison.rule].name.clone(),
                message: "compares all rows, and a batch does not hold them; filter files instead"
                    .to_owned(),
            });
        }
        Ok(BatchMatcher {
            plan,
            reasons: reasons.then(|| Reasons::new(plan)),
            schema: matches_schema(reasons),
            scratch: Scratch::default(),
            findings: Vec::new(),
            text: Vec::new(),
        })
    }

    /// Appends what the plan says about these rows: batches of [`matches_schema`], as many rows as
    /// there are in `rows`.
    ///
    /// - `kept`: can the row be read, and does no rule drop it?
    /// - `broken`: bit `i` for rule `i`; 0 where the row cannot be read
    /// - `tags`: the names of the `tag` rules that a kept row breaks
    /// - `reasons`: as in the rejects, for every rule that is broken or why the row cannot be read;
    ///   null where there is nothing to say
    pub fn append(&mut self, rows: &StructArray, matches: &mut Vec<RecordBatch>) {
        for start in (0..rows.len()).step_by(SLICE_ROWS) {
            let slice = rows.slice(start, SLICE_ROWS.min(rows.len() - start));
            matches.push(self.slice(&slice));
        }
    }

    fn slice(&mut self, rows: &StructArray) -> RecordBatch {
        let plan = self.plan;
        let batch = Batch::new(plan, rows);
        let mut kept = BooleanBuilder::with_capacity(rows.len());
        let mut masks = UInt64Builder::with_capacity(rows.len());
        let mut tags = ListBuilder::new(StringBuilder::new());
        let mut texts = LargeStringBuilder::new();
        for row in 0..rows.len() {
            let row = batch.row(row);
            self.text.clear();
            let broken = plan.broken(&row, 0, &mut self.scratch);
            let mask = *broken.as_ref().unwrap_or(&0);
            let is_kept = broken.is_ok() && mask & plan.drops() == 0;
            if let Some(reasons) = &self.reasons {
                if broken.is_err() {
                    reasons.write_unreadable(&plan.unreadable(&row), &mut self.text);
                } else if mask != 0 {
                    plan.find(&row, mask, &mut self.scratch, &mut self.findings);
                    reasons.write(&row, &self.findings, &[], &mut self.text);
                }
                let text = std::str::from_utf8(&self.text).expect("reasons are text");
                texts.append_option((!text.is_empty()).then_some(text));
            }
            kept.append_value(is_kept);
            masks.append_value(mask);
            for rule in bits(if is_kept { mask & plan.tags() } else { 0 }) {
                tags.values().append_value(&plan.rules()[rule].name);
            }
            tags.append(true);
        }
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(kept.finish()), Arc::new(masks.finish()), Arc::new(tags.finish())];
        if self.reasons.is_some() {
            columns.push(Arc::new(texts.finish()));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .expect("the columns have the schema")
    }
}

/// The columns that a [`BatchMatcher`] makes.
pub fn matches_schema(reasons: bool) -> SchemaRef {
    let tag = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let mut fields = vec![
        Field::new("kept", DataType::Boolean, false),
        Field::new("broken", DataType::UInt64, false),
        Field::new("tags", DataType::List(tag), false),
    ];
    if reasons {
        fields.push(Field::new("reasons", DataType::LargeUtf8, true));
    }
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::StringDictionaryBuilder;
    use arrow_array::types::Int32Type;
    use arrow_array::{FixedSizeListArray, Int64Array, ListArray, NullArray};
    use arrow_buffer::OffsetBuffer;
    use serde_json::{Value as Json, json};

    use super::*;

    fn plan(field: &str) -> Plan {
        let rule = json!({"name": "owl", "kind": "literal", "words": ["owl"], "field": field});
        Plan::from_json(&json!({"rules": [rule]}).to_string()).unwrap()
    }

    /// By row: is it kept, and what is the first reason and its value and span if there is one.
    fn verdicts(plan: &Plan, rows: &StructArray) -> Vec<(bool, Json, Json, Json)> {
        let mut matches = Vec::new();
        BatchMatcher::new(plan, true).unwrap().append(rows, &mut matches);
        let rows = matches.iter().flat_map(|batch| {
            let kept = batch["kept"].as_boolean().iter();
            let reasons = batch["reasons"].as_string::<i64>().iter();
            kept.zip(reasons).collect::<Vec<_>>()
        });
        rows.map(|(kept, reasons)| {
            let reasons = reasons.map_or(Json::Null, |text| serde_json::from_str(text).unwrap());
            let first = &reasons[0];
            (kept.unwrap(), first["reason"].clone(), first["value"].clone(), first["span"].clone())
        })
        .collect()
    }

    fn one(name: &str, array: ArrayRef) -> StructArray {
        StructArray::from(vec![(
            Arc::new(Field::new(name, array.data_type().clone(), true)),
            array,
        )])
    }

    #[test]
    fn all_kinds_of_strings_are_the_same() {
        let texts = [Some("an owl"), None, Some("a cat"), Some("é owl")];
        let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
        dictionary.extend(texts);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter(texts)),
            Arc::new(LargeStringArray::from_iter(texts)),
            Arc::new(StringViewArray::from_iter(texts)),
            Arc::new(dictionary.finish()),
        ];
        for array in arrays {
            // A slice, since offsets are easily forgotten.
            for (start, length) in [(0, 4), (1, 3), (3, 1), (0, 0)] {
                let rows = one("a", Arc::clone(&array)).slice(start, length);
                let null = Json::Null;
                let expected = [
                    (false, json!("contains `owl`"), null.clone(), json!([3, 6])),
                    (false, json!("missing field"), null.clone(), null.clone()),
                    (true, null.clone(), null.clone(), null),
                    (false, json!("contains `owl`"), Json::Null, json!([3, 6])),
                ];
                assert_eq!(verdicts(&plan("a"), &rows), expected[start..start + length]);
            }
        }
    }

    #[test]
    fn what_is_no_string_is_unreadable() {
        let arrays: [(ArrayRef, &str); 2] = [
            (Arc::new(Int64Array::from(vec![1])), "field is not a string"),
            (Arc::new(NullArray::new(1)), "missing field"),
        ];
        for (array, reason) in arrays {
            let rows = one("a", array);
            assert_eq!(verdicts(&plan("a"), &rows)[0].1, reason);
            assert_eq!(verdicts(&plan("b"), &rows)[0].1, "missing field");
            assert_eq!(verdicts(&plan("a.b"), &rows)[0].1, "missing field");
            assert_eq!(verdicts(&plan("a[]"), &rows)[0].1, "missing field");
        }
    }

    #[test]
    fn paths_lead_through_structs_and_lists() {
        // [{r:a,c:x},{r:b,c:owl}] | [] | null | [{r:a,c:null}, null, {r:a,c:owl}]
        let roles = StringArray::from(vec!["a", "b", "a", "a", "a"]);
        let contents =
            StringArray::from(vec![Some("x"), Some("owl"), None, Some("owl"), Some("owl")]);
        let fields = vec![
            (Arc::new(Field::new("r", DataType::Utf8, true)), Arc::new(roles) as ArrayRef),
            (Arc::new(Field::new("c", DataType::Utf8, true)), Arc::new(contents)),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let nulls = NullBuffer::from(vec![true, true, true, false, true]);
        let objects = StructArray::new(fields.into(), arrays, Some(nulls));
        let item = Arc::new(Field::new_list_field(objects.data_type().clone(), true));
        let lists = ListArray::new(
            Arc::clone(&item),
            OffsetBuffer::from_lengths([2, 0, 0, 3]),
            Arc::new(objects.clone()),
            Some(NullBuffer::from(vec![true, true, false, true])),
        );
        let rows = one("m", Arc::new(lists));
        let owl = |value: u64| (false, json!("contains `owl`"), json!(value), json!([0, 3]));
        let missing = || (false, json!("missing field"), Json::Null, Json::Null);
        let kept = || (true, Json::Null, Json::Null, Json::Null);
        let found = verdicts(&plan("m[].c"), &rows);
        assert_eq!(found, [owl(1), missing(), missing(), owl(0)]);
        let found = verdicts(&plan("m[r=a].c"), &rows);
        assert_eq!(found, [kept(), missing(), missing(), owl(0)]);
        assert_eq!(verdicts(&plan("m[r=a].c"), &rows.slice(3, 1)), [owl(0)]);
        let found = verdicts(&plan("m[r=c].c"), &rows);
        assert!(found.iter().all(|verdict| *verdict == missing()));
        assert_eq!(verdicts(&plan("m[]"), &rows)[0].1, "field is not a string");
        let fixed = FixedSizeListArray::new(item, 5, Arc::new(objects.clone()), None);
        assert_eq!(verdicts(&plan("m[].c"), &one("m", Arc::new(fixed))), [owl(1)]);
        let nested = one("m", Arc::new(objects));
        let found = verdicts(&plan("m.c"), &nested);
        assert_eq!((found[0].0, found[1].0, &found[3].1), (true, false, &json!("missing field")));
    }
}
