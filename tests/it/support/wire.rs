//! A raw connection that speaks Redis' protocol, to see answers byte for byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Sends commands and gets back the bytes of each reply.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn tcp(address: &str) -> Wire {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Wire {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    /// `redis+unix:///path`
    pub fn unix(url: &str) -> Wire {
        let stream = UnixStream::connect(url.strip_prefix("redis+unix://").unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        Wire {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The bytes of the next reply; what came when the other side closed the connection.
    pub fn reply(&mut self) -> Vec<u8> {
        loop {
            if let Some(len) = reply_len(&self.buffer) {
                return self.buffer.drain(..len).collect();
            }
            let mut chunk = [0; 1 << 16];
            match self.stream.read(&mut chunk) {
                Ok(0) => return std::mem::take(&mut self.buffer),
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) => panic!(
                    "{error}; so far {:?}",
                    String::from_utf8_lossy(&self.buffer)
                ),
            }
        }
    }

    /// One command, one reply.
    pub fn ask(&mut self, command: &[impl AsRef<[u8]>]) -> Vec<u8> {
        self.send(&packed(command));
        self.reply()
    }

    /// The same for commands and replies that are text, with blanks between arguments.
    pub fn say(&mut self, command: &str) -> String {
        String::from_utf8(self.ask(&command.split(' ').collect::<Vec<_>>())).unwrap()
    }
}

pub fn packed(command: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        let argument = argument.as_ref();
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// How long the reply at the beginning is, once it is whole.
pub fn reply_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let number = || {
        std::str::from_utf8(&bytes[1..end])
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    let parts = match bytes[0] {
        b'+' | b'-' | b':' | b'_' => return Some(end + 2),
        b'$' | b'=' => {
            let whole = usize::try_from(number()).map_or(end + 2, |len| end + 2 + len + 2);
            return (bytes.len() >= whole).then_some(whole);
        }
        b'*' | b'~' => number().max(0),
        b'%' => number() * 2,
        other => panic!("a reply that begins with {:?}", char::from(other)),
    };
    let mut at = end + 2;
    for _ in 0..parts {
        at += reply_len(bytes.get(at..)?)?;
    }
    Some(at)
}

/// The texts of a reply that is a flat list of them.
pub fn texts(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply).into_owned();
    text.split("\r\n")
        .skip(1)
        .filter(|line| !line.is_empty() && !line.starts_with('$'))
        .map(str::to_owned)
        .collect()
}
