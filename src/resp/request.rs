//! What clients send: arrays of bulk strings, or lines as somebody types them into telnet. Pure.
//!
//! The kept parsers of the protocol (`redis-protocol`, the `redis` crate's own) read replies: any
//! frame nested in any other, each bulk string copied. A server reads one shape only, must refuse
//! what is too large before it has arrived, and answers errors in Redis' own words, so that clients
//! recognise them.

use std::ops::Range;

/// The longest line, be it a request or the head of an array or argument.
const LINE: usize = 64 << 10;

/// An array of so many arguments may be looked at whenever something arrives.
const FEW: usize = 64;

/// How much a client may send in one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Arguments.
    pub arguments: usize,
    /// Bytes of one argument.
    pub argument: usize,
}

/// For whoever has given the password, or needs none.
pub const KNOWN: Limits = Limits {
    arguments: 1 << 20,
    argument: 128 << 20,
};

/// For whoever has still to give it, as in Redis.
pub const UNKNOWN: Limits = Limits {
    arguments: 10,
    argument: 16 << 10,
};

/// What was found at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A request: where its arguments are. There may be none, as in an empty line.
    Request {
        /// The arguments, of which the first is the command.
        arguments: Vec<Argument>,
        /// How many bytes the request takes.
        len: usize,
    },
    /// Only a part. A request has at least so many bytes; what is none may be known earlier.
    Incomplete(usize),
    /// Nothing that can be gone on from: these are the words to close the connection with.
    Malformed(String),
    /// The beginning of another protocol. What follows it is not to be looked at: of an HTTP
    /// request, a web page that the browser of this machine shows writes the rest.
    Foreign,
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// Where it is.
    At(Range<usize>),
    /// A quoted one of a typed line, with its escapes taken for what they stand for.
    Typed(Vec<u8>),
}

impl Argument {
    /// Its bytes, if they are among those of the request.
    pub fn lasting<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Argument::At(range) => bytes.get(range.clone()),
            Argument::Typed(_) => None,
        }
    }

    /// Its bytes.
    pub fn of<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Argument::At(range) => bytes.get(range.clone()).unwrap_or_default(),
            Argument::Typed(typed) => typed,
        }
    }
}

/// Reads the request at the beginning of `bytes`.
pub fn read(bytes: &[u8], limits: Limits) -> Found {
    match bytes.first() {
        None => Found::Incomplete(1),
        Some(b'*') => array(bytes, limits),
        // No typed line begins with such a byte. A TLS handshake does, and an attacker may choose
        // whole lines inside it.
        Some(byte) if byte.is_ascii_control() && !is_blank(byte) => Found::Foreign,
        Some(_) => typed(bytes),
    }
}

/// What stands at the beginning of an array or argument, behind its sign.
enum Head<'a> {
    /// The line without its end, and where the next one begins.
    Line(&'a [u8], usize),
    Incomplete,
    /// Longer than any: that depends on the bytes alone and not on how many have arrived.
    TooLong,
}

/// The line whose sign is at `sign`.
fn head(bytes: &[u8], sign: usize) -> Head<'_> {
    let rest = bytes.get(sign + 1..).unwrap_or_default();
    match rest.iter().take(LINE).position(|b| *b == b'\r') {
        // Redis takes whatever follows the carriage return for its line feed.
        Some(end) if rest.len() > end + 1 => Head::Line(&rest[..end], sign + end + 3),
        None if rest.len() >= LINE => Head::TooLong,
        _ => Head::Incomplete,
    }
}

/// A number as Redis reads it: no sign but a minus, no leading zero, no blanks.
pub fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain =
        digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    let number = if plain {
        std::str::from_utf8(text).ok()?.parse().ok()
    } else {
        None
    };
    number.filter(|number| *number != 0 || text == b"0")
}

fn malformed(words: impl Into<String>) -> Found {
    Found::Malformed(words.into())
}

fn array(bytes: &[u8], limits: Limits) -> Found {
    let (count, mut at) = match head(bytes, 0) {
        Head::Line(count, at) => (count, at),
        Head::Incomplete => return Found::Incomplete(bytes.len() + 1),
        Head::TooLong => return malformed("too big mbulk count string"),
    };
    let count = match number(count).map(usize::try_from) {
        Some(Ok(count)) if count <= KNOWN.arguments => count,
        // Redis passes over empty and negative arrays.
        Some(Err(_)) => 0,
        _ => return malformed("invalid multibulk length"),
    };
    if count > limits.arguments {
        return malformed("unauthenticated multibulk length");
    }
    // What was announced is not believed before it is there.
    let mut arguments = Vec::with_capacity(count.min(64));
    for place in 0..count {
        // Every argument takes six bytes at the least. Where there are many to come those are
        // waited for, lest the ones that are there be looked through again for each byte; where
        // there are few, nonsense is told at once.
        let least = |arguments: usize| if arguments > FEW { 6 * arguments } else { 0 };
        let more = Found::Incomplete((bytes.len() + 1).max(at + least(count - place)));
        match bytes.get(at) {
            None => return more,
            Some(b'$') => {}
            Some(other) => return malformed(format!("expected '$', got '{}'", char::from(*other))),
        }
        let (len, start) = match head(bytes, at) {
            Head::Line(len, start) => (len, start),
            Head::Incomplete => return more,
            Head::TooLong => return malformed("too big bulk count string"),
        };
        let len = match number(len).map(usize::try_from) {
            Some(Ok(len)) if len <= KNOWN.argument => len,
            _ => return malformed("invalid bulk length"),
        };
        if len > limits.argument {
            return malformed("unauthenticated bulk length");
        }
        if bytes.len() < start + len + 2 {
            return Found::Incomplete(start + len + 2 + least(count - place - 1));
        }
        arguments.push(Argument::At(start..start + len));
        at = start + len + 2;
    }
    Found::Request { arguments, len: at }
}

fn typed(bytes: &[u8]) -> Found {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return if bytes.len() > LINE {
            malformed("too big inline request")
        } else {
            Found::Incomplete(bytes.len() + 1)
        };
    };
    if end > LINE {
        return malformed("too big inline request");
    }
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if is_http(line) {
        return Found::Foreign;
    }
    match words(line) {
        Some(words) => Found::Request {
            arguments: words.into_iter().map(Argument::Typed).collect(),
            len: end + 1,
        },
        None => malformed("unbalanced quotes in request"),
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Methods of HTTP that are no commands. `GET` is one, and is known by the version at the end of
/// its line.
const METHODS: [&[u8]; 9] = [
    b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI",
];

/// Whether the first word of a request is one of HTTP and not of Redis: a method, or the name of a
/// header.
pub fn is_of_http(command: &[u8]) -> bool {
    command.ends_with(b":")
        || METHODS
            .iter()
            .any(|method| method.eq_ignore_ascii_case(command))
}

/// Whether a typed line is one of HTTP: a request, a status or a header. Any command may stand in
/// the place of the method, as scripts choose that themselves, so a line that ends in a version is
/// a request whatever it begins with.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(is_blank).filter(|word| !word.is_empty());
    let is_version = |word: &[u8]| {
        word.get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
    };
    let Some(first) = words.next() else {
        return false;
    };
    is_of_http(first) || is_version(first) || words.next_back().is_some_and(is_version)
}

/// Words with blanks between them, quoted or not; `None` when a quote is not closed.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let blank = is_blank;
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| blank(byte)).count()..];
        // A zero byte ends the line, as it ends a string of C.
        if rest.first().is_none_or(|byte| *byte == 0) {
            return Some(found);
        }
        let mut word = Vec::new();
        loop {
            match rest {
                [] | [0, ..] => break,
                [byte, ..] if blank(byte) => break,
                [quote @ (b'"' | b'\''), tail @ ..] => {
                    rest = quoted(*quote, tail, &mut word)?;
                    // A closing quote ends the word.
                    if rest.first().is_some_and(|next| !blank(next) && *next != 0) {
                        return None;
                    }
                    break;
                }
                [byte, tail @ ..] => {
                    word.push(*byte);
                    rest = tail;
                }
            }
        }
        found.push(word);
    }
}

/// Takes a quoted text to its closing quote; answers what is behind it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] | [0, ..] => return None,
            [end, tail @ ..] if *end == quote => return Some(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digits = [*high, *low];
                word.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                tail
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                word.push(b'\'');
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> (Vec<String>, usize) {
        match read(bytes, KNOWN) {
            Found::Request { arguments, len } => (
                arguments
                    .iter()
                    .map(|a| String::from_utf8_lossy(a.of(bytes)).into_owned())
                    .collect(),
                len,
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_read_one_after_the_other() {
        let bytes = b"*3\r\n$6\r\nSETBIT\r\n$0\r\n\r\n$2\r\n\r\n\r\n*0\r\nPING\r\n";
        assert_eq!(
            told(bytes),
            (vec!["SETBIT".into(), String::new(), "\r\n".into()], 30)
        );
        assert_eq!(told(&bytes[30..]), (vec![], 4));
        assert_eq!(told(&bytes[34..]), (vec!["PING".into()], 6));
    }

    #[test]
    fn a_request_cut_anywhere_is_no_request_yet() {
        let bytes = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n";
        for cut in 0..bytes.len() {
            match read(&bytes[..cut], KNOWN) {
                Found::Incomplete(needed) => {
                    assert!(needed > cut && needed <= bytes.len(), "{cut}: {needed}")
                }
                other => panic!("{cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_too_long_is_so_however_it_arrives() {
        for (start, words) in [
            ("*", "too big mbulk count string"),
            ("*1\r\n$", "too big bulk count string"),
        ] {
            let long = format!("{start}{}\r\n", "1".repeat(LINE + 3));
            let (first, rest) = (start.len() + LINE, long.len());
            for cut in (0..first).step_by(997).chain([first - 1]) {
                assert!(
                    matches!(read(&long.as_bytes()[..cut], KNOWN), Found::Incomplete(_)),
                    "{cut}"
                );
            }
            for cut in first..=rest {
                assert_eq!(
                    read(&long.as_bytes()[..cut], KNOWN),
                    malformed(words),
                    "{cut}"
                );
            }
        }
    }

    #[test]
    fn many_arguments_are_not_looked_through_for_each_byte() {
        let bytes = [b"*100000\r\n".as_slice(), &b"$1\r\na\r\n".repeat(100_000)].concat();
        let (mut looks, mut needed) = (0, 1);
        while let Found::Incomplete(more) = read(&bytes[..needed], KNOWN) {
            assert!(more > needed && more <= bytes.len());
            (looks, needed) = (looks + 1, more);
        }
        assert!(looks < 1000, "{looks} looks");
        assert_eq!(needed, bytes.len());
    }

    #[test]
    fn other_protocols_are_known_by_their_first_line() {
        for line in [
            "POST / HTTP/1.1",
            "post /",
            "Post",
            "GET / HTTP/1.1",
            "get /x http/1.0",
            "  GET\t/  HTTP/2",
            "HEAD / HTTP/1.1",
            "PUT /a HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "patch /a HTTP/1.1",
            "PRI * HTTP/2.0",
            // A script of a page chooses the method itself: these would be commands.
            "DEL /key HTTP/1.1",
            "SET /key HTTP/1.1",
            "RENAME /key HTTP/1.1",
            "FLUSHDB HTTP/1.1",
            "HTTP/1.1 200 OK",
            "Host: localhost:6380",
            "host: x",
            "Content-Type: text/plain",
            "X: SETBIT k 1 1",
            "\x16\x03\x01\x02",
            "\0\0\0\u{85}",
            "\x7f",
        ] {
            assert_eq!(
                read(format!("{line}\r\nSETBIT k 1 1\r\n").as_bytes(), KNOWN),
                Found::Foreign,
                "{line:?}"
            );
        }
        // Not only when the line is whole.
        assert_eq!(read(b"\x16\x03", KNOWN), Found::Foreign);
        for (line, words) in [
            ("GET key", &["GET", "key"][..]),
            ("get /", &["get", "/"]),
            ("GET HTTP", &["GET", "HTTP"]),
            ("ECHO http://x", &["ECHO", "http://x"]),
            (
                "SETBIT trackist_a:b_2026-1 1 1",
                &["SETBIT", "trackist_a:b_2026-1", "1", "1"],
            ),
            ("PING host:", &["PING", "host:"]),
        ] {
            assert_eq!(told(format!("{line}\r\n").as_bytes()).0, words, "{line}");
        }
        let get = b"*2\r\n$3\r\nGET\r\n$10\r\n/ HTTP/1.1\r\n";
        assert_eq!(
            told(get).0,
            ["GET", "/ HTTP/1.1"],
            "what is not typed is no line"
        );
    }

    #[test]
    fn what_is_typed_may_be_quoted() {
        let typed = |line: &str| told(format!("{line}\n").as_bytes()).0;
        assert_eq!(
            typed(r#"SET "a b\x41\n\q" 'it\'s' x"#),
            ["SET", "a bA\nq", "it's", "x"]
        );
        assert_eq!(typed("  "), Vec::<String>::new());
        for wrong in ["\"a", "'a", "\"a\"b"] {
            let line = format!("{wrong}\n");
            assert_eq!(
                read(line.as_bytes(), KNOWN),
                malformed("unbalanced quotes in request"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn too_much_is_refused_before_it_arrives() {
        for (bytes, words) in [
            ("*1048577\r\n", "invalid multibulk length"),
            ("*x\r\n", "invalid multibulk length"),
            ("*1\r\n$134217729\r\n", "invalid bulk length"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n:1\r\n", "expected '$', got ':'"),
        ] {
            assert_eq!(read(bytes.as_bytes(), KNOWN), malformed(words), "{bytes}");
        }
        assert_eq!(
            read(b"*11\r\n", UNKNOWN),
            malformed("unauthenticated multibulk length")
        );
        assert_eq!(
            read(b"*1\r\n$16385\r\n", UNKNOWN),
            malformed("unauthenticated bulk length")
        );
        assert_eq!(
            read(&[b'a'; LINE + 1], KNOWN),
            malformed("too big inline request")
        );
    }
}
