use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::builder::{ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray,
    Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::error::Error;
use crate::filter_shard;
use crate::plan::Plan;
use crate::shard::{Flow, Progress, Shard, Split};
use crate::threads::lock;

const PLAN: &str = r#"{"rules": [
    {"name": "owl", "kind": "literal", "words": ["owl"], "field": "text"},
    {"name": "role", "kind": "literal", "words": ["cat"], "field": "chat[role=a].content"}
]}"#;

fn paths(directory: &Path) -> [PathBuf; 3] {
    ["in", "kept", "rejects"].map(|name| directory.join(format!("{name}.parquet")))
}

fn shard(paths: &[PathBuf; 3], threads: usize) -> Shard<'_> {
    let [input, kept, rejects] = paths;
    Shard {
        input,
        called: None,
        kept,
        rejects,
        work: None,
        journal_interval: Duration::ZERO,
        split: Split::default(),
        duplicates: &[],
        chunk_bytes: crate::CHUNK_BYTES,
        digests: true,
        threads,
    }
}

fn go_on(_: Progress) -> Flow {
    Flow::Continue
}

/// Rows `from..to` of every kind of column. Rows 3000 to 4999 break no rule.
fn rows(from: usize, to: usize) -> RecordBatch {
    let all = || from..to;
    let null = |n: usize| n % 7 == 3;
    let calm = |n: usize| (3000..5000).contains(&n);
    let text = |n: usize| match n % 5 {
        0 if !calm(n) => format!("an owl {n}"),
        _ => format!("text {n} é"),
    };
    let missing = |n: usize| n % 101 == 7 && !calm(n);
    let texts: StringViewArray = all().map(|n| (!missing(n)).then(|| text(n))).collect();
    let mut words = StringDictionaryBuilder::<Int8Type>::new();
    all().for_each(|n| words.append_option((!null(n)).then_some(["a", "b", "c"][n % 3])));
    let mut nested = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for n in all() {
        for inner in 0..n % 3 {
            for item in 0..inner {
                nested.values().values().append_option((item > 0).then_some("x"));
            }
            nested.values().append(n % 4 > 0);
        }
        nested.append(!null(n));
    }
    let chat_fields: Fields = vec![
        Field::new("role", DataType::Utf8, true),
        Field::new("content", DataType::LargeUtf8, true),
    ]
    .into();
    // A message of each role; the second one is not looked at.
    let count = (to - from) * 2;
    let roles: StringArray = (0..count).map(|n| Some(["a", "b"][n % 2])).collect();
    let contents: LargeStringArray = (0..count)
        .map(|n| match (n % 2, from + n / 2) {
            (0, row) if row % 97 == 5 && !calm(row) => Some("a cat"),
            (0, _) => Some("fine"),
            _ => Some("cat"),
        })
        .collect();
    let messages = StructArray::new(
        chat_fields.clone(),
        vec![Arc::new(roles) as ArrayRef, Arc::new(contents)],
        None,
    );
    let item = Arc::new(Field::new_list_field(DataType::Struct(chat_fields), true));
    let lengths = arrow_buffer::OffsetBuffer::from_lengths(all().map(|_| 2));
    let chat = arrow_array::ListArray::new(item, lengths, Arc::new(messages), None);
    let decimals =
        Decimal128Array::from_iter(all().map(|n| (!null(n)).then_some(n as i128 * 1_000_000_007)));
    let times = TimestampMicrosecondArray::from_iter(all().map(|n| Some(n as i64 * 1_000_003)));
    let fixed = all().map(|n| (n as u32).to_le_bytes());
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(all().map(|n| n as i64))), false),
        ("text", Arc::new(texts), true),
        (
            "flag",
            Arc::new(all().map(|n| (!null(n)).then_some(n % 2 == 0)).collect::<BooleanArray>()),
            true,
        ),
        ("score", Arc::new(Float64Array::from_iter(all().map(|n| Some(n as f64 / 3.0)))), true),
        ("price", Arc::new(decimals.with_precision_and_scale(30, 4).unwrap()), true),
        ("time", Arc::new(times.with_timezone("Europe/Berlin")), true),
        (
            "blob",
            Arc::new(BinaryArray::from_iter(all().map(|n| (!null(n)).then_some([0xFF, n as u8])))),
            true,
        ),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter(fixed).unwrap()), true),
        ("word", Arc::new(words.finish()), true),
        ("nested", Arc::new(nested.finish()), true),
        ("chat", Arc::new(chat), true),
    ];
    let fields = columns.iter().map(|(name, array, nullable)| {
        let field = Field::new(*name, array.data_type().clone(), *nullable);
        field.with_metadata(std::collections::HashMap::from([(
            "note".to_owned(),
            format!("about {name}"),
        )]))
    });
    let schema = Schema::new_with_metadata(
        fields.collect::<Vec<_>>(),
        std::collections::HashMap::from([("pandas".to_owned(), "{}".to_owned())]),
    );
    let arrays = columns.iter().map(|(_, array, _)| Arc::clone(array)).collect();
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

fn write(path: &Path, batches: &[RecordBatch]) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_compression(ColumnPath::from("id"), Compression::SNAPPY)
        .set_column_compression(ColumnPath::from("score"), Compression::UNCOMPRESSED)
        .set_column_compression(ColumnPath::from("price"), Compression::LZ4_RAW)
        .set_column_compression(ColumnPath::from("blob"), Compression::GZIP(Default::default()))
        .set_column_compression(ColumnPath::from("fixed"), Compression::BROTLI(Default::default()))
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "huggingface".to_owned(),
            "{}".to_owned(),
        )]))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

/// The whole file as one batch.
fn read(path: &Path) -> RecordBatch {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let reader = reader.with_batch_size(1 << 20).build().unwrap();
    let schema = arrow_array::RecordBatchReader::schema(&reader);
    let mut batches: Vec<_> = reader.map(Result::unwrap).collect();
    assert!(batches.len() < 2);
    batches.pop().unwrap_or_else(|| RecordBatch::new_empty(schema))
}

fn metadata(path: &Path) -> ParquetMetaData {
    ParquetMetaDataReader::new().parse_and_finish(&File::open(path).unwrap()).unwrap()
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

/// The rows of `batch` whose ids these are.
fn pick(batch: &RecordBatch, ids: &[i64]) -> Vec<RecordBatch> {
    ids.iter().map(|id| batch.slice(*id as usize, 1)).collect()
}

fn singles(batch: &RecordBatch) -> Vec<RecordBatch> {
    (0..batch.num_rows()).map(|row| batch.slice(row, 1)).collect()
}

const GROUPS: [(usize, usize); 4] = [(0, 3000), (3000, 5000), (5000, 5001), (5001, 8000)];

fn write_groups(path: &Path) {
    write(path, &GROUPS.map(|(from, to)| rows(from, to)));
}

#[test]
fn every_type_and_all_metadata_come_through() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write_groups(&paths[0]);
    let plan = Plan::from_json(PLAN).unwrap();
    let mut outputs = Vec::new();
    for threads in [1, 3] {
        let statistics = filter_shard(&plan, shard(&paths, threads), &go_on).unwrap();
        let bytes = [1, 2].map(|index| fs::read(&paths[index]).unwrap());
        outputs.push((statistics, bytes));
    }
    assert!(outputs[0] == outputs[1], "threads change something");
    let (input, kept, rejects) = (read(&paths[0]), read(&paths[1]), read(&paths[2]));
    assert_eq!(kept.schema(), input.schema());
    let expected: Vec<i64> = (0..8000)
        .filter(|n| (3000..5000).contains(n) || !(n % 5 == 0 || n % 101 == 7 || n % 97 == 5))
        .collect();
    assert_eq!(ids(&kept), expected);
    assert!(singles(&kept) == pick(&input, &expected));
    // The rejects hold all other rows, in order, with their numbers.
    let row = RecordBatch::from(rejects.column_by_name("row").unwrap().as_struct().clone());
    let gone: Vec<i64> = (0..8000).filter(|n| expected.binary_search(n).is_err()).collect();
    assert_eq!(ids(&row), gone);
    let plain = pick(&input, &gone).into_iter().map(|row| row.columns().to_vec());
    assert!(singles(&row).into_iter().map(|row| row.columns().to_vec()).eq(plain));
    let lines = rejects.column_by_name("line").unwrap().as_primitive::<Int64Type>();
    assert!(lines.values().iter().zip(&gone).all(|(line, id)| *line == id + 1));
    let reasons = rejects.column_by_name("reasons").unwrap().as_string::<i32>();
    assert_eq!(
        reasons.value(0),
        "[{\"rule\":\"owl\",\"kind\":\"literal\",\"field\":\"text\",\"reason\":\"contains `owl`\",\
         \"span\":[3,6],\"text\":\"owl\"}]"
    );
    let at = gone.iter().position(|id| *id == 7).unwrap();
    assert!(reasons.value(at).contains("\"reason\":\"missing field\""), "{}", reasons.value(at));
    let (before, after) = (metadata(&paths[0]), metadata(&paths[1]));
    let (before_file, after_file) = (before.file_metadata(), after.file_metadata());
    assert_eq!(before_file.key_value_metadata(), after_file.key_value_metadata());
    assert_eq!(before_file.schema(), after_file.schema());
    assert_eq!(before.num_row_groups(), 3 + 1);
    let counts: Vec<_> = after.row_groups().iter().map(|group| group.num_rows()).collect();
    // Row 5000 has an owl: its row group is gone.
    assert_eq!(counts.len(), 3);
    assert_eq!(counts[1], 2000);
    for column in 0..before.row_group(0).num_columns() {
        let codec = |metadata: &ParquetMetaData| metadata.row_group(0).column(column).compression();
        let (one, other) = (format!("{:?}", codec(&before)), format!("{:?}", codec(&after)));
        assert_eq!(one.split('(').next(), other.split('(').next());
        // Copied as it is.
        let size = |group: &RowGroupMetaData| {
            let column = group.column(column);
            (column.compressed_size(), column.uncompressed_size(), column.statistics().cloned())
        };
        assert_eq!(size(before.row_group(1)), size(after.row_group(1)));
    }
    let statistics = &outputs[0].0;
    assert_eq!((statistics.rows_in, statistics.kept), (8000, expected.len() as u64));
    assert_eq!(statistics.unreadable, gone.iter().filter(|id| *id % 101 == 7).count() as u64);
    assert_eq!(statistics.bytes_kept, {
        let groups = after.row_groups().iter();
        groups.map(|group| group.total_byte_size() as u64).sum::<u64>()
    });
}

#[test]
fn parts_hold_what_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write_groups(&paths[0]);
    let plan = Plan::from_json(PLAN).unwrap();
    let statistics = filter_shard(&plan, shard(&paths, 1), &go_on).unwrap();
    let whole = ids(&read(&paths[1]));
    for (limit, threads) in [(700, 1), (700, 3), (2500, 2), (1 << 40, 2)] {
        let mut shard = shard(&paths, threads);
        shard.split.rows = Some(limit);
        let split = filter_shard(&plan, shard, &go_on).unwrap();
        assert_eq!(split.kept, statistics.kept);
        let mut all = Vec::new();
        let parts = statistics.kept.div_ceil(limit);
        assert_eq!(split.parts.len() as u64, parts);
        for part in 0..parts {
            let path = directory.path().join(format!("kept-{part:05}.parquet"));
            let part_ids = ids(&read(&path));
            assert_eq!(part_ids.len() as u64, split.parts[part as usize]);
            assert_eq!(part_ids.len() as u64, limit.min(statistics.kept - part * limit));
            all.extend(part_ids);
            fs::remove_file(path).unwrap();
        }
        assert_eq!(all, whole);
        assert!(!directory.path().join(format!("kept-{parts:05}.parquet")).exists());
    }
}

#[test]
fn tags_are_a_column() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write_groups(&paths[0]);
    let plan = Plan::from_json(
        r#"{"rules": [
            {"name": "owl", "kind": "literal", "words": ["owl"], "field": "text", "action": "tag"},
            {"name": "ten", "kind": "regex", "patterns": ["0$"], "field": "text", "action": "tag"},
            {"name": "é", "kind": "regex", "patterns": ["[12] é"], "field": "text"}
        ]}"#,
    )
    .unwrap();
    let statistics = filter_shard(&plan, shard(&paths, 2), &go_on).unwrap();
    let kept = read(&paths[1]);
    let tags = kept.column_by_name("filter_tags").unwrap().as_list::<i32>();
    let mut tagged = 0;
    for (row, id) in ids(&kept).into_iter().enumerate() {
        let list = tags.value(row);
        let names: Vec<_> = list.as_string::<i32>().iter().map(Option::unwrap).collect();
        let is_owl = id % 5 == 0 && !(3000..5000).contains(&id);
        let expected: &[&str] = match (is_owl, id % 10) {
            (true, 0) => &["owl", "ten"],
            (true, _) => &["owl"],
            _ => &[],
        };
        assert_eq!(names, expected, "{id}");
        tagged += u64::from(!expected.is_empty());
    }
    assert_eq!(statistics.tagged, tagged);
    assert_eq!(kept.schema().fields().len(), read(&paths[0]).schema().fields().len() + 1);
    // What has the column already cannot be tagged again.
    fs::rename(&paths[1], &paths[0]).unwrap();
    let error = filter_shard(&plan, shard(&paths, 1), &go_on).unwrap_err().to_string();
    assert!(error.contains("in.parquet: it has a column `filter_tags`"), "{error}");
}

#[test]
fn what_no_path_leads_to_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write_groups(&paths[0]);
    for (field, reason) in [
        ("nothing", "missing field"),
        ("text.text", "missing field"),
        ("chat.role", "missing field"),
        ("chat[role=x].content", "missing field"),
        ("score", "field is not a string"),
        ("chat[]", "field is not a string"),
        ("blob", "field is not a string"),
    ] {
        let plan = format!(
            "{{\"rules\":[{{\"name\":\"r\",\"kind\":\"literal\",\"words\":[\"x\"],\"field\":\"{field}\"}}]}}"
        );
        let plan = Plan::from_json(&plan).unwrap();
        let statistics = filter_shard(&plan, shard(&paths, 2), &go_on).unwrap();
        assert_eq!((statistics.rows_in, statistics.kept), (8000, 0), "{field}");
        let reason = format!("{reason}: {field}");
        assert!(statistics.unreadable_reasons.contains_key(&reason), "{statistics:?}");
        assert_eq!(read(&paths[1]).num_rows(), 0);
        assert_eq!(read(&paths[2]).num_rows(), 8000);
    }
}

#[test]
fn broken_files_are_errors_that_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write(&paths[0], &[rows(0, 300)]);
    let whole = fs::read(&paths[0]).unwrap();
    let plan = Plan::from_json(PLAN).unwrap();
    let nothing_left = || assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let run = || filter_shard(&plan, shard(&paths, 2), &go_on);
    for length in [0, 1, 4, 11, 12, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        fs::write(&paths[0], &whole[..length]).unwrap();
        let error = run().unwrap_err();
        assert!(matches!(&error, Error::Read { .. }), "{length}: {error}");
        assert!(error.to_string().contains("in.parquet"), "{error}");
        nothing_left();
    }
    // Bytes that are wrong somewhere: an error or other rows, but nothing worse.
    let mut errors = 0;
    for at in (4..whole.len()).step_by(whole.len() / 199) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5A;
        fs::write(&paths[0], &bytes).unwrap();
        match run() {
            Ok(statistics) => {
                assert_eq!(statistics.rows_in, statistics.kept + statistics.rejected);
                paths[1..].iter().for_each(|path| fs::remove_file(path).unwrap());
            }
            Err(error) => {
                errors += 1;
                assert!(matches!(&error, Error::Read { .. }), "{at}: {error}");
            }
        }
        nothing_left();
    }
    assert!(errors > 10, "{errors}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write(&paths[0], &[rows(0, 10)]);
    let plan = Plan::from_json(PLAN).unwrap();
    let lines = directory.path().join("rows.jsonl");
    fs::write(&lines, "").unwrap();
    let mut bytes = shard(&paths, 1);
    bytes.split.bytes = Some(1);
    for shard in [
        Shard { kept: &lines.with_extension("x"), ..shard(&paths, 1) },
        Shard { input: &lines, ..shard(&paths, 1) },
        bytes,
    ] {
        let error = filter_shard(&plan, shard, &go_on).unwrap_err();
        assert!(matches!(error, Error::Unfit { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn the_callback_stops_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    write_groups(&paths[0]);
    let plan = Plan::from_json(PLAN).unwrap();
    for limit in [0, 3, 10] {
        let calls = AtomicU64::new(0);
        let stop = |_: Progress| {
            let is_over = calls.fetch_add(1, Ordering::Relaxed) >= limit;
            if is_over { Flow::Stop } else { Flow::Continue }
        };
        let error = filter_shard(&plan, shard(&paths, 2), &stop).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    let last = Mutex::new(None);
    let note = |progress| {
        *lock(&last) = Some(progress);
        Flow::Continue
    };
    filter_shard(&plan, shard(&paths, 1), &note).unwrap();
    let compressed = metadata(&paths[0]);
    let compressed: i64 = compressed.row_groups().iter().map(|group| group.compressed_size()).sum();
    let progress = lock(&last).unwrap();
    assert_eq!((progress.bytes_read, progress.rows), (compressed as u64, 8000));
}

/// A map is an object that no path leads into; a struct or a list may begin with one.
#[test]
fn a_path_that_ends_in_a_map_finds_no_text() {
    let map = || {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in 0..3 {
            map.keys().append_value("k");
            map.values().append_value(format!("owl {row}"));
            map.append(true).unwrap();
        }
        map.finish()
    };
    let mut list = ListBuilder::new(MapBuilder::new(None, StringBuilder::new(), map_of_maps()));
    for _ in 0..3 {
        list.values().keys().append_value("k");
        list.values().values().keys().append_value("inner");
        list.values().values().values().append_value("owl");
        list.values().values().append(true).unwrap();
        list.values().append(true).unwrap();
        list.append(true);
    }
    let field = |array: &dyn Array| Arc::new(Field::new("m", array.data_type().clone(), true));
    let inner: ArrayRef = Arc::new(map());
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["cat"; 3]));
    let object = StructArray::from(vec![
        (field(&inner), Arc::clone(&inner)),
        (Arc::new(Field::new("text", DataType::Utf8, true)), Arc::clone(&texts)),
    ]);
    let batch = RecordBatch::try_from_iter([
        ("map", inner),
        ("s", Arc::new(object) as ArrayRef),
        ("l", Arc::new(list.finish()) as ArrayRef),
        ("text", texts),
    ])
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    let mut writer =
        ArrowWriter::try_new(fs::File::create(&paths[0]).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let unreadable = |fields: &[&str]| {
        let rules: Vec<_> = fields
            .iter()
            .map(|field| {
                serde_json::json!({
                    "name": field, "kind": "literal", "words": ["owl"], "field": field,
                })
            })
            .collect();
        let plan = Plan::from_json(&serde_json::json!({ "rules": rules }).to_string()).unwrap();
        crate::check_shard(&plan, &paths[0], Split::default()).unwrap();
        let statistics = crate::filter_shard(&plan, shard(&paths, 1), &go_on).unwrap();
        assert!(statistics.kept == 3 || statistics.unreadable == 3, "{statistics:?}");
        statistics.unreadable_reasons.into_keys().collect::<Vec<_>>()
    };
    for field in ["map", "s", "s.m", "l[]"] {
        assert_eq!(unreadable(&[field]), [format!("field is not a string: {field}")]);
        // Together with a path that needs another leaf.
        assert_eq!(unreadable(&["s.text", field]).len(), 1, "{field}");
    }
    for field in ["map.k", "map.key", "s.m.k", "l[].k"] {
        assert_eq!(unreadable(&[field]), [format!("missing field: {field}")]);
    }
    assert_eq!(unreadable(&["s.text", "text"]), [""; 0]);
}

fn map_of_maps() -> MapBuilder<StringBuilder, StringBuilder> {
    MapBuilder::new(None, StringBuilder::new(), StringBuilder::new())
}
