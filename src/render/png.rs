//! Charts as PNG pictures, from their SVG. The fonts are inside the program, so that a picture is the
//! same on every machine.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

/// Latin, Greek and Cyrillic letters, figures and the signs of charts. `static/fonts/LICENSE.txt` is
/// their licence.
const FACES: [&[u8]; 2] = [
    include_bytes!("../../static/fonts/Inter-Regular.ttf"),
    include_bytes!("../../static/fonts/Inter-Bold.ttf"),
];

const FAMILY: &str = "Inter";

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for face in FACES {
        fonts.load_font_data(face.to_vec());
    }
    fonts.set_sans_serif_family(FAMILY);
    Arc::new(fonts)
});

/// Draws one of our own charts. One unit of the SVG is one pixel.
pub fn of_svg(svg: &str) -> Vec<u8> {
    let options = Options {
        fontdb: Arc::clone(&FONTS),
        font_family: FAMILY.to_owned(),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).expect("a chart is well-formed");
    let size = tree.size().to_int_size();
    let mut pixels = Pixmap::new(size.width(), size.height()).expect("a chart has a size");
    resvg::render(&tree, Transform::identity(), &mut pixels.as_mut());
    pixels.encode_png().expect("encoding to memory cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many pixels are dark.
    fn ink(svg: &str) -> usize {
        let pixels = Pixmap::decode_png(&of_svg(svg)).unwrap();
        let is_dark = |pixel: &&resvg::tiny_skia::PremultipliedColorU8| {
            pixel.alpha() > 200 && pixel.red() < 80
        };
        pixels.pixels().iter().filter(is_dark).count()
    }

    #[test]
    fn every_sign_of_a_chart_has_a_glyph() {
        let text = |text: &str, weight: u32| {
            format!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 60" font-family="system-ui, sans-serif"><text x="10" y="40" font-size="30" font-weight="{weight}">{text}</text></svg>"#
            )
        };
        for weight in [400, 700] {
            for sign in [
                "→", "–", "−", "·", "±", "≥", "÷", "…", "é", "ß", "Ж", "λ", "9", "†",
            ] {
                let drawn = ink(&text(sign, weight));
                assert!(drawn > 3, "{sign} {weight}: {drawn}");
            }
        }
        assert!(ink(&text("Retention", 700)) > ink(&text("Retention", 400)));
    }

    #[test]
    fn a_picture_has_the_size_of_its_chart() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 30"><rect width="40" height="30" fill="#000"/></svg>"##;
        let pixels = Pixmap::decode_png(&of_svg(svg)).unwrap();
        assert_eq!((pixels.width(), pixels.height(), ink(svg)), (40, 30, 1_200));
    }
}
