//! The patterns of KEYS and SCAN.

/// Whether a text matches a pattern of Redis: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a character
/// that stands for itself. Works on bytes, without recursion, in time proportional to the product of
/// the lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut p = 0;
    let mut t = 0;
    // Where to continue in both if the last star must match one more byte.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(_), Some(byte)) => one(&pattern[p..], *byte),
            _ => None,
        };
        match (step, star) {
            (Some(len), _) => {
                p += len;
                t += 1;
            }
            (None, Some((after_star, from))) if from < text.len() => {
                star = Some((after_star, from + 1));
                p = after_star;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// The length of the first element of a pattern, or `None` if the byte does not match it.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let (len, is_match) = class(rest, byte);
            is_match.then_some(1 + len)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// The length of a class after its opening bracket, and whether the byte matches it. A class that is
/// not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> (usize, bool) {
    let is_negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut is_member = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_member |= *escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                is_member |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                is_member |= *plain == byte;
                at += 1;
            }
        }
    }
    (at.min(pattern.len()), is_member != is_negated)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("trackist_*_2026-1-9", "trackist_a_b_2026-1-9", true),
            ("h?llo", "hllo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[z-a]llo", "hello", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[abc", "b", true),
            ("[]a", "a", false),
            ("**a**", "bab", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn no_pattern_takes_exponential_time() {
        assert!(!matches(
            "a*".repeat(200).as_bytes(),
            "a".repeat(199).as_bytes()
        ));
        assert!(!matches(
            format!("{}b", "*a".repeat(100)).as_bytes(),
            "a".repeat(10_000).as_bytes()
        ));
    }
}
