//! Rows of a table that is stored by column.

use std::borrow::Cow;

use chrono::DateTime;

use crate::ingest::json::Scalar;

/// A table with named columns, such as a Parquet file.
pub trait Table {
    /// Returns the names of the columns. Those of nested fields have dots.
    fn columns(&self) -> &[String];

    /// Returns the number of rows.
    fn rows(&self) -> u64;

    /// Reads the columns with these indexes, after the first `skip` rows. An error is the last item.
    fn read(self: Box<Self>, columns: Vec<usize>, skip: u64) -> Batches;
}

/// The rows of a table, in order.
pub type Batches = Box<dyn Iterator<Item = Result<Batch, String>>>;

/// Some rows of a table.
#[derive(Debug, Default)]
pub struct Batch {
    /// The number of rows.
    pub rows: usize,
    /// All columns of the table. Those that were not asked for are [`Values::Other`].
    pub columns: Vec<Column>,
}

impl Batch {
    /// Returns a value.
    pub(super) fn get(&self, column: usize, row: usize) -> Scalar<'_> {
        self.columns
            .get(column)
            .map_or(Scalar::Missing, |column| column.get(row))
    }
}

/// The values of a column.
#[derive(Debug, Default)]
pub struct Column {
    /// The values of rows that have one.
    pub values: Values,
    /// For each row, the index of its value, or [`Column::NULL`]. `None` if every row has a value.
    pub indexes: Option<Vec<u32>>,
}

/// Values of one type.
#[derive(Debug, Default)]
pub enum Values {
    /// No values that can be read.
    #[default]
    Other,
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Numbers and their scale: how many of the digits are decimals.
    Decimal(Vec<i128>, u32),
    /// Floating-point numbers.
    Float(Vec<f64>),
    /// True or false.
    Bool(Vec<bool>),
    /// Moments, in Unix seconds.
    Moment(Vec<i64>),
    /// Texts.
    Text(Texts),
}

/// Texts, one after the other.
#[derive(Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// Adds a text.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }
}

impl Column {
    /// The index of rows without a value.
    pub const NULL: u32 = u32::MAX;

    fn get(&self, row: usize) -> Scalar<'_> {
        let index = match &self.indexes {
            None => row,
            Some(indexes) => match indexes.get(row) {
                Some(&index) if index != Column::NULL => index as usize,
                _ => return Scalar::Null,
            },
        };
        self.values.get(index).unwrap_or(Scalar::Null)
    }
}

impl Values {
    fn get(&self, index: usize) -> Option<Scalar<'_>> {
        Some(match self {
            Values::Other => Scalar::Other,
            Values::Whole(values) => Scalar::Whole(*values.get(index)?),
            Values::Decimal(values, scale) => decimal(*values.get(index)?, *scale),
            Values::Float(values) => match values.get(index)? {
                value if value.is_nan() => Scalar::Null,
                value => Scalar::Number(format!("{value:?}")),
            },
            Values::Bool(values) => Scalar::Bool(*values.get(index)?),
            Values::Moment(values) => Scalar::Moment(*values.get(index)?),
            Values::Text(texts) => Scalar::Text(Cow::Borrowed(texts.get(index)?)),
        })
    }
}

/// Writes a decimal number: 1200 with the scale 2 is `12.00`.
fn decimal(number: i128, scale: u32) -> Scalar<'static> {
    if scale == 0
        && let Ok(number) = i64::try_from(number)
    {
        return Scalar::Whole(number);
    }
    let digits = scale as usize;
    let mut text = format!("{:0>width$}", number.unsigned_abs(), width = digits + 1);
    if digits > 0 {
        text.insert(text.len() - digits, '.');
    }
    if number < 0 {
        text.insert(0, '-');
    }
    Scalar::Number(text)
}

/// Writes a moment: as a date if it is midnight.
pub(super) fn moment_text(seconds: i64) -> Option<String> {
    let moment = DateTime::from_timestamp(seconds, 0)?;
    let format = match seconds.rem_euclid(86_400) {
        0 => "%Y-%m-%d",
        _ => "%Y-%m-%dT%H:%M:%SZ",
    };
    Some(moment.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_with_their_scale() {
        assert_eq!(decimal(13085, 0), Scalar::Whole(13085));
        for (number, scale, text) in [
            (1200, 2, "12.00"),
            (-5, 2, "-0.05"),
            (0, 1, "0.0"),
            (i128::from(i64::MAX) + 1, 0, "9223372036854775808"),
        ] {
            assert_eq!(decimal(number, scale), Scalar::Number(text.to_owned()));
        }
    }

    #[test]
    fn rows_without_a_value_are_null() {
        let mut texts = Texts::default();
        texts.push(b"a");
        texts.push(b"");
        let column = Column {
            values: Values::Text(texts),
            indexes: Some(vec![Column::NULL, 1, 0]),
        };
        let text = |text: &'static [u8]| Scalar::Text(Cow::Borrowed(text));
        let rows: Vec<Scalar<'_>> = (0..4).map(|row| column.get(row)).collect();
        assert_eq!(rows, [Scalar::Null, text(b""), text(b"a"), Scalar::Null]);
    }
}
