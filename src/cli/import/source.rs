//! Reads the uncompressed bytes of a file, or the rows of a table, regardless of the file's name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Seek, SeekFrom};

use anyhow::{Context, anyhow, bail};
use flate2::bufread::GzDecoder;
use indicatif::ProgressBar;

use crate::cli::import::archive::{self, Member};
use crate::cli::output::note;
use crate::ingest::{Batch, Batches, Table};
use crate::render::many;

const BUFFER: usize = 1 << 17;

/// How a Parquet file begins.
const PARQUET: [u8; 4] = *b"PAR1";

/// The ends of names of files in archives that are imported, without those of compressions.
const IMPORTED: [&str; 7] = [
    ".csv", ".tsv", ".psv", ".json", ".ndjson", ".jsonl", ".parquet",
];

/// A file, or one of the files in an archive.
#[derive(Debug, Clone, Default)]
pub struct Part {
    member: Option<Member>,
}

/// What a file holds.
pub enum Data {
    /// Lines.
    Lines(Box<dyn BufRead>),
    /// A table that is stored by column.
    Table(Box<dyn Table>),
}

impl Part {
    /// Returns the name for messages.
    pub fn display(&self, file: &str) -> String {
        match (&self.member, file) {
            (Some(member), _) => format!("{file}: {}", member.name),
            (None, "-") => "stdin".to_owned(),
            (None, file) => file.to_owned(),
        }
    }

    /// Returns the name that tells the format.
    pub fn name<'n>(&'n self, file: &'n str) -> &'n str {
        self.member.as_ref().map_or(file, |member| &member.name)
    }

    /// Opens a file, or stdin for `-`, at an offset in uncompressed bytes. A table is opened at its
    /// beginning. The bar shows the bytes of the file as it is stored.
    pub fn open(&self, file: &str, at: u64, bar: &ProgressBar) -> anyhow::Result<Data> {
        let context = || format!("cannot read {}", self.display(file));
        if file == "-" {
            let lines = decompressed(bar.wrap_read(io::stdin())).with_context(context)?;
            return Ok(Data::Lines(lines));
        }
        let mut opened = File::open(file).with_context(context)?;
        if self.member.is_none() {
            let (start, _) = magic(&mut opened).with_context(context)?;
            opened.rewind().with_context(context)?;
            if start == PARQUET {
                let bytes = opened.metadata().with_context(context)?.len();
                let table = table(opened).map_err(|reason| anyhow!("{}: {reason}", context()))?;
                let bar = bar.clone();
                return Ok(Data::Table(Box::new(Shown { table, bytes, bar })));
            }
        }
        self.lines(opened, at, bar)
            .map(Data::Lines)
            .with_context(context)
    }

    fn lines(&self, mut file: File, at: u64, bar: &ProgressBar) -> io::Result<Box<dyn BufRead>> {
        let mut reader = match &self.member {
            Some(member) => decompressed(member.open(file, bar)?)?,
            None if at > 0 && magic(&mut file)?.1.is_none() => {
                file.seek(SeekFrom::Start(at))?;
                bar.inc(at);
                let read = bar.wrap_read(file);
                return Ok(Box::new(BufReader::with_capacity(BUFFER, read)));
            }
            None => {
                file.rewind()?;
                decompressed(bar.wrap_read(file))?
            }
        };
        io::copy(&mut reader.by_ref().take(at), &mut io::sink())?;
        Ok(reader)
    }
}

/// Returns the parts of a file: several if it is an archive.
pub fn parts(file: &str) -> anyhow::Result<Vec<Part>> {
    let context = || format!("cannot read {file}");
    let mut opened = File::open(file).with_context(context)?;
    let (start, _) = magic(&mut opened).with_context(context)?;
    if !archive::MAGIC.iter().any(|magic| start == magic) {
        return Ok(vec![Part::default()]);
    }
    let members = archive::members(&mut opened).with_context(context)?;
    let is_sheet = |member: &Member| {
        let name = member.name.as_str();
        name.starts_with("xl/") || name == "content.xml" || name.starts_with("Index/")
    };
    if members.iter().any(is_sheet) {
        bail!("{file} is a workbook of a spreadsheet: save the sheet as CSV and import that file");
    }
    let (imported, others): (Vec<Member>, Vec<Member>) = members.into_iter().partition(is_imported);
    if imported.is_empty() {
        bail!("{file} is a ZIP archive without CSV or JSON files");
    }
    if let [first, ..] = &others[..] {
        let number = many(others.len() as u64, "file");
        note!(
            "{file}: {number} in the archive, such as {}, cannot be imported",
            first.name
        );
    }
    let part = |member| Part {
        member: Some(member),
    };
    Ok(imported.into_iter().map(part).collect())
}

/// Returns whether a file in an archive is imported. Those of macOS describe other files.
fn is_imported(member: &Member) -> bool {
    let name = member.name.to_ascii_lowercase();
    let base = name.rsplit('/').next().unwrap_or_default();
    let plain = [".gz", ".zst", ".zstd"]
        .iter()
        .find_map(|ending| base.strip_suffix(ending));
    let is_known = IMPORTED
        .iter()
        .any(|ending| plain.unwrap_or(base).ends_with(ending));
    (is_known || plain.is_some()) && !name.starts_with("__macosx/") && !base.starts_with('.')
}

#[cfg(feature = "parquet")]
fn table(file: File) -> Result<Box<dyn Table>, String> {
    Ok(Box::new(crate::ingest::Parquet::open(file)?))
}

#[cfg(not(feature = "parquet"))]
fn table(_: File) -> Result<Box<dyn Table>, String> {
    Err("this cohortist was built without the feature `parquet`, so it cannot read Parquet files: convert the file to CSV".to_owned())
}

/// A table whose progress is shown, in bytes of its file.
struct Shown {
    table: Box<dyn Table>,
    bytes: u64,
    bar: ProgressBar,
}

impl Table for Shown {
    fn columns(&self) -> &[String] {
        self.table.columns()
    }

    fn rows(&self) -> u64 {
        self.table.rows()
    }

    fn read(self: Box<Self>, columns: Vec<usize>, skip: u64) -> Batches {
        let Shown { table, bytes, bar } = *self;
        let per_row = bytes / table.rows().max(1);
        bar.inc(per_row * skip.min(table.rows()));
        let show = move |batch: &Result<Batch, String>| {
            bar.inc(per_row * batch.as_ref().map_or(0, |batch| batch.rows as u64));
        };
        Box::new(table.read(columns, skip).inspect(show))
    }
}

#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

/// Returns the first bytes, and the compression that they indicate.
fn magic(reader: &mut impl Read) -> io::Result<(Vec<u8>, Option<Compression>)> {
    // A pipe may return one byte at a time.
    let mut start = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut start)?;
    let compression = match start.as_slice() {
        [0x1F, 0x8B, ..] => Some(Compression::Gzip),
        // A frame, or a skippable frame before the first one.
        [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Some(Compression::Zstd),
        _ => None,
    };
    Ok((start, compression))
}

fn decompressed(mut reader: impl Read + 'static) -> io::Result<Box<dyn BufRead>> {
    let (start, compression) = magic(&mut reader)?;
    let raw: BufReader<Chain<Cursor<Vec<u8>>, _>> =
        BufReader::with_capacity(BUFFER, Cursor::new(start).chain(reader));
    Ok(match compression {
        None => Box::new(raw),
        Some(Compression::Gzip) => Box::new(BufReader::with_capacity(
            BUFFER,
            Explained(Gzip {
                member: Some(GzDecoder::new(raw)),
            }),
        )),
        // Several concatenated compressed files count as one.
        Some(Compression::Zstd) => Box::new(BufReader::with_capacity(
            BUFFER,
            Explained(zstd::Decoder::with_buffer(raw)?),
        )),
    })
}

/// Concatenated gzip files, which count as one. Zeros after a file are padding, as tapes and some
/// uploads add it.
struct Gzip<R> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let rest = self.member.take().map(GzDecoder::into_inner);
            self.member = match rest {
                Some(mut rest) => skip_zeros(&mut rest)?.then(|| GzDecoder::new(rest)),
                None => None,
            };
        }
        Ok(0)
    }
}

/// Skips zeros. Returns whether other bytes follow.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let is_end = zeros == bytes.len();
        if bytes.is_empty() || !is_end {
            reader.consume(zeros);
            return Ok(!is_end);
        }
        reader.consume(zeros);
    }
}

/// A compressed file with clear errors if it is truncated or damaged.
struct Explained<R>(R);

impl<R: Read> Read for Explained<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("the compressed data is incomplete: the file is cut off")
            }
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(format!("the compressed data is damaged ({error})")),
        })
    }
}
