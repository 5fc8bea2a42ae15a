//! Requests of Redis clients: `resp::request::parse`.

use cohortist::resp::request::{AUTHENTICATED, Argument, Limits, Parsed, UNAUTHENTICATED, parse};

use super::{Dice, cuts};

/// The most prefixes of one input that are read.
const PREFIXES: usize = 400;

/// The bytes are what a client sends, from the first to the last.
pub fn check(bytes: &[u8]) {
    for limits in [AUTHENTICATED, UNAUTHENTICATED] {
        prefixes_agree(bytes, limits);
        pieces_agree(bytes, limits);
    }
    the_password_changes_no_meaning(bytes);
    let mut rest = bytes;
    while let Parsed::Request { arguments, len } = parse(rest, AUTHENTICATED) {
        places_are_inside(&arguments, len, rest);
        encoding_is_read_back(
            &arguments
                .iter()
                .map(|argument| argument.bytes(rest))
                .collect::<Vec<_>>(),
        );
        rest = &rest[len..];
    }
}

/// A beginning of the bytes says "not yet", and how much is needed, or what all of them say.
fn prefixes_agree(bytes: &[u8], limits: Limits) {
    let whole = parse(bytes, limits);
    for cut in cuts(bytes.len(), PREFIXES) {
        match parse(&bytes[..cut], limits) {
            Parsed::Incomplete(needed) => {
                assert!(
                    needed > cut,
                    "{cut} bytes are there, and {needed} are asked for"
                );
                match &whole {
                    Parsed::Request { len, .. } => {
                        assert!(
                            needed <= *len,
                            "{needed} bytes are asked for at {cut}, and {len} are enough"
                        );
                        assert!(
                            cut < *len,
                            "the request of {len} bytes is not seen in {cut}"
                        );
                    }
                    // Who sends nonsense may be told later than could be.
                    Parsed::Malformed(_) | Parsed::OtherProtocol | Parsed::Incomplete(_) => {}
                }
            }
            found => assert_eq!(
                found,
                whole,
                "the first {cut} bytes and all {}",
                bytes.len()
            ),
        }
    }
}

/// A request as it is understood.
type Request = Vec<Vec<u8>>;

fn owned(arguments: &[Argument], bytes: &[u8]) -> Request {
    arguments
        .iter()
        .map(|argument| argument.bytes(bytes).to_vec())
        .collect()
}

/// All requests of the bytes, and what the last of them says that is none.
fn at_once(bytes: &[u8], limits: Limits) -> (Vec<Request>, Parsed) {
    let (mut requests, mut rest) = (Vec::new(), bytes);
    loop {
        match parse(rest, limits) {
            Parsed::Request { arguments, len } => {
                assert!(
                    len > 0 && len <= rest.len(),
                    "a request of {len} bytes in {}",
                    rest.len()
                );
                requests.push(owned(&arguments, rest));
                rest = &rest[len..];
            }
            end => return (requests, end),
        }
    }
}

/// However the bytes arrive, and though nobody looks before what was asked for is there, the same
/// requests are found.
fn pieces_agree(bytes: &[u8], limits: Limits) {
    let (expected, end) = at_once(bytes, limits);
    let mut dice = Dice::of(bytes);
    for most in [1, 7, 64] {
        let (mut found, mut buffer, mut needed, mut arrived) = (Vec::new(), Vec::new(), 1, 0);
        let mut refused = None;
        while arrived < bytes.len() && refused.is_none() {
            let piece = dice
                .roll(most.max(bytes.len() / 200))
                .min(bytes.len() - arrived);
            buffer.extend_from_slice(&bytes[arrived..arrived + piece]);
            arrived += piece;
            while buffer.len() >= needed {
                match parse(&buffer, limits) {
                    Parsed::Request { arguments, len } => {
                        found.push(owned(&arguments, &buffer));
                        buffer.drain(..len);
                        needed = 1;
                    }
                    Parsed::Incomplete(more) => needed = more,
                    end @ (Parsed::Malformed(_) | Parsed::OtherProtocol) => {
                        refused = Some(end);
                        break;
                    }
                }
            }
        }
        assert_eq!(found, expected, "in pieces of at most {most} bytes");
        match refused {
            Some(refused) => assert_eq!(refused, end, "in pieces of at most {most} bytes"),
            // What is left is no request, whoever looks.
            None => assert!(
                !matches!(parse(&buffer, limits), Parsed::Request { .. }),
                "a request was overlooked"
            ),
        }
    }
}

/// Those who have still to give the password may send less, and what they may send means the same.
fn the_password_changes_no_meaning(bytes: &[u8]) {
    match parse(bytes, UNAUTHENTICATED) {
        Parsed::Malformed(_) => {}
        found => assert_eq!(found, parse(bytes, AUTHENTICATED)),
    }
}

fn places_are_inside(arguments: &[Argument], len: usize, bytes: &[u8]) {
    assert!(
        len <= bytes.len(),
        "a request of {len} bytes in {}",
        bytes.len()
    );
    let mut before = 0;
    for argument in arguments {
        match argument {
            Argument::Slice(range) => {
                assert!(
                    before <= range.start && range.start <= range.end && range.end <= len,
                    "{range:?} in {len}"
                );
                assert_eq!(argument.slice(bytes), Some(argument.bytes(bytes)));
                before = range.end;
            }
            Argument::Typed(typed) => {
                assert!(
                    typed.len() <= len,
                    "{} bytes out of a line of {len}",
                    typed.len()
                );
                assert_eq!(argument.slice(bytes), None);
            }
        }
    }
}

/// The same arguments, written as clients write them and as people may type them.
fn encoding_is_read_back(arguments: &[&[u8]]) {
    let mut encoded = format!("*{}\r\n", arguments.len()).into_bytes();
    let mut typed = Vec::new();
    for argument in arguments {
        encoded.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        encoded.extend_from_slice(argument);
        encoded.extend_from_slice(b"\r\n");
        typed.push(b'"');
        typed.extend(
            argument
                .iter()
                .flat_map(|byte| format!("\\x{byte:02x}").into_bytes()),
        );
        typed.extend_from_slice(b"\" ");
    }
    typed.extend_from_slice(b"\r\n");
    let mut lines = vec![encoded];
    // A typed line may have 64 KiB.
    if typed.len() < 64 << 10 {
        lines.push(typed);
    }
    for line in lines {
        match parse(&line, AUTHENTICATED) {
            Parsed::Request {
                arguments: again,
                len,
            } => {
                assert_eq!(len, line.len(), "{}", line.escape_ascii());
                assert_eq!(owned(&again, &line), arguments, "{}", line.escape_ascii());
            }
            other => panic!("{other:?} of {}", line.escape_ascii()),
        }
    }
}
