//! Lines of a reader, each where it lies in the block that was read, and the fields of those that
//! are CSV.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2};

use crate::ingest::records::Position;

/// How much is read at once, at least.
const BLOCK: usize = 1 << 18;

/// The longest line or record that is read. A quote left open, or a file that is no text, must not
/// fill the memory.
pub const LONGEST: usize = 16 << 20;

/// The bytes of a reader, block by block.
pub struct Lines<R> {
    reader: R,
    /// What is read and not given out yet is `block[from..to]`.
    block: Vec<u8>,
    from: usize,
    to: usize,
    ended: bool,
    at: Position,
}

/// What was found, or that it is longer than [`LONGEST`] and was not kept.
pub enum Found<T> {
    Whole(T),
    /// The line, which is behind the reader now.
    LongLine,
    /// A record with quotes. Its first line alone is behind the reader now.
    LongRecord,
}

/// Where a line ends.
enum End {
    /// So far from here; and whether there is a line feed.
    At(usize, bool),
    /// The record goes on as it has a quote.
    Quote,
    /// It was too long.
    Beyond,
}

impl<R: Read> Lines<R> {
    /// The lines of `start` and of the reader behind it; `at` is where they begin.
    pub fn new(start: Vec<u8>, reader: R, at: Position) -> Self {
        let to = start.len();
        Lines {
            reader,
            block: start,
            from: 0,
            to,
            ended: false,
            at,
        }
    }

    /// Behind what was given out.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The next line, without its line feed. `None` at the end.
    pub fn line(&mut self) -> io::Result<Option<Found<&[u8]>>> {
        Ok(match self.end(|bytes| memchr(b'\n', bytes))? {
            End::At(0, false) => None,
            End::At(len, feed) => Some(Found::Whole(self.take(len, feed))),
            End::Quote | End::Beyond => Some(Found::LongLine),
        })
    }

    /// The fields of the next record that is not blank, and the line it begins in, counted from 1.
    /// `None` at the end.
    ///
    /// A record ends at the first line feed that is not in quotes, or with the file; a carriage
    /// return before it belongs to the last field. Of a record without quotes only the first `most`
    /// fields are looked for.
    pub fn record<'a>(
        &'a mut self,
        delimiter: u8,
        most: usize,
        fields: &'a mut Fields,
    ) -> io::Result<Option<(Found<Record<'a>>, u64)>> {
        loop {
            let first = self.at.line + 1;
            match self.end(|bytes| memchr2(b'\n', b'"', bytes))? {
                End::At(0, false) => return Ok(None),
                End::At(len, feed)
                    if is_blank(self.rest().get(..len).unwrap_or_default(), delimiter) =>
                {
                    self.take(len, feed);
                }
                End::At(len, feed) => {
                    let line = self.take(len, feed);
                    fields.cut(line, delimiter, most);
                    let record = Record {
                        data: line,
                        ends: &fields.ends,
                        plain: true,
                        runs_on: false,
                    };
                    return Ok(Some((Found::Whole(record), first)));
                }
                End::Quote => {
                    fields.begin();
                    let whole = loop {
                        let whole = fields.unquote(self.rest(), delimiter, self.ended);
                        if whole || fields.at > LONGEST {
                            // How much was read at once must not decide.
                            break whole && fields.at <= LONGEST;
                        }
                        self.more()?;
                    };
                    if !whole {
                        self.pass()?;
                        return Ok(Some((Found::LongRecord, first)));
                    }
                    self.skip(fields.at, fields.lines);
                    if !fields.text.iter().all(u8::is_ascii_whitespace) {
                        let runs_on = fields.lines > 1 || fields.part == Part::Quoted;
                        let record = Record {
                            data: &fields.text,
                            ends: &fields.ends,
                            plain: false,
                            runs_on,
                        };
                        return Ok(Some((Found::Whole(record), first)));
                    }
                }
                End::Beyond => return Ok(Some((Found::LongLine, first))),
            }
        }
    }

    /// Where the line ends, by the first of the bytes that `find` looks for.
    fn end(&mut self, find: impl Fn(&[u8]) -> Option<usize>) -> io::Result<End> {
        let mut looked = 0;
        loop {
            let rest = self.rest();
            match find(rest.get(looked..).unwrap_or_default()).map(|found| looked + found) {
                Some(found) if found > LONGEST => looked = found,
                Some(found) if rest.get(found) == Some(&b'\n') => return Ok(End::At(found, true)),
                Some(_) => return Ok(End::Quote),
                None => looked = rest.len(),
            }
            if looked > LONGEST {
                self.pass()?;
                return Ok(End::Beyond);
            }
            if !self.more()? {
                return Ok(End::At(looked, false));
            }
        }
    }

    /// Leaves the rest of a line behind without keeping it.
    fn pass(&mut self) -> io::Result<()> {
        loop {
            if let Some(len) = memchr(b'\n', self.rest()) {
                self.take(len, true);
                return Ok(());
            }
            self.skip(self.to - self.from, 0);
            if !self.more()? {
                self.at.line += 1;
                return Ok(());
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.block.get(self.from..self.to).unwrap_or_default()
    }

    /// The rest of a line up to its end, which is left behind.
    fn take(&mut self, len: usize, feed: bool) -> &[u8] {
        let from = self.from;
        self.skip(len + usize::from(feed), 1);
        self.block.get(from..from + len).unwrap_or_default()
    }

    fn skip(&mut self, len: usize, lines: u64) {
        self.from += len;
        self.at.byte += len as u64;
        self.at.line += lines;
    }

    /// Reads more behind what is there; `false` at the end. Waits for the reader only once, as a
    /// pipe may be slow.
    fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.from > 0 {
            self.block.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.block.len() < self.to + BLOCK / 2 {
            // A line may be of any length; each byte of it is moved a few times at most.
            self.block.resize((self.to * 2).max(BLOCK), 0);
        }
        let read = loop {
            match self
                .reader
                .read(self.block.get_mut(self.to..).unwrap_or_default())
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.ended = read == 0;
        self.to += read;
        Ok(!self.ended)
    }
}

fn is_blank(line: &[u8], delimiter: u8) -> bool {
    line.iter()
        .all(|byte| byte.is_ascii_whitespace() || *byte == delimiter)
}

/// Room for the fields of a record, used again for each; of one with quotes also how far it was
/// taken apart.
#[derive(Debug, Default)]
pub struct Fields {
    /// The fields of a record with quotes, one behind the other.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// So many bytes of it are in `text`, and they are of so many lines.
    at: usize,
    lines: u64,
    part: Part,
}

/// What the next byte of a record with quotes belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A field that begins here.
    #[default]
    Begin,
    /// What stands in quotes.
    Quoted,
    /// What is behind a quote: a second one, or the end of the quoted.
    Behind,
    /// What is not in quotes.
    Plain,
}

/// The fields of one record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    data: &'a [u8],
    ends: &'a [usize],
    /// Whether a delimiter stands between any two fields of `data`.
    plain: bool,
    /// Whether it holds a line feed, or ends in quotes that the file leaves open.
    pub runs_on: bool,
}

impl<'a> Record<'a> {
    /// How many fields there are, those beyond the wanted ones of a record without quotes left
    /// aside.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field.
    pub fn get(&self, place: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(place)?;
        let start = match place.checked_sub(1) {
            Some(before) => self.ends.get(before)? + usize::from(self.plain),
            None => 0,
        };
        self.data.get(start..end)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(|place| self.get(place))
    }
}

impl Fields {
    /// Cuts a line without quotes.
    fn cut(&mut self, line: &[u8], delimiter: u8, most: usize) {
        self.ends.clear();
        self.ends.extend(memchr_iter(delimiter, line).take(most));
        if self.ends.len() < most {
            self.ends.push(line.len());
        }
    }

    fn begin(&mut self) {
        self.text.clear();
        self.ends.clear();
        (self.at, self.lines, self.part) = (0, 1, Part::Begin);
    }

    /// Goes on taking the record at the beginning of `bytes` apart; `false` when its end is not
    /// among them and more may come.
    ///
    /// Quotes mean something only where a field begins with one. In them two quotes are one; what
    /// stands between the closing one and the delimiter belongs to the field.
    fn unquote(&mut self, bytes: &[u8], delimiter: u8, all: bool) -> bool {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let next = rest.first().copied();
            match self.part {
                Part::Begin | Part::Behind if next.is_none() && !all => return false,
                Part::Begin if next == Some(b'"') => {
                    (self.at, self.part) = (self.at + 1, Part::Quoted)
                }
                Part::Behind if next == Some(b'"') => {
                    self.text.push(b'"');
                    (self.at, self.part) = (self.at + 1, Part::Quoted);
                }
                Part::Begin | Part::Behind => self.part = Part::Plain,
                Part::Quoted => {
                    let found = memchr(b'"', rest);
                    let quoted = rest.get(..found.unwrap_or(rest.len())).unwrap_or_default();
                    self.text.extend_from_slice(quoted);
                    self.lines += feeds(quoted);
                    if found.is_some() {
                        (self.at, self.part) = (self.at + quoted.len() + 1, Part::Behind);
                        continue;
                    }
                    self.at = bytes.len();
                    if all {
                        // A line feed that is the file's last byte ends a line and begins none.
                        self.lines -= u64::from(bytes.ends_with(b"\n"));
                        self.ends.push(self.text.len());
                    }
                    return all;
                }
                Part::Plain => {
                    let found = memchr2(delimiter, b'\n', rest);
                    let plain = rest.get(..found.unwrap_or(rest.len())).unwrap_or_default();
                    self.text.extend_from_slice(plain);
                    self.at += plain.len() + usize::from(found.is_some());
                    let goes_on = rest.get(plain.len()) == Some(&delimiter);
                    if found.is_none() && !all {
                        return false;
                    }
                    self.ends.push(self.text.len());
                    if !goes_on {
                        return true;
                    }
                    self.part = Part::Begin;
                }
            }
        }
    }
}

fn feeds(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of a few.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()).min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    fn records(text: &[u8], piece: usize, most: usize) -> Vec<(Vec<Vec<u8>>, u64)> {
        let mut lines = Lines::new(Vec::new(), Trickle(text, piece), Position::default());
        let (mut fields, mut found) = (Fields::default(), Vec::new());
        while let Some((Found::Whole(record), line)) =
            lines.record(b',', most, &mut fields).unwrap()
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
        /// The csv crate reads the same, but for blank records, which are left out here.
        #[test]
        fn records_are_those_of_the_csv_crate(
            text in "([ab ,\"]|\r?\n|\"\"|,\"|\",){0,30}",
            piece in 1_usize..40,
            most in 1_usize..5,
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
            // However many are wanted, those are the same.
            for (few, all) in records(text.as_bytes(), piece, most).iter().zip(&ours) {
                prop_assert_eq!(few.1, all.1);
                prop_assert!(few.0.len() >= most.min(all.0.len()));
                prop_assert!(few.0.iter().zip(&all.0).all(|(a, b)| a == b));
            }
        }

        #[test]
        fn lines_are_lines(text in "([a\"]|\r?\n){0,30}", piece in 1_usize..40) {
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
    fn a_record_knows_its_first_line() {
        let lines: Vec<u64> = records(b"a\n\n \n\"b\nc\"\nd\n,,\n\"e\n", 3, 9)
            .iter()
            .map(|(_, line)| *line)
            .collect();
        assert_eq!(lines, [1, 4, 6, 8]);
    }

    #[test]
    fn what_is_too_long_costs_itself_and_no_other_line() {
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
            let bad: &[u8] = if quoted {
                b"a long record"
            } else {
                b"a long line"
            };
            let expected: [&[u8]; 4] = [b"a", bad, b"b", b"c"];
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
