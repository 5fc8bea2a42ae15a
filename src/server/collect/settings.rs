//! What is collected, and from whom.

use std::fmt;
use std::str::FromStr;

use subtle::{Choice, ConstantTimeEq};
use url::Url;

use crate::sets::Pattern;

/// What analytics libraries may record: the section `[collect]` of the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Collect {
    /// The write keys. A request must name one of them.
    pub keys: Vec<String>,
    /// The sites whose pages may send events.
    pub origins: Vec<Origin>,
    /// The events that are recorded. Others are ignored.
    pub events: Vec<Pattern>,
    /// The properties whose values are recorded, as the undated events `property:value`.
    pub properties: Vec<String>,
    /// Whether events of users who are only known by a device are recorded.
    pub anonymous: bool,
    /// Whether hours are recorded, too.
    pub hourly: bool,
}

impl Default for Collect {
    fn default() -> Self {
        Collect {
            keys: Vec::new(),
            origins: Vec::new(),
            events: vec![Pattern::new("*")],
            properties: Vec::new(),
            anonymous: true,
            hourly: false,
        }
    }
}

/// Leaves out the keys, which are secret.
impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect")
            .field("origins", &self.origins)
            .field("events", &self.events)
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}

impl Collect {
    /// Whether a text is one of the keys. Compares with all of them in constant time, which reveals
    /// nothing about how much of a key was right.
    pub(super) fn has_key(&self, sent: &str) -> bool {
        let same = |key: &String| key.as_bytes().ct_eq(sent.as_bytes());
        self.keys
            .iter()
            .map(same)
            .fold(Choice::from(0), |any, same| any | same)
            .into()
    }

    /// Whether pages of this origin may send events.
    pub(super) fn admits(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.admits(origin))
    }
}

/// The origin of pages, such as `https://www.example.org`, or `*` for all.
///
/// ```
/// use cohortist::server::Origin;
/// assert_eq!("https://WWW.example.org:443/".parse::<Origin>().unwrap().to_string(), "https://www.example.org");
/// assert!("www.example.org".parse::<Origin>().is_err());
/// assert!("https://www.example.org/page".parse::<Origin>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    fn admits(&self, origin: &str) -> bool {
        self.0 == "*" || self.0 == origin
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "*" {
            return Ok(Origin(text.to_owned()));
        }
        let hint = "write the origin of pages as browsers do, such as https://www.example.org, or * for all";
        let url = Url::parse(text).map_err(|_| hint.to_owned())?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https")
            || !is_bare
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(hint.to_owned());
        }
        Ok(Origin(url.origin().ascii_serialization()))
    }
}
