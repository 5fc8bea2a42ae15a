//! The patterns of KEYS and SCAN. Pure.

/// Whether a text fits a pattern as Redis reads it: `*`, `?`, `[abc]`, `[^a-z]`, and `\` in front
/// of what stands for itself. Works on bytes, takes time in proportion to the product of the
/// lengths, and never calls itself.
pub fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star has to take one more.
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
            (None, Some((behind, from))) if from < text.len() => {
                star = Some((behind, from + 1));
                (p, t) = (behind, from + 1);
            }
            _ => return false,
        }
    }
}

/// How long what stands at the beginning of a pattern is, if it takes the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let (len, takes) = class(rest, byte);
            takes.then_some(1 + len)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// A class behind its bracket: how long it is, and whether the byte is in it. One that is not
/// closed ends with the pattern.
fn class(pattern: &[u8], byte: u8) -> (usize, bool) {
    let negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut takes = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                takes |= *escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                takes |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                takes |= *plain == byte;
                at += 1;
            }
        }
    }
    (at.min(pattern.len()), takes != negated)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_are_redis_own() {
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
                fits(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        assert!(!fits(
            "a*".repeat(200).as_bytes(),
            "a".repeat(199).as_bytes()
        ));
        assert!(!fits(
            format!("{}b", "*a".repeat(100)).as_bytes(),
            "a".repeat(10_000).as_bytes()
        ));
    }
}
