//! Parquet files.
//!
//! The crate `parquet` panics on some kinds of damage. It runs in a thread of its own, where a panic
//! becomes an error.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::ingest::batch::{Batch, Batches, Column, Table, Texts, Values};
use crate::panics::caught;

/// The number of rows that are decoded at a time.
const ROWS: usize = 1 << 14;

/// The number of batches that are decoded ahead.
const AHEAD: usize = 4;

const DAY: i64 = 86_400;

/// A Parquet file.
pub struct Parquet {
    reader: SerializedFileReader<File>,
    names: Vec<String>,
    leaves: Vec<Leaf>,
    rows: u64,
}

/// A column that has at most one value per row.
struct Leaf {
    /// Its index among all columns of the file.
    index: usize,
    /// The definition level of a value.
    level: i16,
    kind: Kind,
}

/// What the values of a column stand for, beyond their physical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Unsigned,
    /// Days since 1970.
    Days,
    /// So many a second, since 1970.
    Moment(i64),
    Decimal(u32),
    Uuid,
    Unreadable,
}

/// For each row the index of its value, as in [`Column`].
type Indexes = Option<Vec<u32>>;

type Result<T> = std::result::Result<T, ParquetError>;

impl Parquet {
    /// Reads the columns of a file.
    ///
    /// # Errors
    /// Returns why the file cannot be read.
    pub fn open(file: File) -> std::result::Result<Self, String> {
        let opened = caught(|| SerializedFileReader::new(file));
        let reader = opened
            .map_err(|panic| format!("the end of the file is damaged ({panic})"))?
            .map_err(|error| format!("the end of the file: {}", message(&error)))?;
        let metadata = reader.metadata();
        let mut rows = 0;
        for group in metadata.row_groups() {
            rows += u64::try_from(group.num_rows())
                .map_err(|_| "the file is damaged: a row group has a negative number of rows")?;
        }
        let columns = metadata.file_metadata().schema_descr().columns();
        let single = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.max_rep_level() == 0);
        let mut names = Vec::new();
        let mut leaves = Vec::new();
        for (index, column) in single {
            names.push(column.path().parts().join("."));
            leaves.push(Leaf {
                index,
                level: column.max_def_level(),
                kind: Kind::of(column),
            });
        }
        Ok(Parquet {
            reader,
            names,
            leaves,
            rows,
        })
    }

    /// Sends the values of columns until nobody receives them. `group` is the row group that is
    /// being read.
    fn send(
        &self,
        columns: &[usize],
        mut skip: u64,
        group: &AtomicUsize,
        batches: &SyncSender<std::result::Result<Batch, String>>,
    ) -> Result<()> {
        for (number, metadata) in self.reader.metadata().row_groups().iter().enumerate() {
            group.store(number, Ordering::Relaxed);
            let rows = count(metadata.num_rows())?;
            let skipped = usize::try_from(skip).map_or(rows, |skip| skip.min(rows));
            skip -= skipped as u64;
            let mut left = rows - skipped;
            if left == 0 {
                continue;
            }
            let reader = self.reader.get_row_group(number)?;
            let mut readers = Vec::new();
            for column in columns {
                let leaf = &self.leaves[*column];
                let mut reader = reader.get_column_reader(leaf.index)?;
                if skip_rows(&mut reader, skipped)? != skipped {
                    return Err(missing_values());
                }
                readers.push((*column, leaf, reader));
            }
            while left > 0 {
                let mut batch = Batch {
                    rows: left.min(ROWS),
                    columns: Vec::new(),
                };
                batch.columns.resize_with(self.names.len(), Column::default);
                for (column, leaf, reader) in &mut readers {
                    batch.columns[*column] = leaf.read(reader, batch.rows)?;
                }
                left -= batch.rows;
                if batches.send(Ok(batch)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Table for Parquet {
    fn columns(&self) -> &[String] {
        &self.names
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn read(self: Box<Self>, columns: Vec<usize>, skip: u64) -> Batches {
        let (sender, batches) = sync_channel(AHEAD);
        let spawned = thread::Builder::new()
            .name("cohortist-parquet".to_owned())
            .spawn(move || {
                let group = AtomicUsize::new(0);
                let outcome = caught(|| self.send(&columns, skip, &group, &sender));
                let reason = match outcome {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => format!(": {}", message(&error)),
                    Err(panic) => format!(" is damaged ({panic})"),
                };
                let number = group.load(Ordering::Relaxed) + 1;
                let groups = self.reader.num_row_groups();
                // Nobody may be interested any more.
                let _ = sender.send(Err(format!("row group {number} of {groups}{reason}")));
            });
        match spawned {
            Ok(_) => Box::new(batches.into_iter()),
            Err(error) => Box::new(std::iter::once(Err(error.to_string()))),
        }
    }
}

fn message(error: &ParquetError) -> String {
    let text = error.to_string();
    text.strip_prefix("Parquet error: ")
        .unwrap_or(&text)
        .to_owned()
}

fn missing_values() -> ParquetError {
    ParquetError::General("a column has fewer values than the row group has rows".to_owned())
}

fn count(rows: i64) -> Result<usize> {
    usize::try_from(rows).map_err(|_| missing_values())
}

fn skip_rows(reader: &mut ColumnReader, rows: usize) -> Result<usize> {
    match reader {
        ColumnReader::BoolColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int32ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int64ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int96ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FloatColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::DoubleColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::ByteArrayColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => reader.skip_records(rows),
    }
}

impl Kind {
    fn of(column: &ColumnDescriptor) -> Self {
        let scale = || u32::try_from(column.type_scale()).map_or(Kind::Unreadable, Kind::Decimal);
        match column.logical_type_ref() {
            Some(LogicalType::Timestamp(timestamp)) => Kind::Moment(match timestamp.unit {
                TimeUnit::MILLIS => 1_000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            }),
            Some(LogicalType::Date) => Kind::Days,
            Some(LogicalType::Integer(integer)) if !integer.is_signed => Kind::Unsigned,
            Some(LogicalType::Decimal(_)) => scale(),
            Some(LogicalType::Uuid) => Kind::Uuid,
            Some(
                LogicalType::String
                | LogicalType::Enum
                | LogicalType::Json
                | LogicalType::Integer(_),
            ) => Kind::Plain,
            Some(_) => Kind::Unreadable,
            None => match column.converted_type() {
                ConvertedType::TIMESTAMP_MILLIS => Kind::Moment(1_000),
                ConvertedType::TIMESTAMP_MICROS => Kind::Moment(1_000_000),
                ConvertedType::DATE => Kind::Days,
                ConvertedType::DECIMAL => scale(),
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64 => Kind::Unsigned,
                ConvertedType::TIME_MILLIS
                | ConvertedType::TIME_MICROS
                | ConvertedType::INTERVAL
                | ConvertedType::BSON => Kind::Unreadable,
                _ => Kind::Plain,
            },
        }
    }

    fn of_i32(self, values: Vec<i32>) -> Values {
        let wide = values.into_iter();
        match self {
            Kind::Plain | Kind::Decimal(0) => Values::Whole(wide.map(i64::from).collect()),
            Kind::Unsigned => {
                Values::Whole(wide.map(|value| value.cast_unsigned().into()).collect())
            }
            Kind::Days => Values::Moment(wide.map(|days| i64::from(days) * DAY).collect()),
            Kind::Moment(unit) => Values::Moment(
                wide.map(|value| i64::from(value).div_euclid(unit))
                    .collect(),
            ),
            Kind::Decimal(scale) => Values::Decimal(wide.map(i128::from).collect(), scale),
            Kind::Uuid | Kind::Unreadable => Values::Other,
        }
    }

    fn of_i64(self, values: Vec<i64>) -> Values {
        match self {
            Kind::Plain | Kind::Decimal(0) => Values::Whole(values),
            Kind::Unsigned => {
                let wide = values.into_iter().map(|value| value.cast_unsigned().into());
                Values::Decimal(wide.collect(), 0)
            }
            Kind::Moment(unit) => {
                let seconds = values.into_iter().map(|value| value.div_euclid(unit));
                Values::Moment(seconds.collect())
            }
            Kind::Decimal(scale) => {
                Values::Decimal(values.into_iter().map(i128::from).collect(), scale)
            }
            Kind::Days | Kind::Uuid | Kind::Unreadable => Values::Other,
        }
    }

    fn of_bytes<'v>(self, values: impl Iterator<Item = &'v [u8]>) -> Values {
        match self {
            Kind::Plain => {
                let mut texts = Texts::default();
                values.for_each(|value| texts.push(value));
                Values::Text(texts)
            }
            Kind::Uuid => {
                let mut texts = Texts::default();
                values.for_each(|value| texts.push(uuid(value).as_bytes()));
                Values::Text(texts)
            }
            Kind::Decimal(scale) => Values::Decimal(values.map(big_endian).collect(), scale),
            Kind::Unsigned | Kind::Days | Kind::Moment(_) | Kind::Unreadable => Values::Other,
        }
    }
}

/// Reads a signed number. One that is too large becomes the largest.
fn big_endian(bytes: &[u8]) -> i128 {
    let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let fill = if is_negative { 0xFF } else { 0 };
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut all = [fill; 16];
    all[16 - low.len()..].copy_from_slice(low);
    let number = i128::from_be_bytes(all);
    if high.iter().all(|byte| *byte == fill) && (number < 0) == is_negative {
        number
    } else {
        i128::MAX
    }
}

/// Writes a UUID: `0f8fad5b-d9cb-469f-a165-70867728950e`.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

impl Leaf {
    /// Reads the values of the next rows.
    fn read(&self, reader: &mut ColumnReader, rows: usize) -> Result<Column> {
        let kind = self.kind;
        let plain = |values: Values| match kind {
            Kind::Plain => values,
            _ => Values::Other,
        };
        Ok(match reader {
            ColumnReader::BoolColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = plain(Values::Bool(values));
                Column { values, indexes }
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = kind.of_i32(values);
                Column { values, indexes }
            }
            ColumnReader::Int64ColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = kind.of_i64(values);
                Column { values, indexes }
            }
            ColumnReader::Int96ColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = Values::Moment(values.iter().map(|at| at.to_seconds()).collect());
                Column { values, indexes }
            }
            ColumnReader::FloatColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let wide = values.into_iter().map(f64::from).collect();
                let values = plain(Values::Float(wide));
                Column { values, indexes }
            }
            ColumnReader::DoubleColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = plain(Values::Float(values));
                Column { values, indexes }
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = kind.of_bytes(values.iter().map(|value| value.data()));
                Column { values, indexes }
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                let (values, indexes) = self.values(reader, rows)?;
                let values = kind.of_bytes(values.iter().map(|value| value.data()));
                Column { values, indexes }
            }
        })
    }

    /// Returns the values of the next rows, and for each row the index of its value.
    fn values<T: DataType>(
        &self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
    ) -> Result<(Vec<T::T>, Indexes)> {
        let mut values = Vec::with_capacity(rows);
        let mut levels = Vec::with_capacity(rows);
        let (read, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
        if read != rows {
            return Err(missing_values());
        }
        if values.len() == rows {
            return Ok((values, None));
        }
        let mut next = 0;
        let indexes = levels.iter().map(|level| {
            if *level < self.level {
                return Column::NULL;
            }
            next += 1;
            next - 1
        });
        let indexes = indexes.collect();
        Ok((values, Some(indexes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids_of_bytes_are_read() {
        for (bytes, number) in [
            (&[][..], 0),
            (&[5], 5),
            (&[0xFF], -1),
            (&[0, 0xFF], 255),
            (&[0xFF; 20], -1),
        ] {
            assert_eq!(big_endian(bytes), number, "{bytes:?}");
        }
        assert_eq!(big_endian(&[1; 17]), i128::MAX);
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
