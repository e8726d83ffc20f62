//! Arrays of Arrow as paths see them: strings of any kind, the elements of lists, what stands for
//! others.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    RunEndIndexType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, LargeStringArray, RunArray, StringArray, StringViewArray};
use arrow_schema::{DataType, Field};

use crate::json::{Number, Record, Unreadable, Value};

/// What a path ends in.
pub enum Strings<'a> {
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
pub struct Copied {
    texts: Vec<u8>,
    pub values: Vec<Result<Range<usize>, Unreadable>>,
}

impl Copied {
    /// Appends all values of a field.
    pub fn extend(&mut self, field: usize, located: &Result<Record<'_>, Unreadable>) {
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
    pub fn of(array: &'a dyn Array) -> Strings<'a> {
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
    pub fn get(&self, field: usize, at: usize) -> Result<Value<'_>, Unreadable> {
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
pub fn keyed(array: &dyn Array) -> Option<(Vec<usize>, &dyn Array)> {
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

type Ranges<'a> = Box<dyn Fn(usize) -> Range<usize> + 'a>;

/// The elements of all lists of an array, what they are, and where those of each list are.
pub fn elements(array: &dyn Array) -> Option<(&dyn Array, Option<&Field>, Ranges<'_>)> {
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

/// What stands at a position of an array that is not null, for whoever looks for a number.
pub fn numbers(array: &dyn Array) -> Box<dyn Fn(usize) -> Number + '_> {
    fn of<T: ArrowPrimitiveType>(
        array: &dyn Array,
        value: impl Fn(T::Native) -> f64 + 'static,
    ) -> Box<dyn Fn(usize) -> Number + '_> {
        let array = array.as_primitive::<T>();
        Box::new(move |at| Number::Value(value(array.value(at))))
    }
    fn decimals<T: DecimalType + ArrowPrimitiveType>(
        array: &dyn Array,
    ) -> Box<dyn Fn(usize) -> Number + '_> {
        let array = array.as_primitive::<T>();
        Box::new(move |at| Number::parse(array.value_as_string(at).as_bytes()))
    }
    if let Some((keys, values)) = keyed(array) {
        let number = numbers(values);
        return Box::new(move |at| number(keys[at]));
    }
    match array.data_type() {
        DataType::Int8 => of::<Int8Type>(array, f64::from),
        DataType::Int16 => of::<Int16Type>(array, f64::from),
        DataType::Int32 => of::<Int32Type>(array, f64::from),
        DataType::Int64 => of::<Int64Type>(array, |value| value as f64),
        DataType::UInt8 => of::<UInt8Type>(array, f64::from),
        DataType::UInt16 => of::<UInt16Type>(array, f64::from),
        DataType::UInt32 => of::<UInt32Type>(array, f64::from),
        DataType::UInt64 => of::<UInt64Type>(array, |value| value as f64),
        DataType::Float16 => of::<Float16Type>(array, f64::from),
        DataType::Float32 => of::<Float32Type>(array, f64::from),
        DataType::Float64 => of::<Float64Type>(array, |value| value),
        DataType::Decimal32(..) => decimals::<Decimal32Type>(array),
        DataType::Decimal64(..) => decimals::<Decimal64Type>(array),
        DataType::Decimal128(..) => decimals::<Decimal128Type>(array),
        DataType::Decimal256(..) => decimals::<Decimal256Type>(array),
        _ => Box::new(|_| Number::Other),
    }
}
