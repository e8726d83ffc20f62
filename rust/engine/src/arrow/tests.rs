use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Int64Array, LargeStringArray, ListArray, NullArray,
    StringArray, StringViewArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use serde_json::{Value as Json, json};

use super::BatchMatcher;
use crate::plan::Plan;

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
    StructArray::from(vec![(Arc::new(Field::new(name, array.data_type().clone(), true)), array)])
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
    let contents = StringArray::from(vec![Some("x"), Some("owl"), None, Some("owl"), Some("owl")]);
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
