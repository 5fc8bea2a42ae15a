//! Parts of messages about fields.

pub(super) fn utf8(field: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(field).map_err(|_| format!("`{}` is not UTF-8", excerpt(field)))
}

/// Returns a field for use in a message: at most 40 characters, with control characters escaped.
pub(super) fn excerpt(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        format!("{short}…")
    } else {
        short
    }
}
