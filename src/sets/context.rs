//! What the text of a set or segment may refer to.

use std::sync::LazyLock;

use crate::calendar::Zone;
use crate::sets::{Catalogue, ExpandError, Pattern, Segment, Segments};

/// What a set may refer to.
#[derive(Debug, Clone, Copy)]
pub struct SetContext<'a> {
    /// The saved segments.
    pub segments: &'a Segments,
    /// The bitmaps that exist, for functions and patterns.
    pub catalogue: &'a Catalogue,
    /// The events that `*` does not match.
    pub hidden: &'a [Pattern],
    /// The zone in which periods begin and end.
    pub zone: Zone,
}

impl SetContext<'static> {
    /// A context without saved segments and bitmaps: to check the syntax of a set.
    pub fn empty() -> Self {
        static SEGMENTS: LazyLock<Segments> = LazyLock::new(Segments::default);
        static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::default);
        SetContext {
            segments: &SEGMENTS,
            catalogue: &CATALOGUE,
            hidden: &[],
            zone: Zone::UTC,
        }
    }
}

impl SetContext<'_> {
    /// Replaces saved segments and patterns, see [`Segments::expand`].
    ///
    /// # Errors
    /// Returns the errors of [`Segments::expand`].
    pub fn expand(&self, segment: &Segment) -> Result<Segment, ExpandError> {
        self.segments.expand(segment, self.catalogue, self.hidden)
    }
}
