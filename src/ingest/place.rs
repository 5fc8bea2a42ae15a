//! Where a value is in a line.

/// A column of a CSV file, or a field of a JSON object or of an object nested in it. Its `Debug`
/// text is a part of `Layout::fingerprint`, which is stored, so it must not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The full name, for messages.
    pub name: String,
    /// The index of the column in a CSV file.
    pub place: usize,
    /// The path in a JSON object. In a CSV file the object is in the cell.
    pub path: Vec<String>,
}
