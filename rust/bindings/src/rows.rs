//! Rows that are objects of Python, as lines of JSON.
//!
//! A line says of each value what JSON has for it, and of the rest only that it is something else:
//! what JSON has no type for (bytes, times) is an object without keys. A number that is none is `NaN`,
//! which the engine knows in such lines, and one beyond all `f64` is `1e999`.

use std::num::FpCategory;

use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyMemoryView,
    PySequence, PyString, PyTuple,
};
use subl_engine::MAX_DEPTH;

/// Half of a surrogate pair, which a text of Python may hold.
const LONE_SURROGATE: &[u8] = b"\"\\ud800\"";

/// Appends a row and a line feed.
pub fn write_row(row: &Bound<'_, PyAny>, lines: &mut Vec<u8>) -> PyResult<()> {
    let start = lines.len();
    if !write(row, 0, lines)? {
        lines.truncate(start);
        lines.resize(start + MAX_DEPTH + 1, b'[');
    }
    lines.push(b'\n');
    Ok(())
}

/// Appends a value. False if it is nested too deeply, or within itself.
fn write(value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> PyResult<bool> {
    if depth > MAX_DEPTH {
        return Ok(false);
    }
    if let Ok(text) = value.cast::<PyString>() {
        write_text(text, out);
    } else if value.is_none() {
        out.extend_from_slice(b"null");
    } else if value.is_instance_of::<PyBool>() {
        out.extend_from_slice(b"true");
    } else if value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>() {
        write_number(value, out)?;
    } else if let Ok(object) = value.cast::<PyDict>() {
        return write_object(object.iter().map(Ok), depth, out);
    } else if let Ok(list) = value.cast::<PyList>() {
        return write_array(list.iter().map(Ok), depth, out);
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        return write_array(tuple.iter().map(Ok), depth, out);
    } else {
        return write_other(value, depth, out);
    }
    Ok(true)
}

/// As the nearest `f64`, as rules compare it.
fn write_number(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let number = match value.extract::<f64>() {
        Ok(number) => number,
        Err(_) if value.lt(0)? => f64::NEG_INFINITY,
        Err(_) => f64::INFINITY,
    };
    let text = match number.classify() {
        FpCategory::Nan => "NaN",
        FpCategory::Infinite if number < 0.0 => "-1e999",
        FpCategory::Infinite => "1e999",
        _ => &format!("{number:e}"),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_text(text: &Bound<'_, PyString>, out: &mut Vec<u8>) {
    match text.to_str() {
        Ok(text) => {
            serde_json::to_writer(out, text).expect("a vector takes all bytes");
        }
        Err(_) => out.extend_from_slice(LONE_SURROGATE),
    }
}

fn write_object<'py>(
    items: impl Iterator<Item = PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)>>,
    depth: usize,
    out: &mut Vec<u8>,
) -> PyResult<bool> {
    out.push(b'{');
    let start = out.len();
    for item in items {
        let (key, value) = item?;
        let Some(key) = key_of(&key) else { continue };
        if out.len() > start {
            out.push(b',');
        }
        write_text(&key, out);
        out.push(b':');
        if !write(&value, depth + 1, out)? {
            return Ok(false);
        }
    }
    out.push(b'}');
    Ok(true)
}

/// A key as Python's `json` writes it; of other types there are none in JSON.
fn key_of<'py>(key: &Bound<'py, PyAny>) -> Option<Bound<'py, PyString>> {
    let py = key.py();
    if let Ok(key) = key.cast::<PyString>() {
        return Some(key.clone());
    }
    if let Ok(key) = key.cast::<PyBool>() {
        return Some(PyString::new(py, if key.is_true() { "true" } else { "false" }));
    }
    if key.is_none() {
        return Some(PyString::new(py, "null"));
    }
    let is_number = key.is_instance_of::<PyInt>() || key.is_instance_of::<PyFloat>();
    is_number.then(|| key.str().ok()).flatten()
}

fn write_array<'py>(
    items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    depth: usize,
    out: &mut Vec<u8>,
) -> PyResult<bool> {
    out.push(b'[');
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        if !write(&item?, depth + 1, out)? {
            return Ok(false);
        }
    }
    out.push(b']');
    Ok(true)
}

/// What is like an object or an array, what numpy has for texts and numbers, or anything.
fn write_other(value: &Bound<'_, PyAny>, depth: usize, out: &mut Vec<u8>) -> PyResult<bool> {
    let is_binary = value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMemoryView>();
    if !is_binary {
        if let Ok(object) = value.cast::<PyMapping>() {
            let pairs = object.items()?;
            return write_object(pairs.iter().map(|pair| pair.extract()), depth, out);
        }
        if value.cast::<PySequence>().is_ok() {
            return write_array(value.try_iter()?, depth, out);
        }
        let kind =
            value.getattr_opt("dtype")?.map(|dtype| dtype.getattr_opt("kind")).transpose()?;
        let kind = kind.flatten().and_then(|kind| kind.extract::<String>().ok());
        // Of arrays of numbers, which may be long, rules look at none.
        let is_number = || -> PyResult<bool> {
            let count = value.getattr_opt("ndim")?.and_then(|count| count.extract::<usize>().ok());
            Ok(count == Some(0))
        };
        let may_matter = match kind.as_deref() {
            Some("O" | "T" | "U") => true,
            Some("f" | "i" | "u") => is_number()?,
            _ => false,
        };
        if may_matter {
            return write(&value.call_method0("tolist")?, depth, out);
        }
    }
    out.extend_from_slice(b"{}");
    Ok(true)
}
