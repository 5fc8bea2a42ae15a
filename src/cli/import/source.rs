//! Reads the uncompressed bytes of a file, regardless of its name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

const BUFFER: usize = 1 << 17;

/// Opens a file, or stdin for `-`, at an offset in uncompressed bytes. The bar shows the bytes of
/// the file as it is stored.
pub fn open(file: &str, at: u64, bar: &ProgressBar) -> io::Result<Box<dyn BufRead>> {
    if file == "-" {
        return decompressed(bar.wrap_read(io::stdin()));
    }
    let mut opened = File::open(file)?;
    if at > 0 {
        if magic(&mut opened)?.1.is_none() {
            opened.seek(SeekFrom::Start(at))?;
            bar.inc(at);
            return Ok(Box::new(BufReader::with_capacity(
                BUFFER,
                bar.wrap_read(opened),
            )));
        }
        opened.rewind()?;
    }
    let mut reader = decompressed(bar.wrap_read(opened))?;
    io::copy(&mut reader.by_ref().take(at), &mut io::sink())?;
    Ok(reader)
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
        // Several concatenated compressed files count as one.
        Some(Compression::Gzip) => Box::new(BufReader::with_capacity(
            BUFFER,
            Explained(MultiGzDecoder::new(raw)),
        )),
        Some(Compression::Zstd) => Box::new(BufReader::with_capacity(
            BUFFER,
            Explained(zstd::Decoder::with_buffer(raw)?),
        )),
    })
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
