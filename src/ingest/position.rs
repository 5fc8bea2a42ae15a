//! A position in the input, for messages and to continue an import.

/// A position between two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The number of bytes before it, after decompression.
    pub byte: u64,
    /// The number of lines before it.
    pub line: u64,
}
