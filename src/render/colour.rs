//! The colours of the heat grid: one hue, 101 steps, a light and a dark theme, and text that can be
//! read on each.
//!
//! [`css`] writes them as classes `.h0` … `.h100`, because the pages' Content-Security-Policy allows no inline style.

use std::fmt::{self, Write as _};

/// The minimum contrast of text on its background that WCAG 2.2 accepts at level AA.
pub const MIN_CONTRAST: f64 = 4.5;

/// The last step of the ramp: 100 %.
pub const LAST_STEP: u8 = 100;

/// An sRGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    const WHITE: Rgb = Rgb(255, 255, 255);
    const BLACK: Rgb = Rgb(0, 0, 0);
    /// The dark text colour on shades; the light one is white.
    const NIGHT: Rgb = Rgb(0x0a, 0x12, 0x1a);

    /// Mixes two colours: `part` of `whole` of the way to `other`.
    fn towards(self, other: Rgb, part: u8, whole: u8) -> Rgb {
        let channel = |a: u8, b: u8| {
            let part = u32::from(part.min(whole));
            let whole = u32::from(whole.max(1));
            let sum = u32::from(a) * (whole - part) + u32::from(b) * part + whole / 2;
            u8::try_from(sum / whole).expect("a mean of bytes is a byte")
        };
        Rgb(
            channel(self.0, other.0),
            channel(self.1, other.1),
            channel(self.2, other.2),
        )
    }

    /// Returns the relative luminance as defined by WCAG 2.2, 0–1.
    pub fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let c = f64::from(channel) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// The contrast ratio of two colours by WCAG 2.2, 1–21.
    ///
    /// ```
    /// use cohortist::render::colour::Rgb;
    /// assert_eq!(Rgb(0, 0, 0).contrast(Rgb(255, 255, 255)).round(), 21.0);
    /// ```
    pub fn contrast(self, other: Rgb) -> f64 {
        let a = self.luminance();
        let b = other.luminance();
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// A theme of the pages. `static/app.css` repeats its colours; a test compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Dark text on white cards.
    Light,
    /// Light text on dark cards.
    Dark,
}

/// One step of the ramp in one theme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shade {
    /// The background of the cell.
    pub ground: Rgb,
    /// The stripes over the background of a cell in progress. The contrast with the text is at
    /// least [`MIN_CONTRAST`].
    pub stripe: Rgb,
    /// The text on both.
    pub text: Rgb,
}

impl Theme {
    /// Returns the background of cards.
    pub const fn card(self) -> Rgb {
        match self {
            Theme::Light => Rgb(0xff, 0xff, 0xff),
            Theme::Dark => Rgb(0x13, 0x1c, 0x25),
        }
    }

    /// Returns the colour of ordinary text.
    pub const fn ink(self) -> Rgb {
        match self {
            Theme::Light => Rgb(0x0f, 0x1b, 0x28),
            Theme::Dark => Rgb(0xe6, 0xed, 0xf3),
        }
    }

    /// Returns the colour of secondary text.
    pub const fn mute(self) -> Rgb {
        match self {
            Theme::Light => Rgb(0x56, 0x67, 0x78),
            Theme::Dark => Rgb(0x9a, 0xa9, 0xb8),
        }
    }

    /// Returns the colour of rules and borders.
    pub const fn line(self) -> Rgb {
        match self {
            Theme::Light => Rgb(0xe2, 0xe8, 0xee),
            Theme::Dark => Rgb(0x24, 0x32, 0x40),
        }
    }

    /// Returns the accent colour, the hue of the ramp.
    pub const fn accent(self) -> Rgb {
        match self {
            Theme::Light => Rgb(0x18, 0x5a, 0x96),
            Theme::Dark => Rgb(0x7a, 0xb8, 0xea),
        }
    }

    /// Returns the stops of the ramp: percent and colour, from 0 to 100. Higher rates contrast more
    /// with the card. Where the text colour changes, a longer step skips the backgrounds on which
    /// neither text colour is readable.
    const fn stops(self) -> [(u8, Rgb); 8] {
        match self {
            Theme::Light => [
                (0, Rgb(0xf7, 0xfa, 0xfc)),
                (10, Rgb(0xde, 0xec, 0xf6)),
                (25, Rgb(0xb4, 0xd4, 0xec)),
                (45, Rgb(0x74, 0xad, 0xd8)),
                (65, Rgb(0x3a, 0x82, 0xbc)),
                (66, Rgb(0x35, 0x7a, 0xb4)),
                (85, Rgb(0x18, 0x5a, 0x96)),
                (100, Rgb(0x0a, 0x3d, 0x70)),
            ],
            Theme::Dark => [
                (0, Rgb(0x15, 0x1f, 0x29)),
                (10, Rgb(0x17, 0x2f, 0x44)),
                (25, Rgb(0x1a, 0x45, 0x6b)),
                (45, Rgb(0x22, 0x66, 0x9e)),
                (55, Rgb(0x32, 0x7a, 0xb4)),
                (56, Rgb(0x38, 0x82, 0xbd)),
                (85, Rgb(0x84, 0xbe, 0xec)),
                (100, Rgb(0xc2, 0xe2, 0xfa)),
            ],
        }
    }

    fn ground(self, step: u8) -> Rgb {
        let stops = self.stops();
        let mut below = stops[0];
        for above in stops {
            if step <= above.0 {
                return below.1.towards(above.1, step - below.0, above.0 - below.0);
            }
            below = above;
        }
        below.1
    }

    /// Returns the colours of a step, 0–100. Greater steps count as 100.
    pub fn shade(self, step: u8) -> Shade {
        let ground = self.ground(step.min(LAST_STEP));
        let inks = [Rgb::NIGHT, Rgb::WHITE];
        let text = inks
            .into_iter()
            .find(|ink| ink.contrast(ground) >= MIN_CONTRAST)
            .expect("a test checks the contrast of every step");
        // Stripes differ from the background in the direction away from the text, which increases
        // contrast. On a background close to white or black such stripes would be invisible, so
        // they go a little towards the text.
        let (away, back) = if text.luminance() < ground.luminance() {
            (
                ground.towards(Rgb::WHITE, 45, 100),
                ground.towards(Theme::Light.accent(), 11, 100),
            )
        } else {
            (
                ground.towards(Rgb::BLACK, 40, 100),
                ground.towards(Theme::Dark.accent(), 16, 100),
            )
        };
        let stripe = if away.contrast(ground) >= 1.2 {
            away
        } else {
            back
        };
        Shade {
            ground,
            stripe,
            text,
        }
    }
}

/// Returns the step of a rate (0–1): its percentage, rounded. Only a rate of 0 is step 0.
pub fn step(rate: f64) -> u8 {
    // Clamped to 0–100 first, so the cast cannot lose anything but the fraction.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let percent = (rate * 100.0).round().clamp(0.0, f64::from(LAST_STEP)) as u8;
    if rate > 0.0 { percent.max(1) } else { percent }
}

/// Returns the classes `.h0` … `.h100` in both themes, and the gradient of the legend.
pub fn css() -> String {
    let mut css = String::with_capacity(16_384);
    theme_css(&mut css, Theme::Light);
    css.push_str("@media screen and (prefers-color-scheme:dark){");
    theme_css(&mut css, Theme::Dark);
    css.push_str("}\n");
    css
}

fn theme_css(css: &mut String, theme: Theme) {
    for step in 0..=LAST_STEP {
        let Shade {
            ground,
            stripe,
            text,
        } = theme.shade(step);
        // Writing to a string cannot fail.
        let _ = writeln!(
            css,
            ".h{step}{{background-color:{ground};color:{text};--stripe:{stripe}}}"
        );
    }
    let stops: Vec<String> = theme
        .stops()
        .iter()
        .map(|(at, colour)| format!("{colour} {at}%"))
        .collect();
    let _ = writeln!(
        css,
        ".scale{{background:linear-gradient(90deg,{})}}",
        stops.join(",")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_readable_on_every_step_and_on_its_stripes() {
        for theme in [Theme::Light, Theme::Dark] {
            for step in 0..=LAST_STEP {
                let Shade {
                    ground,
                    stripe,
                    text,
                } = theme.shade(step);
                assert!(
                    text.contrast(ground) >= MIN_CONTRAST,
                    "{theme:?} {step}: {text} on {ground}"
                );
                assert!(
                    text.contrast(stripe) >= MIN_CONTRAST,
                    "{theme:?} {step}: {text} on stripe {stripe}"
                );
                assert!(
                    stripe.contrast(ground) >= 1.15,
                    "{theme:?} {step}: stripe {stripe} hides on {ground}"
                );
            }
            assert!(theme.ink().contrast(theme.card()) >= MIN_CONTRAST);
            assert!(theme.mute().contrast(theme.card()) >= MIN_CONTRAST);
            assert!(theme.accent().contrast(theme.card()) >= MIN_CONTRAST);
        }
    }

    #[test]
    fn the_ink_changes_once_along_the_ramp() {
        for theme in [Theme::Light, Theme::Dark] {
            let texts: Vec<Rgb> = (0..=LAST_STEP).map(|step| theme.shade(step).text).collect();
            assert_eq!(
                texts.windows(2).filter(|pair| pair[0] != pair[1]).count(),
                1,
                "{theme:?}: {texts:?}"
            );
            // The edge is at most as strong as a few ordinary steps.
            for step in 1..=LAST_STEP {
                let edge = theme
                    .shade(step)
                    .ground
                    .contrast(theme.shade(step - 1).ground);
                assert!(edge < 1.15, "{theme:?} {step}: {edge}");
            }
        }
    }

    #[test]
    fn the_ramp_leads_steadily_away_from_the_card() {
        for theme in [Theme::Light, Theme::Dark] {
            let from_card = |step: u8| theme.shade(step).ground.contrast(theme.card());
            assert!(from_card(0) < 1.1, "{theme:?} begins at the card");
            for step in 1..=LAST_STEP {
                assert!(from_card(step) > from_card(step - 1), "{theme:?} {step}");
            }
        }
    }

    #[test]
    fn steps_round_and_only_nothing_is_zero() {
        let steps = [0.0, 0.000_1, 0.004, 0.274, 0.995, 1.0, 1.5, f64::NAN].map(step);
        assert_eq!(steps, [0, 1, 1, 27, 100, 100, 100, 0]);
    }

    #[test]
    fn the_stylesheet_uses_the_same_colours() {
        let css = include_str!("../../static/app.css");
        for theme in [Theme::Light, Theme::Dark] {
            let named = [
                ("card", theme.card()),
                ("ink", theme.ink()),
                ("mute", theme.mute()),
                ("accent", theme.accent()),
            ];
            for (name, colour) in named {
                assert!(
                    css.contains(&format!("--{name}:{colour}")),
                    "{theme:?} --{name}:{colour}"
                );
            }
        }
    }
}
