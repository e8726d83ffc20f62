//! A row as JSON, for those who read it. No rule looks at it.

use std::fmt::Display;
use std::io::Write;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use serde::de::IgnoredAny;

use super::arrays::{Strings, elements, is_json, keyed};

/// Appends a value. What JSON has no type for becomes null (numbers that are not finite) or a text:
/// hexadecimal digits of binary data, and times in ISO 8601.
pub(crate) fn write_json(field: &Field, array: &dyn Array, at: usize, out: &mut Vec<u8>) {
    if array.logical_nulls().is_some_and(|nulls| nulls.is_null(at)) {
        return out.extend_from_slice(b"null");
    }
    if let Some((keys, values)) = keyed(array) {
        return write_json(field, values, keys[at], out);
    }
    match array.data_type() {
        DataType::Boolean => write(array.as_boolean().value(at), out),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = Strings::of(array);
            let text = text.get(0, at).expect("it is an array of texts").text();
            if is_json(field) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
                // Line feeds between values are none of a line of JSON.
                out.extend(text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
            } else {
                write_text(text, out);
            }
        }
        DataType::Binary => write_binary(array.as_binary::<i32>().value(at), out),
        DataType::LargeBinary => write_binary(array.as_binary::<i64>().value(at), out),
        DataType::BinaryView => write_binary(array.as_binary_view().value(at), out),
        DataType::FixedSizeBinary(_) => write_binary(array.as_fixed_size_binary().value(at), out),
        DataType::Struct(fields) => {
            out.push(b'{');
            for (position, (field, column)) in
                fields.iter().zip(array.as_struct().columns()).enumerate()
            {
                if position > 0 {
                    out.push(b',');
                }
                write_text(field.name(), out);
                out.push(b':');
                write_json(field, column, at, out);
            }
            out.push(b'}');
        }
        other if other.is_numeric() => write_number(array, at, out),
        other if other.is_temporal() => write_time(array, at, out),
        other => match elements(array) {
            Some((values, item, range)) => {
                let entry = Field::new("entry", values.data_type().clone(), true);
                out.push(b'[');
                for (position, at) in range(at).enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    write_json(item.unwrap_or(&entry), values, at, out);
                }
                out.push(b']');
            }
            None => write_text(&other.to_string(), out),
        },
    }
}

fn write(value: impl Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a vector takes all bytes");
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes all bytes");
}

fn write_binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    bytes.iter().for_each(|byte| write(format_args!("{byte:02x}"), out));
    out.push(b'"');
}

fn write_number(array: &dyn Array, at: usize, out: &mut Vec<u8>) {
    fn value<T: ArrowPrimitiveType>(array: &dyn Array, at: usize) -> T::Native {
        array.as_primitive::<T>().value(at)
    }
    // JSON's numbers have any number of digits, and serde_json writes null for NaN.
    let mut float = |value: f64| serde_json::to_writer(&mut *out, &value).expect("as above");
    match array.data_type() {
        DataType::Float16 => return float(value::<Float16Type>(array, at).to_f64()),
        DataType::Float32 => {
            let value = value::<Float32Type>(array, at);
            serde_json::to_writer(out, &value).expect("a vector takes all bytes");
            return;
        }
        DataType::Float64 => return float(value::<Float64Type>(array, at)),
        _ => {}
    }
    match array.data_type() {
        DataType::Int8 => write(value::<Int8Type>(array, at), out),
        DataType::Int16 => write(value::<Int16Type>(array, at), out),
        DataType::Int32 => write(value::<Int32Type>(array, at), out),
        DataType::Int64 => write(value::<Int64Type>(array, at), out),
        DataType::UInt8 => write(value::<UInt8Type>(array, at), out),
        DataType::UInt16 => write(value::<UInt16Type>(array, at), out),
        DataType::UInt32 => write(value::<UInt32Type>(array, at), out),
        DataType::UInt64 => write(value::<UInt64Type>(array, at), out),
        DataType::Decimal32(..) => {
            write(array.as_primitive::<Decimal32Type>().value_as_string(at), out);
        }
        DataType::Decimal64(..) => {
            write(array.as_primitive::<Decimal64Type>().value_as_string(at), out);
        }
        DataType::Decimal128(..) => {
            write(array.as_primitive::<Decimal128Type>().value_as_string(at), out);
        }
        DataType::Decimal256(..) => {
            write(array.as_primitive::<Decimal256Type>().value_as_string(at), out);
        }
        other => write_text(&other.to_string(), out),
    }
}

fn write_time(array: &dyn Array, at: usize, out: &mut Vec<u8>) {
    macro_rules! text {
        ($type:ty, $method:ident) => {{
            let array = array.as_primitive::<$type>();
            let value = array.$method(at).map(|value| value.to_string());
            // Beyond the calendar there is only the number.
            value.unwrap_or_else(|| format!("{:?}", array.value(at)))
        }};
        ($type:ty) => {
            format!("{:?}", array.as_primitive::<$type>().value(at))
        };
    }
    let mut text = match array.data_type() {
        DataType::Date32 => text!(Date32Type, value_as_date),
        DataType::Date64 => text!(Date64Type, value_as_date),
        DataType::Time32(TimeUnit::Second) => text!(Time32SecondType, value_as_time),
        DataType::Time32(_) => text!(Time32MillisecondType, value_as_time),
        DataType::Time64(TimeUnit::Microsecond) => text!(Time64MicrosecondType, value_as_time),
        DataType::Time64(_) => text!(Time64NanosecondType, value_as_time),
        DataType::Timestamp(TimeUnit::Second, _) => text!(TimestampSecondType, value_as_datetime),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            text!(TimestampMillisecondType, value_as_datetime)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            text!(TimestampMicrosecondType, value_as_datetime)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            text!(TimestampNanosecondType, value_as_datetime)
        }
        DataType::Duration(TimeUnit::Second) => text!(DurationSecondType, value_as_duration),
        DataType::Duration(TimeUnit::Millisecond) => {
            text!(DurationMillisecondType, value_as_duration)
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            text!(DurationMicrosecondType, value_as_duration)
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            text!(DurationNanosecondType, value_as_duration)
        }
        DataType::Interval(IntervalUnit::YearMonth) => text!(IntervalYearMonthType),
        DataType::Interval(IntervalUnit::DayTime) => text!(IntervalDayTimeType),
        DataType::Interval(IntervalUnit::MonthDayNano) => text!(IntervalMonthDayNanoType),
        other => other.to_string(),
    };
    if matches!(array.data_type(), DataType::Timestamp(_, _)) {
        text = text.replacen(' ', "T", 1);
    }
    if matches!(array.data_type(), DataType::Timestamp(_, Some(_))) {
        text.push('Z');
    }
    write_text(&text, out);
}
