//! Finds room for labels: boxes that touch neither a line nor each other.

/// A point of a canvas, in units from its upper left corner.
pub(super) type Spot = (f64, f64);

/// The box of a text on a canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Frame {
    /// Returns the box of a bold text of a font size, centred above a point.
    pub fn above((x, bottom): Spot, text: &str, size: f64) -> Self {
        let half = text.chars().fold(0.0, |sum, _| sum + 0.33 * size);
        Frame {
            left: x - half,
            top: bottom - size,
            right: x + half,
            bottom,
        }
    }

    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    pub fn middle(&self) -> f64 {
        f64::midpoint(self.left, self.right)
    }

    pub fn moved(self, x: f64, y: f64) -> Self {
        Frame {
            left: self.left + x,
            top: self.top + y,
            right: self.right + x,
            bottom: self.bottom + y,
        }
    }

    /// Moves the box sideways until it is between two edges.
    pub fn between(self, left: f64, right: f64) -> Self {
        let over = (self.right - right).max(0.0);
        self.moved((left - self.left).max(-over), 0.0)
    }

    fn overlaps(&self, other: &Frame) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    /// Whether a straight line crosses the box or comes nearer than `gap`.
    fn meets(&self, (from, to): (Spot, Spot), gap: f64) -> bool {
        // The part of the line, from 0 to 1, that is inside, clipped at one axis after the other.
        let mut begin = 0.0_f64;
        let mut end = 1.0_f64;
        let along = (to.0 - from.0, to.1 - from.1);
        for (way, room) in [
            (-along.0, from.0 - self.left + gap),
            (along.0, self.right + gap - from.0),
            (-along.1, from.1 - self.top + gap),
            (along.1, self.bottom + gap - from.1),
        ] {
            if way == 0.0 {
                if room < 0.0 {
                    return false;
                }
            } else if way < 0.0 {
                begin = begin.max(room / way);
            } else {
                end = end.min(room / way);
            }
        }
        begin <= end
    }
}

/// The areas that labels must avoid.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    lines: Vec<(Spot, Spot, f64)>,
    frames: Vec<Frame>,
}

impl Taken {
    /// Adds a line through some points, from `from` to `to` horizontally. Labels keep a `gap` from
    /// it.
    pub fn line(&mut self, points: &[Spot], gap: f64) {
        self.lines
            .extend(points.windows(2).map(|pair| (pair[0], pair[1], gap)));
        if let [alone] = points {
            self.lines.push((*alone, *alone, gap));
        }
    }

    /// Adds another label.
    pub fn frame(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    pub fn is_free(&self, frame: &Frame) -> bool {
        !self
            .lines
            .iter()
            .any(|(from, to, gap)| frame.meets((*from, *to), *gap))
            && !self.frames.iter().any(|other| frame.overlaps(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_meet_lines_that_run_through_them_or_near() {
        let frame = Frame {
            left: 10.0,
            top: 10.0,
            right: 30.0,
            bottom: 20.0,
        };
        let mut cases = Vec::new();
        for (from, to, gap) in [
            ((0.0, 15.0), (40.0, 15.0), 0.0),
            ((0.0, 0.0), (40.0, 30.0), 0.0),
            ((15.0, 15.0), (15.0, 15.0), 0.0),
            ((0.0, 24.0), (40.0, 24.0), 5.0),
            ((0.0, 24.0), (40.0, 24.0), 3.0),
            ((0.0, 15.0), (9.0, 15.0), 0.0),
            ((0.0, 0.0), (0.0, 40.0), 5.0),
            ((40.0, 0.0), (32.0, 40.0), 0.0),
        ] {
            let mut taken = Taken::default();
            taken.line(&[from, to], gap);
            cases.push(!taken.is_free(&frame));
        }
        assert_eq!(cases, [true, true, true, true, false, false, false, false]);
        let mut taken = Taken::default();
        taken.line(&[(20.0, 22.0)], 3.0);
        assert!(!taken.is_free(&frame) && taken.is_free(&frame.moved(0.0, -5.0)));
        taken.frame(frame.moved(0.0, -12.0));
        assert!(!taken.is_free(&frame.moved(0.0, -5.0)) && taken.is_free(&frame.moved(20.0, -5.0)));
        assert_eq!(frame.between(12.0, 90.0).left, 12.0);
        assert_eq!(frame.between(0.0, 25.0).right, 25.0);
    }
}
