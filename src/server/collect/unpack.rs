//! Takes the JSON out of a body: compressed with gzip or not, as a form or not.

use std::borrow::Cow;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use flate2::read::GzDecoder;
use url::form_urlencoded;

/// How gzip begins. Some libraries compress without a header that says so.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How the sender wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Mixpanel: an object instead of 1 or 0.
    pub verbose: bool,
    /// Mixpanel: mistakes of an import are answered with 200.
    pub lenient: bool,
}

/// Why a body has no JSON in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It is longer than allowed.
    TooLarge,
    /// It is not what it claims to be, and why.
    Broken(String),
}

/// Returns the length of a body when it is uncompressed, as the body itself says.
pub fn announced(body: &[u8]) -> u64 {
    if !body.starts_with(&GZIP) {
        return body.len() as u64;
    }
    let end = body.last_chunk().map_or(0, |end| u32::from_le_bytes(*end));
    u64::from(end)
}

/// Uncompresses a body of at most `most` bytes.
pub fn uncompressed(body: &[u8], most: usize) -> Result<Cow<'_, [u8]>, Unreadable> {
    if !body.starts_with(&GZIP) {
        return if body.len() > most {
            Err(Unreadable::TooLarge)
        } else {
            Ok(Cow::Borrowed(body))
        };
    }
    // The memory for this length was reserved.
    let length = announced(body);
    if length > most as u64 {
        return Err(Unreadable::TooLarge);
    }
    let mut plain = Vec::new();
    GzDecoder::new(body)
        .take(length + 1)
        .read_to_end(&mut plain)
        .map_err(|error| Unreadable::Broken(format!("the body is not valid gzip: {error}")))?;
    if plain.len() as u64 != length {
        let message = "the body is not valid gzip: its length is wrong";
        return Err(Unreadable::Broken(message.to_owned()));
    }
    Ok(Cow::Owned(plain))
}

/// What a form or the query of an address says beside the events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub data: Option<Vec<u8>>,
    pub key: Option<String>,
    pub style: Style,
}

impl Form {
    /// Reads a query, or a body that is a form.
    pub fn read(text: &[u8]) -> Result<Self, Unreadable> {
        let mut form = Form::default();
        for (name, value) in form_urlencoded::parse(text) {
            match &*name {
                "data" => form.data = Some(data(&value)?),
                "api_key" | "token" => form.key = Some(value.into_owned()),
                "verbose" => form.style.verbose = value != "0",
                "strict" => form.style.lenient = value == "0",
                _ => {}
            }
        }
        Ok(form)
    }

    /// Whether a body is a form, and no JSON.
    pub fn is(body: &[u8]) -> bool {
        let body = body.trim_ascii_start();
        body.first().is_some_and(u8::is_ascii_lowercase)
            && body
                .iter()
                .find(|byte| !byte.is_ascii_alphanumeric() && **byte != b'_')
                == Some(&b'=')
    }
}

/// Returns the JSON in a field of a form, which may be base64.
fn data(value: &str) -> Result<Vec<u8>, Unreadable> {
    let value = value.trim();
    if value.starts_with(['{', '[']) {
        return Ok(value.as_bytes().to_vec());
    }
    // A plus that was not escaped.
    let value = value.replace(' ', "+");
    STANDARD
        .decode(&value)
        .or_else(|_| STANDARD_NO_PAD.decode(&value))
        .map_err(|_| Unreadable::Broken("`data` is neither JSON nor base64".to_owned()))
}

/// Returns the keys in an `Authorization` header: the name and the password of HTTP Basic.
pub fn basic(header: &str) -> Vec<String> {
    let Some((scheme, encoded)) = header.split_once(' ') else {
        return Vec::new();
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Vec::new();
    }
    let decoded = STANDARD.decode(encoded.trim()).unwrap_or_default();
    let text = String::from_utf8(decoded).unwrap_or_default();
    let (name, password) = text.split_once(':').unwrap_or((&text, ""));
    [name, password]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_told_by_its_beginning_and_never_grows_beyond_the_limit() {
        let plain = b"{\"batch\":[]}".repeat(1000);
        let packed = gzip(&plain);
        assert_eq!(announced(&packed), plain.len() as u64);
        assert_eq!(&*uncompressed(&packed, plain.len()).unwrap(), &plain[..]);
        assert_eq!(&*uncompressed(b"{}", 2).unwrap(), b"{}");
        assert_eq!(
            uncompressed(&packed, plain.len() - 1),
            Err(Unreadable::TooLarge)
        );
        assert_eq!(uncompressed(b"abc", 2), Err(Unreadable::TooLarge));
        // A length that is not true.
        let mut lying = packed.clone();
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&[1, 0, 0, 0]);
        assert!(matches!(
            uncompressed(&lying, 100),
            Err(Unreadable::Broken(_))
        ));
        assert!(matches!(
            uncompressed(&packed[..packed.len() / 2], usize::MAX),
            Err(Unreadable::Broken(_))
        ));
        assert!(uncompressed(&GZIP, 100).is_err());
    }

    #[test]
    fn forms_hold_json_or_base64() {
        let read = |text: &str| Form::read(text.as_bytes()).unwrap();
        let form = read("data=%7B%22event%22%3A1%7D&verbose=1&ip=0&api_key=k");
        assert_eq!(form.data.as_deref(), Some(&b"{\"event\":1}"[..]));
        assert_eq!((form.key.as_deref(), form.style.verbose), (Some("k"), true));
        assert_eq!(
            read("data=eyJldmVudCI6MX0%3D").data.as_deref(),
            Some(&b"{\"event\":1}"[..])
        );
        assert_eq!(
            read("data=eyJldmVudCI6MX0").data.as_deref(),
            Some(&b"{\"event\":1}"[..])
        );
        assert!(Form::read(b"data=!").is_err());
        assert!(Form::is(b"data=x") && Form::is(b" api_key=1&data=2"));
        assert!(!Form::is(b"{\"a\":\"b=c\"}") && !Form::is(b"") && !Form::is(b"[1]"));
    }

    #[test]
    fn basic_has_two_keys_at_most() {
        assert_eq!(basic("Basic a2V5Og=="), ["key"]);
        assert_eq!(basic("basic dTpw"), ["u", "p"]);
        assert!(basic("Bearer x").is_empty() && basic("Basic ?").is_empty());
    }
}
