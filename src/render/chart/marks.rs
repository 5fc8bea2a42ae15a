//! Marks as plotters writes them, and as few letters as say the same.

use std::fmt::Write as _;

use memchr::memmem;

use crate::calendar::Period;

/// What plotters writes on each text; taken out again, as the whole chart has one font.
pub(super) const DRAWN_FONT: &str = "sans-serif";

/// What the marks of a group often have in common.
const SHARED: [&str; 6] = [
    "fill",
    "stroke",
    "stroke-width",
    "opacity",
    "font-size",
    "text-anchor",
];

/// A tag, and the text behind it. plotters escapes all signs that have a meaning, so none of them
/// stands for itself.
struct Tag<'t> {
    inside: &'t str,
    behind: &'t str,
}

/// The tags of marks, in their order.
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
        self.inside.split(' ').next().unwrap_or("")
    }

    /// Names and values, without what nobody needs: the font, what is the default, a blank behind
    /// points.
    fn attributes(&self) -> impl Iterator<Item = (&'t str, &'t str)> {
        let mut pieces = self.inside[self.name().len()..].split('"');
        std::iter::from_fn(move || {
            let name = pieces.next()?.trim_start().strip_suffix('=')?;
            Some((name, pieces.next()?.trim_end()))
        })
        .filter(|attribute| !matches!(attribute, ("font-family", DRAWN_FONT) | ("opacity", "1")))
    }

    /// Its values for [`SHARED`].
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

/// A group of marks. What all of them have in common is said once, by the group: that is half a
/// chart's weight.
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
        // A group's own opacity would flatten lines that cross.
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
    // Lines that nobody tells apart are one mark: `<path d="M1,2 3,4…"/>`. Whatever has more to say
    // stays as it is.
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

/// Says of which cohort each of the marks in a group is, in their order, so that a page's script
/// can find them by its period as it stands in addresses: `data-at="2026-11-16"`.
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
        out.push_str(group.get(from..place).unwrap_or(""));
        let _ = write!(out, "data-at=\"{period}\" ");
        from = place;
    }
    out.push_str(group.get(from..).unwrap_or(""));
    out
}
