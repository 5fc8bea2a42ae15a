//! Imports of Parquet files: types of columns, codecs, damage, and going on after an interruption.

use std::sync::Arc;

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::support::program::Shop;

/// The values of a column.
#[derive(Clone)]
enum Cells {
    Bool(Vec<Option<bool>>),
    Int(Vec<Option<i32>>),
    Long(Vec<Option<i64>>),
    Old(Vec<Option<Int96>>),
    Double(Vec<Option<f64>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

fn texts(texts: &[&str]) -> Cells {
    let bytes = |text: &&str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    Cells::Bytes(texts.iter().map(bytes).collect())
}

fn longs(numbers: &[i64]) -> Cells {
    Cells::Long(numbers.iter().copied().map(Some).collect())
}

/// Writes the cells of a column whose parents always exist.
fn put<T: DataType>(writer: &mut ColumnWriterImpl<T>, cells: Vec<Option<T::T>>) {
    let most = writer.get_descriptor().max_def_level();
    let levels: Vec<i16> = cells
        .iter()
        .map(|cell| most - i16::from(cell.is_none()))
        .collect();
    let values: Vec<T::T> = cells.into_iter().flatten().collect();
    writer.write_batch(&values, Some(&levels), None).unwrap();
}

/// Returns a Parquet file with the same rows in each row group.
fn file(fields: &str, columns: &[Cells], groups: usize, compression: Compression) -> Vec<u8> {
    let schema = parse_message_type(&format!("message m {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        for cells in columns {
            let mut column = group.next_column().unwrap().unwrap();
            match (column.untyped(), cells.clone()) {
                (ColumnWriter::BoolColumnWriter(writer), Cells::Bool(cells)) => put(writer, cells),
                (ColumnWriter::Int32ColumnWriter(writer), Cells::Int(cells)) => put(writer, cells),
                (ColumnWriter::Int64ColumnWriter(writer), Cells::Long(cells)) => put(writer, cells),
                (ColumnWriter::Int96ColumnWriter(writer), Cells::Old(cells)) => put(writer, cells),
                (ColumnWriter::DoubleColumnWriter(writer), Cells::Double(cells)) => {
                    put(writer, cells);
                }
                (ColumnWriter::ByteArrayColumnWriter(writer), Cells::Bytes(cells)) => {
                    let array = |cell: Option<Vec<u8>>| cell.map(ByteArray::from);
                    put(writer, cells.into_iter().map(array).collect());
                }
                (ColumnWriter::FixedLenByteArrayColumnWriter(writer), Cells::Bytes(cells)) => {
                    let array = |cell: Option<Vec<u8>>| {
                        cell.map(|v| FixedLenByteArray::from(ByteArray::from(v)))
                    };
                    put(writer, cells.into_iter().map(array).collect());
                }
                _ => panic!("the schema and the cells differ: {fields}"),
            }
            column.close().unwrap();
        }
        assert!(group.next_column().unwrap().is_none(), "{fields}");
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// A file of two users and two events.
fn small(compression: Compression) -> Vec<u8> {
    file(
        "required int64 User_ID; optional binary event (UTF8); optional int64 ts (TIMESTAMP(MICROS,true)); optional binary plan (UTF8);",
        &[
            longs(&[7, 8, 7]),
            texts(&["signup", "signup", "active"]),
            longs(&[
                1_609_720_200_000_000,
                1_609_720_200_999_999,
                1_609_806_600_000_000,
            ]),
            texts(&["pro", "", "free"]),
        ],
        1,
        compression,
    )
}

#[test]
fn columns_are_found_as_in_csv_files_in_every_codec() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
    ];
    for codec in codecs {
        let shop = Shop::new();
        // The bytes tell the format, and not the name.
        shop.write("events", small(codec));
        let ran = shop.run(&["import", "events", "--property", "plan"]);
        assert_eq!(ran.code, 0, "{codec:?}: {}", ran.err);
        assert_eq!(
            ran.out,
            "imported 3 marks of 2 events by 2 users from 1 file, 2 values of 1 property\n3 lines, from 2021-01-04 to 2021-01-05\n"
        );
        assert_eq!(
            shop.run(&["people", "signup@2021-01-04"]).done(),
            "7\n8\n",
            "{codec:?}"
        );
        assert_eq!(
            shop.run(&["count", "plan:pro@ever", "plan:free@ever"])
                .done(),
            "1\tplan:pro@ever\n1\tplan:free@ever\n"
        );
    }
    let shop = Shop::new();
    shop.write("a.parquet", small(Compression::SNAPPY));
    let ran = shop.run(&["import", "--dry-run", "a.parquet"]);
    assert!(ran.out.starts_with("would import 3 marks"), "{}", ran.err);
    assert!(!shop.path("cohortist.db").exists());
    let error = shop
        .run(&[
            "import",
            "a.parquet",
            "--user-column",
            "who",
            "--property",
            "tier",
        ])
        .error(1);
    assert!(
        error.contains("`who`") && error.contains("`tier`") && error.contains("`User_ID`"),
        "{error}"
    );
}

#[test]
fn times_have_any_type_of_parquet() {
    let old = |day: u32, seconds: u64| {
        let nanoseconds = seconds * 1_000_000_000;
        let mut value = Int96::new();
        value.set_data(nanoseconds as u32, (nanoseconds >> 32) as u32, day);
        Some(value)
    };
    // 2021-01-04 00:30:00, and the day for dates.
    let at = 1_609_720_200;
    let times: [(&str, Cells); 12] = [
        ("int96 ts", Cells::Old(vec![old(2_459_219, 1800)])),
        ("int32 ts (DATE)", Cells::Int(vec![Some(18_631)])),
        ("int64 ts (TIMESTAMP(MILLIS,true))", longs(&[at * 1_000])),
        (
            "int64 ts (TIMESTAMP(MICROS,false))",
            longs(&[at * 1_000_000]),
        ),
        (
            "int64 ts (TIMESTAMP(NANOS,true))",
            longs(&[at * 1_000_000_000]),
        ),
        ("int64 ts (TIMESTAMP_MILLIS)", longs(&[at * 1_000 + 999])),
        ("int64 ts (TIMESTAMP_MICROS)", longs(&[at * 1_000_000])),
        ("int64 ts", longs(&[at])),
        ("int32 ts", Cells::Int(vec![Some(at as i32)])),
        ("double ts", Cells::Double(vec![Some(1_609_720_200.75)])),
        ("binary ts (UTF8)", texts(&["2021-01-04 00:30:00"])),
        ("binary ts", texts(&["2021-01-04T01:30:00+01:00"])),
    ];
    for (field, cells) in times {
        let shop = Shop::new();
        let bytes = file(
            &format!("required int64 user; required binary event (UTF8); optional {field};"),
            &[longs(&[7]), texts(&["a"]), cells],
            1,
            Compression::SNAPPY,
        );
        shop.write("a.parquet", bytes);
        let ran = shop.run(&["import", "--hourly", "a.parquet"]);
        assert_eq!(ran.code, 0, "{field}: {}", ran.err);
        assert_eq!(
            shop.run(&["count", "a@2021-01-04T00"]).done(),
            "1\n",
            "{field}"
        );
    }
    // An implausible year is skipped, and named with its row.
    let shop = Shop::new();
    let bytes = file(
        "required int64 user; required binary event (UTF8); optional int64 ts (TIMESTAMP(MILLIS,true));",
        &[
            longs(&[7, 8, 9]),
            texts(&["a", "a", "a"]),
            Cells::Long(vec![Some(0), None, Some(at * 1_000)]),
        ],
        1,
        Compression::SNAPPY,
    );
    shop.write("a.parquet", bytes);
    let ran = shop.run(&["import", "a.parquet"]);
    assert_eq!(ran.code, 3);
    assert!(
        ran.out
            .contains("1 with an implausible year, such as a.parquet, row 1: `1970-01-01")
            && ran
                .out
                .contains("1 without a time, such as a.parquet, row 2"),
        "{}",
        ran.out
    );
    assert_eq!(shop.run(&["people", "a@2021-01-04"]).done(), "9\n");
}

#[test]
fn users_and_properties_have_any_type_of_parquet() {
    let uuid: Vec<u8> = (0..16).collect();
    let decimal = |number: i128| Some(number.to_be_bytes()[7..].to_vec());
    let users: [(&str, Cells, &str); 8] = [
        ("int64 user", longs(&[7]), "7"),
        (
            "int32 user (UINT_32)",
            Cells::Int(vec![Some(-1)]),
            "4294967295",
        ),
        ("int64 user (UINT_64)", longs(&[7]), "7"),
        ("double user", Cells::Double(vec![Some(13085.0)]), "13085"),
        ("int64 user (DECIMAL(18,0))", longs(&[7]), "7"),
        (
            "fixed_len_byte_array(9) user (DECIMAL(20,0))",
            Cells::Bytes(vec![decimal(13085)]),
            "13085",
        ),
        (
            "fixed_len_byte_array(9) user (DECIMAL(20,2))",
            Cells::Bytes(vec![decimal(1_308_500)]),
            "13085",
        ),
        ("binary user (UTF8)", texts(&[" 007"]), "7"),
    ];
    for (field, cells, user) in users {
        let shop = Shop::new();
        let bytes = file(
            &format!("optional {field}; required int32 date (DATE);"),
            &[cells, Cells::Int(vec![Some(18_631)])],
            1,
            Compression::SNAPPY,
        );
        shop.write("a.parquet", bytes);
        let ran = shop.run(&["import", "a.parquet", "--event", "a"]);
        assert_eq!(ran.code, 0, "{field}: {}", ran.err);
        assert_eq!(
            shop.run(&["people", "a@2021-01-04"]).done(),
            format!("{user}\n"),
            "{field}"
        );
    }
    let shop = Shop::new();
    let bytes = file(
        "optional fixed_len_byte_array(16) user (UUID); required int32 date (DATE); optional boolean paid; required group traits { optional int32 born (DATE); optional int64 age; } optional binary context (JSON);",
        &[
            Cells::Bytes(vec![Some(uuid), None]),
            Cells::Int(vec![Some(18_631); 2]),
            Cells::Bool(vec![Some(true), None]),
            Cells::Int(vec![Some(0), None]),
            Cells::Long(vec![Some(41), None]),
            texts(&[r#"{"page":{"lang":"de"}}"#, ""]),
        ],
        1,
        Compression::SNAPPY,
    );
    shop.write("a.parquet", bytes);
    let ran = shop.run(&[
        "--ids",
        "map",
        "import",
        "a.parquet",
        "--event",
        "a",
        "--property",
        "paid,traits.*,context.page.lang",
    ]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.out.contains("1 without a user"), "{}", ran.out);
    assert_eq!(
        shop.run(&["people", "a@2021-01-04"]).done(),
        "00010203-0405-0607-0809-0a0b0c0d0e0f\n"
    );
    assert_eq!(
        shop.run(&["events"]).done(),
        "a\ncontext.page.lang:de\npaid:true\ntraits.age:41\ntraits.born:1970-01-01\n"
    );
}

/// A file of five row groups with as many rows each, and how many users each event has.
fn large() -> (Vec<u8>, u64) {
    const ROWS: i64 = 40_000;
    let users: Vec<i64> = (0..ROWS).map(|n| n * 7919 % 100_003).collect();
    let names: Vec<String> = (0..ROWS).map(|n| format!("event{}", n % 7)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let days = (0..ROWS).map(|n| Some(18_631 + (n % 28) as i32)).collect();
    let bytes = file(
        "required int64 user; required binary event (UTF8); required int32 date (DATE);",
        &[longs(&users), texts(&names), Cells::Int(days)],
        5,
        Compression::ZSTD(ZstdLevel::default()),
    );
    (bytes, ROWS as u64 * 5)
}

#[test]
fn an_import_that_was_killed_goes_on_at_its_row() {
    let (bytes, rows) = large();
    let whole = Shop::new();
    whole.write("a.parquet", &bytes);
    whole.run(&["import", "a.parquet"]).done();
    let sets: Vec<String> = (0..7)
        .map(|event| format!("event{event}@2021-01"))
        .collect();
    let counts = |shop: &Shop| {
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        shop.run(&[&["count"], &sets[..]].concat()).done()
    };
    let shop = Shop::new();
    shop.write("a.parquet", &bytes);
    let args = ["import", "--resume", "a.parquet"];
    let reached = crate::import::kill_at_checkpoint(&shop, &args, None, "a.parquet", 1);
    let before = reached["records"].as_u64().unwrap();
    assert!(before > 0 && before < rows, "{reached}");
    assert_eq!(reached["line"], before);
    let said = shop.run(&args).done();
    assert!(
        said.starts_with(&format!(
            "imported {} marks of 7 events",
            thousands(rows - before)
        )),
        "{said}"
    );
    assert_eq!(counts(&shop), counts(&whole));
}

fn thousands(number: u64) -> String {
    cohortist::render::thousands(number)
}

#[test]
fn damage_names_the_file_and_the_row_group_and_never_panics() {
    let (bytes, _) = large();
    let mut seen = [0; 3];
    // Flipped bits in the data, and files that are cut off.
    for at in (4..bytes.len() - 8).step_by(bytes.len() / 60) {
        let shop = Shop::new();
        let mut damaged = bytes.clone();
        for byte in &mut damaged[at..at + 4] {
            *byte ^= 0xA5;
        }
        shop.write("a.parquet", damaged);
        let ran = shop.run(&["import", "a.parquet"]);
        if ran.code == 0 {
            // Statistics, and other parts that are not read.
            seen[0] += 1;
            continue;
        }
        assert!(matches!(ran.code, 1 | 3), "{at}: {}", ran.err);
        assert!(
            ran.err.contains("a.parquet") && !ran.err.contains("panicked"),
            "{at}: {}",
            ran.err
        );
        if ran.err.contains("row group ") && ran.err.contains(" of 5") {
            seen[1] += 1;
        } else {
            seen[2] += 1;
        }
    }
    assert!(seen[1] >= 10, "{seen:?}");
    let shop = Shop::new();
    shop.write("cut.parquet", &bytes[..bytes.len() / 2]);
    shop.write("named.parquet", "user,event,timestamp\n1,a,2021-01-04\n");
    for (name, said) in [
        ("cut.parquet", "cannot read cut.parquet"),
        ("named.parquet", "not a Parquet file"),
    ] {
        let error = shop.run(&["import", name]).error(1);
        assert!(error.contains(said), "{error}");
    }
    let error = shop.pipe(&["import", "-"], &bytes).error(1);
    assert!(error.contains("Parquet"), "{error}");
}
