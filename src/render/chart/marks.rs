//! Reads the marks that plotters writes, and writes them in fewer bytes.

use std::fmt::Write as _;

use memchr::memmem;

use crate::calendar::Period;

/// What plotters writes on each text; taken out again, as the whole chart has one font.
pub(super) const DRAWN_FONT: &str = "sans-serif";

/// Attributes that the marks of a group often share.
const SHARED: [&str; 6] = [
    "fill",
    "stroke",
    "stroke-width",
    "opacity",
    "font-size",
    "text-anchor",
];

/// A tag and the text after it. plotters escapes special characters, so `<` and `>` only occur in
/// tags.
struct Tag<'t> {
    inside: &'t str,
    behind: &'t str,
}

/// Returns the tags of marks in their order.
fn tags(marks: &str) -> impl Iterator<Item = Tag<'_>> {
    marks.split('<').skip(1).map(|tag| {
        let (inside, behind) = tag.split_once('>').unwrap_or((tag, ""));
        Tag { inside, behind }
    })
}

impl<'t> Tag<'t> {
    fn is_opening(&self) -> bool {
        !self.inside.starts_with('/')
    }

    fn name(&self) -> &'t str {
        self.inside
            .split(' ')
            .next()
            .expect("split returns at least one part")
    }

    /// Returns names and values, without unneeded ones: the font, defaults, and a trailing space in
    /// points.
    fn attributes(&self) -> impl Iterator<Item = (&'t str, &'t str)> {
        let mut pieces = self.inside[self.name().len()..].split('"');
        std::iter::from_fn(move || {
            let name = pieces.next()?.trim_start().strip_suffix('=')?;
            Some((name, pieces.next()?.trim_end()))
        })
        .filter(|attribute| !matches!(attribute, ("font-family", DRAWN_FONT) | ("opacity", "1")))
    }

    /// Returns its values for [`SHARED`].
    fn shared(&self) -> [Option<&'t str>; SHARED.len()] {
        let mut shared = [None; SHARED.len()];
        for (name, value) in self.attributes() {
            if let Some(place) = SHARED.iter().position(|one| *one == name) {
                shared[place] = Some(value);
            }
        }
        shared
    }
}

/// Wraps marks in a group. The group carries the attributes that all marks share, which halves the
/// size of a chart.
pub(super) fn grouped<'m>(class: &str, attributes: &str, marks: &'m str) -> String {
    let mut all = tags(marks).filter(Tag::is_opening);
    let first = all.next();
    let lines = first.as_ref().is_some_and(|mark| mark.name() == "polyline");
    let mut shared = first.map(|mark| mark.shared()).unwrap_or_default();
    for mark in all {
        shared
            .iter_mut()
            .zip(mark.shared())
            .filter(|(shared, own)| **shared != *own)
            .for_each(|(shared, _)| *shared = None);
    }
    let mut out = String::with_capacity(marks.len());
    let _ = write!(out, "<g class=\"{class}\"{attributes}");
    for (name, value) in SHARED.into_iter().zip(shared) {
        let Some(value) = value else { continue };
        // Opacity on the group would change how crossing lines look.
        let name = match (name, lines) {
            ("opacity", true) => "stroke-opacity",
            ("opacity", false) => "fill-opacity",
            (name, _) => name,
        };
        out.extend([" ", name, "=\"", value, "\""]);
    }
    out.push('>');
    let is_common = |name: &str| {
        SHARED
            .iter()
            .zip(shared)
            .any(|(one, common)| *one == name && common.is_some())
    };
    let own = |tag: &Tag<'m>| {
        tag.attributes()
            .filter(|(name, _)| !is_common(name))
            .collect::<Vec<_>>()
    };
    // Lines without attributes of their own are merged into one path: `<path d="M1,2 3,4…"/>`.
    // Others stay as they are.
    let is_path = lines
        && ["rules", "whiskers"].contains(&class)
        && tags(marks).all(|line| matches!(own(&line)[..], [("points", _)]));
    if is_path {
        out.push_str("<path d=\"");
        for line in tags(marks) {
            own(&line)
                .iter()
                .for_each(|(_, points)| out.extend(["M", points]));
        }
        out.push_str("\"/>");
    } else {
        for tag in tags(marks) {
            out.extend(["<", tag.name()]);
            for (name, value) in own(&tag) {
                out.extend([" ", name, "=\"", value, "\""]);
            }
            out.push_str(if tag.inside.ends_with('/') { "/>" } else { ">" });
            out.extend(tag.behind.split('\n'));
        }
    }
    out.push_str("</g>");
    out
}

/// Adds the period of its cohort to each mark of a group, in their order: `data-at="2026-11-16"`.
/// The page's script finds marks by it.
pub(super) fn addressed(
    group: &str,
    mark: &str,
    cohorts: impl IntoIterator<Item = Period>,
) -> String {
    let start = format!("<{mark} ");
    let places = memmem::find_iter(group.as_bytes(), &start).map(|place| place + start.len());
    let mut out = String::with_capacity(group.len() * 3 / 2);
    let mut from = 0;
    for (place, period) in places.zip(cohorts) {
        out.push_str(&group[from..place]);
        let _ = write!(out, "data-at=\"{period}\" ");
        from = place;
    }
    out.push_str(&group[from..]);
    out
}
