//! Splits the data of a reader into lines and CSV records, without copying them if possible.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2};

use crate::ingest::position::Position;

/// The minimum size of a block in bytes.
const BLOCK: usize = 1 << 18;

/// The maximum length of a line or record, in bytes. An open quote, or a file that is not text,
/// must not fill the memory.
pub const LONGEST: usize = 16 << 20;

/// Reads lines and records from a reader, block by block.
pub struct Lines<R> {
    reader: R,
    /// The bytes that were read but not returned yet are `block[from..to]`.
    block: Vec<u8>,
    from: usize,
    to: usize,
    ended: bool,
    at: Position,
    /// Whether all bytes since the start are still in the block.
    has_start: bool,
}

/// A line or a record.
pub enum Found<T> {
    /// The complete line or record.
    Whole(T),
    /// A line longer than [`LONGEST`]. It was skipped.
    LongLine,
    /// A record with quotes that is longer than [`LONGEST`]. Only its first line was skipped.
    LongRecord,
}

/// The end of a line.
enum End {
    /// The line has this length, and ends with a line feed or not.
    At(usize, bool),
    /// The line contains a quote, so the record may continue on the next line.
    Quote,
    /// The line is too long.
    TooLong,
}

impl<R: Read> Lines<R> {
    /// Creates a value for the bytes in `start` followed by those of the reader. `at` is the
    /// position of the first byte.
    pub fn new(start: Vec<u8>, reader: R, at: Position) -> Self {
        let to = start.len();
        Lines {
            reader,
            block: start,
            from: 0,
            to,
            ended: false,
            at,
            has_start: true,
        }
    }

    /// Goes back to the position at which reading started. Returns whether that is possible: the
    /// bytes since then must be in memory.
    pub fn restart(&mut self, at: Position) -> bool {
        if self.has_start {
            self.from = 0;
            self.at = at;
        }
        self.has_start
    }

    /// Returns the position after the last line or record that was returned.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Returns the next line without its line feed, or `None` at the end.
    pub fn line(&mut self) -> io::Result<Option<Found<&[u8]>>> {
        Ok(match self.end(|bytes| memchr(b'\n', bytes))? {
            End::At(0, false) => None,
            End::At(len, feed) => Some(Found::Whole(self.take(len, feed))),
            End::Quote | End::TooLong => Some(Found::LongLine),
        })
    }

    /// Returns the next record that is not blank and the number of its first line, counted from 1.
    /// Returns `None` at the end.
    ///
    /// A record ends at the first line feed that is not in quotes, or with the file. A carriage
    /// return before it belongs to the last field. If a record has no quotes, only its first
    /// `max_fields` fields are returned.
    pub fn record<'a>(
        &'a mut self,
        delimiter: u8,
        max_fields: usize,
        fields: &'a mut Fields,
    ) -> io::Result<Option<(Found<Record<'a>>, u64)>> {
        loop {
            let first = self.at.line + 1;
            match self.end(|bytes| memchr2(b'\n', b'"', bytes))? {
                End::At(0, false) => return Ok(None),
                End::At(len, feed) if is_blank(&self.rest()[..len], delimiter) => {
                    self.take(len, feed);
                }
                End::At(len, feed) => {
                    let line = self.take(len, feed);
                    fields.split(line, delimiter, max_fields);
                    let record = Record {
                        data: line,
                        ends: &fields.ends,
                        has_delimiters: true,
                        is_multiline: false,
                    };
                    return Ok(Some((Found::Whole(record), first)));
                }
                End::Quote => {
                    if !self.unquote(delimiter, fields)? {
                        self.skip_line()?;
                        return Ok(Some((Found::LongRecord, first)));
                    }
                    self.skip(fields.at, fields.lines);
                    if !fields.text.iter().all(u8::is_ascii_whitespace) {
                        let is_multiline = fields.lines > 1 || fields.part == Part::Quoted;
                        let record = Record {
                            data: &fields.text,
                            ends: &fields.ends,
                            has_delimiters: false,
                            is_multiline,
                        };
                        return Ok(Some((Found::Whole(record), first)));
                    }
                }
                End::TooLong => return Ok(Some((Found::LongLine, first))),
            }
        }
    }

    /// Reads the fields of a record with quotes. Returns `false` if the record is too long.
    fn unquote(&mut self, delimiter: u8, fields: &mut Fields) -> io::Result<bool> {
        fields.begin();
        loop {
            let is_complete = fields.unquote(self.rest(), delimiter, self.ended);
            if is_complete || fields.at > LONGEST {
                // The result must not depend on the sizes of the blocks.
                return Ok(is_complete && fields.at <= LONGEST);
            }
            self.read_more()?;
        }
    }

    /// Finds the end of the next line. `find` returns the first byte that may end the search.
    fn end(&mut self, find: impl Fn(&[u8]) -> Option<usize>) -> io::Result<End> {
        let mut searched = 0;
        loop {
            let rest = self.rest();
            match find(&rest[searched..]).map(|found| searched + found) {
                Some(found) if found > LONGEST => searched = found,
                Some(found) if rest[found] == b'\n' => return Ok(End::At(found, true)),
                Some(_) => return Ok(End::Quote),
                None => searched = rest.len(),
            }
            if searched > LONGEST {
                self.skip_line()?;
                return Ok(End::TooLong);
            }
            if !self.read_more()? {
                return Ok(End::At(searched, false));
            }
        }
    }

    /// Skips the rest of a line without keeping it in memory.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(len) = memchr(b'\n', self.rest()) {
                self.take(len, true);
                return Ok(());
            }
            self.skip(self.to - self.from, 0);
            if !self.read_more()? {
                self.at.line += 1;
                return Ok(());
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.block[self.from..self.to]
    }

    /// Returns the next `len` bytes, which are the rest of a line, and skips them and the line feed
    /// after them, if there is one.
    fn take(&mut self, len: usize, feed: bool) -> &[u8] {
        let from = self.from;
        self.skip(len + usize::from(feed), 1);
        &self.block[from..from + len]
    }

    fn skip(&mut self, len: usize, lines: u64) {
        self.from += len;
        self.at.byte += len as u64;
        self.at.line += lines;
    }

    /// Reads more bytes. Returns `false` at the end. Waits for the reader only once, because a pipe
    /// may be slow.
    fn read_more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.from > 0 {
            self.has_start = false;
            self.block.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.block.len() < self.to + BLOCK / 2 {
            // The size doubles, so each byte of a long line is moved only a few times.
            self.block.resize((self.to * 2).max(BLOCK), 0);
        }
        let read = loop {
            match self.reader.read(&mut self.block[self.to..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.ended = read == 0;
        self.to += read;
        Ok(!self.ended)
    }
}

/// Returns whether a line consists of white space and delimiters only.
fn is_blank(line: &[u8], delimiter: u8) -> bool {
    line.iter()
        .all(|byte| byte.is_ascii_whitespace() || *byte == delimiter)
}

/// The fields of a record. The memory is reused for the next record.
#[derive(Debug, Default)]
pub struct Fields {
    /// The fields of a record with quotes, without delimiters between them.
    text: Vec<u8>,
    /// The end of each field.
    ends: Vec<usize>,
    /// The number of bytes of a record with quotes that were read so far.
    at: usize,
    /// The number of lines of these bytes.
    lines: u64,
    part: Part,
}

/// The position of the next byte in a record with quotes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// At the start of a field.
    #[default]
    Start,
    /// In quotes.
    Quoted,
    /// After a quote in quotes: either the quote ends the quoted part, or another quote follows and
    /// both stand for one.
    AfterQuote,
    /// Not in quotes.
    Plain,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    data: &'a [u8],
    ends: &'a [usize],
    /// Whether `data` has a delimiter between two fields.
    has_delimiters: bool,
    /// Whether the record contains a line feed, or an open quote at the end of the file.
    pub is_multiline: bool,
}

impl<'a> Record<'a> {
    /// Returns the number of fields. See [`Lines::record`].
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the field with an index, if there is one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.ends[before] + usize::from(self.has_delimiters),
            None => 0,
        };
        Some(&self.data[start..end])
    }

    /// Iterates over all fields.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl Fields {
    /// Splits a line without quotes.
    fn split(&mut self, line: &[u8], delimiter: u8, max_fields: usize) {
        self.ends.clear();
        self.ends
            .extend(memchr_iter(delimiter, line).take(max_fields));
        if self.ends.len() < max_fields {
            self.ends.push(line.len());
        }
    }

    fn begin(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.at = 0;
        self.lines = 1;
        self.part = Part::Start;
    }

    /// Continues to read the fields of the record at the start of `bytes`. Returns whether the
    /// record is complete. `is_end` says that no more bytes follow.
    ///
    /// A quote has a meaning only at the start of a field. In quotes, two quotes stand for one.
    /// Everything between the closing quote and the delimiter belongs to the field.
    fn unquote(&mut self, bytes: &[u8], delimiter: u8, is_end: bool) -> bool {
        loop {
            let rest = &bytes[self.at..];
            let next = rest.first().copied();
            match self.part {
                Part::Start | Part::AfterQuote if next.is_none() && !is_end => return false,
                Part::Start if next == Some(b'"') => {
                    self.at += 1;
                    self.part = Part::Quoted;
                }
                Part::AfterQuote if next == Some(b'"') => {
                    self.text.push(b'"');
                    self.at += 1;
                    self.part = Part::Quoted;
                }
                Part::Start | Part::AfterQuote => self.part = Part::Plain,
                Part::Quoted => {
                    let found = memchr(b'"', rest);
                    let quoted = &rest[..found.unwrap_or(rest.len())];
                    self.text.extend_from_slice(quoted);
                    self.lines += feeds(quoted);
                    if found.is_some() {
                        self.at += quoted.len() + 1;
                        self.part = Part::AfterQuote;
                        continue;
                    }
                    self.at = bytes.len();
                    if is_end {
                        // A line feed at the end of the file does not start another line.
                        self.lines -= u64::from(bytes.ends_with(b"\n"));
                        self.ends.push(self.text.len());
                    }
                    return is_end;
                }
                Part::Plain => {
                    let found = memchr2(delimiter, b'\n', rest);
                    let plain = &rest[..found.unwrap_or(rest.len())];
                    self.text.extend_from_slice(plain);
                    self.at += plain.len() + usize::from(found.is_some());
                    let has_next = rest.get(plain.len()) == Some(&delimiter);
                    if found.is_none() && !is_end {
                        return false;
                    }
                    self.ends.push(self.text.len());
                    if !has_next {
                        return true;
                    }
                    self.part = Part::Start;
                }
            }
        }
    }
}

/// Returns the number of line feeds.
fn feeds(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reader that returns a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()).min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    fn records(text: &[u8], piece: usize, max_fields: usize) -> Vec<(Vec<Vec<u8>>, u64)> {
        let mut lines = Lines::new(Vec::new(), Trickle(text, piece), Position::default());
        let mut fields = Fields::default();
        let mut found = Vec::new();
        while let Some((Found::Whole(record), line)) =
            lines.record(b',', max_fields, &mut fields).unwrap()
        {
            found.push((record.iter().map(<[u8]>::to_vec).collect(), line));
        }
        let feeds = feeds(text) + u64::from(!text.is_empty() && !text.ends_with(b"\n"));
        assert_eq!(
            lines.position(),
            Position {
                byte: text.len() as u64,
                line: feeds
            }
        );
        found
    }

    proptest! {
        /// Blank records, which this module skips, are removed from the result of the csv crate.
        #[test]
        fn records_are_those_of_the_csv_crate(
            text in "([ab ,\"]|\r?\n|\"\"|,\"|\",){0,30}",
            piece in 1_usize..40,
            max_fields in 1_usize..5,
        ) {
            let reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .terminator(csv::Terminator::Any(b'\n'))
                .from_reader(text.as_bytes());
            let theirs: Vec<Vec<Vec<u8>>> = reader
                .into_byte_records()
                .map(Result::unwrap)
                .filter(|record| !record.as_slice().iter().all(u8::is_ascii_whitespace))
                .map(|record| record.iter().map(<[u8]>::to_vec).collect())
                .collect();
            let ours = records(text.as_bytes(), piece, usize::MAX);
            prop_assert_eq!(&ours.iter().map(|(fields, _)| fields.clone()).collect::<Vec<_>>(), &theirs);
            // The first fields are the same if fewer fields are requested.
            for (few, all) in records(text.as_bytes(), piece, max_fields).iter().zip(&ours) {
                prop_assert_eq!(few.1, all.1);
                prop_assert!(few.0.len() >= max_fields.min(all.0.len()));
                prop_assert!(few.0.iter().zip(&all.0).all(|(a, b)| a == b));
            }
        }

        #[test]
        fn lines_are_those_of_the_standard_library(text in "([a\"]|\r?\n){0,30}", piece in 1_usize..40) {
            let mut lines = Lines::new(Vec::new(), Trickle(text.as_bytes(), piece), Position::default());
            let mut found = Vec::new();
            while let Some(Found::Whole(line)) = lines.line().unwrap() {
                found.push(line.to_vec());
            }
            let theirs: Vec<Vec<u8>> = text.split_terminator('\n').map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(found, theirs);
        }
    }

    #[test]
    fn a_record_has_the_number_of_its_first_line() {
        let lines: Vec<u64> = records(b"a\n\n \n\"b\nc\"\nd\n,,\n\"e\n", 3, 9)
            .iter()
            .map(|(_, line)| *line)
            .collect();
        assert_eq!(lines, [1, 4, 6, 8]);
    }

    #[test]
    fn a_line_or_record_that_is_too_long_is_skipped_alone() {
        let long = "x".repeat(LONGEST + 1);
        for (text, quoted) in [
            (format!("a\n{long}\nb\nc"), false),
            (format!("a\n\"\nb\nc\n{long}"), true),
        ] {
            let mut lines = Lines::new(Vec::new(), text.as_bytes(), Position::default());
            let mut fields = Fields::default();
            let mut next = || {
                let (found, line) = lines.record(b',', 1, &mut fields).unwrap().unwrap();
                match found {
                    Found::Whole(record) => (record.get(0).unwrap().to_vec(), line),
                    Found::LongLine => (b"a long line".to_vec(), line),
                    Found::LongRecord => (b"a long record".to_vec(), line),
                }
            };
            let skipped: &[u8] = if quoted {
                b"a long record"
            } else {
                b"a long line"
            };
            let expected: [&[u8]; 4] = [b"a", skipped, b"b", b"c"];
            for (line, expected) in (1..).zip(expected) {
                assert!(next() == (expected.to_vec(), line), "line {line}");
            }
            assert!(
                lines.block.len() <= 2 * LONGEST + BLOCK + 2,
                "{}",
                lines.block.len()
            );
        }
    }
}
