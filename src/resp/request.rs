//! Parses the requests of clients: arrays of bulk strings, or lines as typed into telnet.
//!
//! Existing parsers (`redis-protocol`, the `redis` crate's own) parse replies: any frame nested in
//! any other, with each string copied. A server needs only one shape, must refuse what is too large
//! before it has arrived, and must send Redis' own error messages, which clients recognize.

use std::ops::Range;

/// The longest line, in bytes: a typed request, or the head of an array or argument.
const LINE: usize = 64 << 10;

/// The number of arguments up to which an array is parsed again whenever bytes arrive.
const FEW: usize = 64;

/// The limits of one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of arguments.
    pub arguments: usize,
    /// The maximum length of one argument, in bytes.
    pub argument: usize,
}

/// The limits of clients that have authenticated or need no password.
pub const AUTHENTICATED: Limits = Limits {
    arguments: 1 << 20,
    argument: 128 << 20,
};

/// The limits of clients that have not authenticated yet, as in Redis.
pub const UNAUTHENTICATED: Limits = Limits {
    arguments: 10,
    argument: 16 << 10,
};

/// The result of parsing the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A request. It has no arguments if the line is empty.
    Request {
        /// The arguments. The first one is the command.
        arguments: Vec<Argument>,
        /// The length of the request in bytes.
        len: usize,
    },
    /// The request is not complete. It has at least this many bytes. Bytes that are not a request
    /// may be refused earlier.
    Incomplete(usize),
    /// The bytes are not a request. The connection must be closed with this message.
    Malformed(String),
    /// The start of another protocol. Nothing after it may be executed: a web page in a browser on
    /// this machine can choose the rest of an HTTP request.
    OtherProtocol,
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A range of the parsed bytes.
    Slice(Range<usize>),
    /// An argument of a typed line, with its escapes resolved.
    Typed(Vec<u8>),
}

impl Argument {
    /// The argument as a slice of the parsed `bytes`. Returns `None` for a typed one.
    pub fn slice<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Argument::Slice(range) => Some(&bytes[range.clone()]),
            Argument::Typed(_) => None,
        }
    }

    /// The bytes of the argument. `bytes` are those that were parsed.
    pub fn bytes<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Argument::Slice(range) => &bytes[range.clone()],
            Argument::Typed(typed) => typed,
        }
    }
}

/// Parses the request at the start of `bytes`.
pub fn parse(bytes: &[u8], limits: Limits) -> Parsed {
    match bytes.first() {
        None => Parsed::Incomplete(1),
        Some(b'*') => array(bytes, limits),
        // No typed line starts with such a byte. A TLS handshake does, and an attacker can choose
        // whole lines inside it.
        Some(byte) if byte.is_ascii_control() && !is_space(byte) => Parsed::OtherProtocol,
        Some(_) => typed(bytes),
    }
}

/// The first line of an array or argument, after its type byte.
enum Head<'a> {
    /// The line without its end, and the index of the next line.
    Line(&'a [u8], usize),
    Incomplete,
    /// Longer than allowed. This depends only on the bytes, not on how they arrive.
    TooLong,
}

/// Reads the head whose type byte is at index `at`.
fn head(bytes: &[u8], at: usize) -> Head<'_> {
    let rest = &bytes[at + 1..];
    match rest.iter().take(LINE).position(|b| *b == b'\r') {
        // Redis accepts any byte after the carriage return as the line feed.
        Some(end) if rest.len() > end + 1 => Head::Line(&rest[..end], at + end + 3),
        None if rest.len() >= LINE => Head::TooLong,
        _ => Head::Incomplete,
    }
}

/// Parses an integer as Redis does: no plus sign, no leading zeros, no spaces.
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

fn malformed(message: impl Into<String>) -> Parsed {
    Parsed::Malformed(message.into())
}

fn array(bytes: &[u8], limits: Limits) -> Parsed {
    let (count, mut at) = match head(bytes, 0) {
        Head::Line(count, at) => (count, at),
        Head::Incomplete => return Parsed::Incomplete(bytes.len() + 1),
        Head::TooLong => return malformed("too big mbulk count string"),
    };
    let count = match number(count).map(usize::try_from) {
        Some(Ok(count)) if count <= AUTHENTICATED.arguments => count,
        // Redis ignores empty and negative arrays.
        Some(Err(_)) => 0,
        _ => return malformed("invalid multibulk length"),
    };
    if count > limits.arguments {
        return malformed("unauthenticated multibulk length");
    }
    // A client may announce more arguments than it sends.
    let mut arguments = Vec::with_capacity(count.min(64));
    for index in 0..count {
        // Each argument has at least six bytes. If many are missing, waiting for all of these bytes
        // avoids parsing the others again and again. If few are missing, a mistake is reported as
        // soon as possible.
        let min_len = |arguments: usize| if arguments > FEW { 6 * arguments } else { 0 };
        let more = Parsed::Incomplete((bytes.len() + 1).max(at + min_len(count - index)));
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
            Some(Ok(len)) if len <= AUTHENTICATED.argument => len,
            _ => return malformed("invalid bulk length"),
        };
        if len > limits.argument {
            return malformed("unauthenticated bulk length");
        }
        if bytes.len() < start + len + 2 {
            return Parsed::Incomplete(start + len + 2 + min_len(count - index - 1));
        }
        arguments.push(Argument::Slice(start..start + len));
        at = start + len + 2;
    }
    Parsed::Request { arguments, len: at }
}

fn typed(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return if bytes.len() > LINE {
            malformed("too big inline request")
        } else {
            Parsed::Incomplete(bytes.len() + 1)
        };
    };
    if end > LINE {
        return malformed("too big inline request");
    }
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if is_http(line) {
        return Parsed::OtherProtocol;
    }
    match words(line) {
        Some(words) => Parsed::Request {
            arguments: words.into_iter().map(Argument::Typed).collect(),
            len: end + 1,
        },
        None => malformed("unbalanced quotes in request"),
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// The methods of HTTP that are not commands. `GET` is a command, so a request with it is recognized
/// by the version at the end of its line.
const METHODS: [&[u8]; 9] = [
    b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI",
];

/// Whether the first word of a request belongs to HTTP: a method, or the name of a header.
pub fn is_http_word(command: &[u8]) -> bool {
    command.ends_with(b":")
        || METHODS
            .iter()
            .any(|method| method.eq_ignore_ascii_case(command))
}

/// Whether a typed line is a request, a status or a header of HTTP. A script can choose any method,
/// also a command of Redis, so every line that ends with a version is a request.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(is_space).filter(|word| !word.is_empty());
    let is_version = |word: &[u8]| {
        word.get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
    };
    let Some(first) = words.next() else {
        return false;
    };
    is_http_word(first) || is_version(first) || words.next_back().is_some_and(is_version)
}

/// Splits a line into words, which may be quoted. Returns `None` if a quote is not closed.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| is_space(byte)).count()..];
        // A zero byte ends the line, as in Redis.
        if rest.first().is_none_or(|byte| *byte == 0) {
            return Some(found);
        }
        let mut word = Vec::new();
        loop {
            match rest {
                [] | [0, ..] => break,
                [byte, ..] if is_space(byte) => break,
                [quote @ (b'"' | b'\''), tail @ ..] => {
                    rest = quoted(*quote, tail, &mut word)?;
                    // A closing quote ends the word.
                    if rest
                        .first()
                        .is_some_and(|next| !is_space(next) && *next != 0)
                    {
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

/// Reads a word up to its closing quote. Returns what is after the quote.
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

    fn parsed(bytes: &[u8]) -> (Vec<String>, usize) {
        match parse(bytes, AUTHENTICATED) {
            Parsed::Request { arguments, len } => (
                arguments
                    .iter()
                    .map(|a| String::from_utf8_lossy(a.bytes(bytes)).into_owned())
                    .collect(),
                len,
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_parsed_one_after_the_other() {
        let bytes = b"*3\r\n$6\r\nSETBIT\r\n$0\r\n\r\n$2\r\n\r\n\r\n*0\r\nPING\r\n";
        assert_eq!(
            parsed(bytes),
            (vec!["SETBIT".into(), String::new(), "\r\n".into()], 30)
        );
        assert_eq!(parsed(&bytes[30..]), (vec![], 4));
        assert_eq!(parsed(&bytes[34..]), (vec!["PING".into()], 6));
    }

    #[test]
    fn a_request_cut_anywhere_is_incomplete() {
        let bytes = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n";
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut], AUTHENTICATED) {
                Parsed::Incomplete(needed) => {
                    assert!(needed > cut && needed <= bytes.len(), "{cut}: {needed}")
                }
                other => panic!("{cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_however_it_arrives() {
        for (start, words) in [
            ("*", "too big mbulk count string"),
            ("*1\r\n$", "too big bulk count string"),
        ] {
            let long = format!("{start}{}\r\n", "1".repeat(LINE + 3));
            let (first, rest) = (start.len() + LINE, long.len());
            for cut in (0..first).step_by(997).chain([first - 1]) {
                assert!(
                    matches!(
                        parse(&long.as_bytes()[..cut], AUTHENTICATED),
                        Parsed::Incomplete(_)
                    ),
                    "{cut}"
                );
            }
            for cut in first..=rest {
                assert_eq!(
                    parse(&long.as_bytes()[..cut], AUTHENTICATED),
                    malformed(words),
                    "{cut}"
                );
            }
        }
    }

    #[test]
    fn many_arguments_are_not_parsed_again_for_each_byte() {
        let bytes = [b"*100000\r\n".as_slice(), &b"$1\r\na\r\n".repeat(100_000)].concat();
        let mut attempts = 0;
        let mut needed = 1;
        while let Parsed::Incomplete(more) = parse(&bytes[..needed], AUTHENTICATED) {
            assert!(more > needed && more <= bytes.len());
            attempts += 1;
            needed = more;
        }
        assert!(attempts < 1000, "{attempts} attempts");
        assert_eq!(needed, bytes.len());
    }

    #[test]
    fn other_protocols_are_recognized_by_their_first_line() {
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
            // A script on a web page can choose the method. These would be commands.
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
                parse(
                    format!("{line}\r\nSETBIT k 1 1\r\n").as_bytes(),
                    AUTHENTICATED
                ),
                Parsed::OtherProtocol,
                "{line:?}"
            );
        }
        // Even before the line is complete.
        assert_eq!(parse(b"\x16\x03", AUTHENTICATED), Parsed::OtherProtocol);
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
            assert_eq!(parsed(format!("{line}\r\n").as_bytes()).0, words, "{line}");
        }
        let get = b"*2\r\n$3\r\nGET\r\n$10\r\n/ HTTP/1.1\r\n";
        assert_eq!(
            parsed(get).0,
            ["GET", "/ HTTP/1.1"],
            "an array is not a typed line"
        );
    }

    #[test]
    fn typed_words_may_be_quoted() {
        let typed = |line: &str| parsed(format!("{line}\n").as_bytes()).0;
        assert_eq!(
            typed(r#"SET "a b\x41\n\q" 'it\'s' x"#),
            ["SET", "a bA\nq", "it's", "x"]
        );
        assert_eq!(typed("  "), Vec::<String>::new());
        for wrong in ["\"a", "'a", "\"a\"b"] {
            let line = format!("{wrong}\n");
            assert_eq!(
                parse(line.as_bytes(), AUTHENTICATED),
                malformed("unbalanced quotes in request"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn large_requests_are_refused_before_they_arrive() {
        for (bytes, words) in [
            ("*1048577\r\n", "invalid multibulk length"),
            ("*x\r\n", "invalid multibulk length"),
            ("*1\r\n$134217729\r\n", "invalid bulk length"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n:1\r\n", "expected '$', got ':'"),
        ] {
            assert_eq!(
                parse(bytes.as_bytes(), AUTHENTICATED),
                malformed(words),
                "{bytes}"
            );
        }
        assert_eq!(
            parse(b"*11\r\n", UNAUTHENTICATED),
            malformed("unauthenticated multibulk length")
        );
        assert_eq!(
            parse(b"*1\r\n$16385\r\n", UNAUTHENTICATED),
            malformed("unauthenticated bulk length")
        );
        assert_eq!(
            parse(&[b'a'; LINE + 1], AUTHENTICATED),
            malformed("too big inline request")
        );
    }
}
