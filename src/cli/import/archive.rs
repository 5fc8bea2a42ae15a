//! The files in a ZIP archive.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use flate2::bufread::DeflateDecoder;
use indicatif::ProgressBar;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// Where its local header is.
    header: u64,
    /// Its length in the archive, and unpacked.
    packed: u64,
    length: u64,
    checksum: u32,
    method: u16,
    is_encrypted: bool,
}

/// How a file in an archive begins, and how an empty archive does.
pub const MAGIC: [[u8; 4]; 2] = [*b"PK\x03\x04", *b"PK\x05\x06"];

/// The longest end of an archive: a record with a comment, and the place of a larger record.
const MAX_END: u64 = 22 + 0xFFFF + 20;

/// The largest list of files that is read, in bytes.
const MAX_LIST: u64 = 1 << 30;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Stands for a number that is in a field of its own.
const ELSEWHERE: u32 = u32::MAX;

fn damaged() -> io::Error {
    io::Error::other("the ZIP archive is damaged or incomplete")
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().map(u16::from_le_bytes).ok_or_else(damaged)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().map(u32::from_le_bytes).ok_or_else(damaged)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().map(u64::from_le_bytes).ok_or_else(damaged)
}

fn read_at(file: &mut File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the files in an archive, in order.
pub fn members(file: &mut File) -> io::Result<Vec<Member>> {
    let size = file.metadata()?.len();
    let start = size.saturating_sub(MAX_END);
    let end = read_at(file, start, MAX_END)?;
    let is_end = |at: &usize| {
        let rest = &end[*at..];
        rest.starts_with(b"PK\x05\x06")
            && u16_at(rest, 20).is_ok_and(|comment| rest.len() == 22 + usize::from(comment))
    };
    let at = (0..end.len()).rev().find(is_end).ok_or_else(damaged)?;
    let mut length = u64::from(u32_at(&end, at + 12)?);
    let mut offset = u64::from(u32_at(&end, at + 16)?);
    let larger = at.checked_sub(20).map(|locator| &end[locator..at]);
    if let Some(locator) = larger.filter(|locator| locator.starts_with(b"PK\x06\x07")) {
        let record = read_at(file, u64_at(locator, 8)?, 56)?;
        length = u64_at(&record, 40)?;
        offset = u64_at(&record, 48)?;
    }
    if length > MAX_LIST.min(size) {
        return Err(damaged());
    }
    let list = read_at(file, offset, length)?;
    let mut members = Vec::new();
    let mut rest = &list[..];
    while !rest.is_empty() {
        if !rest.starts_with(b"PK\x01\x02") {
            return Err(damaged());
        }
        let name = 46 + usize::from(u16_at(rest, 28)?);
        let extra = name + usize::from(u16_at(rest, 30)?);
        let next = extra + usize::from(u16_at(rest, 32)?);
        let text = rest.get(46..name).ok_or_else(damaged)?;
        let mut member = Member {
            name: String::from_utf8_lossy(text).into_owned(),
            header: u64::from(u32_at(rest, 42)?),
            packed: u64::from(u32_at(rest, 20)?),
            length: u64::from(u32_at(rest, 24)?),
            checksum: u32_at(rest, 16)?,
            method: u16_at(rest, 10)?,
            is_encrypted: u16_at(rest, 8)? & 1 == 1,
        };
        member.enlarge(rest.get(name..extra).ok_or_else(damaged)?)?;
        if !member.name.ends_with('/') {
            members.push(member);
        }
        rest = rest.get(next..).ok_or_else(damaged)?;
    }
    Ok(members)
}

impl Member {
    /// Reads the numbers that need more than four bytes.
    fn enlarge(&mut self, mut fields: &[u8]) -> io::Result<()> {
        while fields.len() >= 4 {
            let kind = u16_at(fields, 0)?;
            let end = 4 + usize::from(u16_at(fields, 2)?);
            if kind == 1 {
                let mut at = 4;
                for number in [&mut self.length, &mut self.packed, &mut self.header] {
                    if *number == u64::from(ELSEWHERE) {
                        *number = u64_at(fields, at)?;
                        at += 8;
                    }
                }
            }
            fields = fields.get(end..).ok_or_else(damaged)?;
        }
        Ok(())
    }

    /// Reads the unpacked bytes.
    pub fn open(&self, mut file: File, bar: &ProgressBar) -> io::Result<Box<dyn Read>> {
        if self.is_encrypted {
            return Err(io::Error::other(format!(
                "{} is encrypted: unpack the archive and import the files in it",
                self.name
            )));
        }
        let header = read_at(&mut file, self.header, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(damaged());
        }
        let names = u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
        file.seek(SeekFrom::Start(self.header + 30 + names))?;
        let packed = BufReader::with_capacity(1 << 16, bar.wrap_read(file.take(self.packed)));
        let unpacked: Box<dyn Read> = match self.method {
            STORED => Box::new(packed),
            DEFLATED => Box::new(DeflateDecoder::new(packed)),
            method => {
                return Err(io::Error::other(format!(
                    "{} is compressed in a way that is not supported (method {method}): unpack the archive and import the files in it",
                    self.name
                )));
            }
        };
        Ok(Box::new(Checked {
            // One byte more tells whether it is too long.
            unpacked: unpacked.take(self.length.saturating_add(1)),
            left: self.length,
            checksum: self.checksum,
            found: crc32fast::Hasher::new(),
        }))
    }
}

/// The bytes of a file in an archive, which fail at the end if they are not the right ones.
struct Checked<R> {
    unpacked: Take<R>,
    left: u64,
    checksum: u32,
    found: crc32fast::Hasher,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = match self.unpacked.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(damaged()),
            read => read?,
        };
        self.found.update(&buffer[..read]);
        self.left = self.left.checked_sub(read as u64).ok_or_else(damaged)?;
        let is_whole = self.left == 0 && self.found.clone().finalize() == self.checksum;
        if read == 0 && !is_whole {
            return Err(damaged());
        }
        Ok(read)
    }
}
