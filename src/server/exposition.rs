//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use crate::telemetry::{Histogram, SECONDS};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// The text so far.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// A metric whose samples are being written.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// Names and values that tell the samples of a metric apart, sorted by name.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Exposition {
    /// A number that only grows. Its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name} is a counter");
        self.family(name, "counter", help)
    }

    /// A number that may go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(!name.ends_with("_total"), "{name} is a gauge");
        self.family(name, "gauge", help)
    }

    /// A distribution of durations, in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(
            name.ends_with("_seconds"),
            "{name} is a histogram of seconds"
        );
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family {
            text: &mut self.0,
            name,
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.put("", labels, None, value);
        self
    }

    /// Adds a sample where the value is known.
    pub fn known(&mut self, labels: Labels<'_>, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.sample(labels, value);
        }
        self
    }

    /// Adds a whole histogram.
    pub fn distribution(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        for (bound, count) in SECONDS.iter().zip(histogram.at_most) {
            self.put("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.put("_bucket", labels, Some("+Inf"), histogram.count);
        self.put("_sum", labels, None, histogram.sum.as_secs_f64());
        self.put("_count", labels, None, histogram.count);
        self
    }

    fn put(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        let bound = bound.map(|bound| ("le", bound));
        let mut pairs = labels.iter().copied().chain(bound).peekable();
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        if pairs.peek().is_some() {
            let mut open = '{';
            for (name, value) in pairs {
                let value = value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                let _ = write!(self.text, "{open}{name}=\"{value}\"");
                open = ',';
            }
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Durations;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut page = Exposition::default();
        page.counter("a_total", "One\\two\nthree.")
            .sample(&[("x", "a\"b\\c\nd"), ("y", "é")], 3);
        page.gauge("b", "None.");
        page.gauge("c", "One.")
            .sample(&[], 0.25)
            .known(&[], None::<u64>);
        let expected = "# HELP a_total One\\\\two\\nthree.\n# TYPE a_total counter\na_total{x=\"a\\\"b\\\\c\\nd\",y=\"é\"} 3\n\
                        # HELP b None.\n# TYPE b gauge\n# HELP c One.\n# TYPE c gauge\nc 0.25\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn a_histogram_has_every_bucket_a_sum_and_a_count() {
        let durations = Durations::new();
        durations.observe(Duration::from_millis(3));
        durations.observe(Duration::from_secs(90));
        let mut page = Exposition::default();
        page.histogram("t_seconds", "Times.")
            .distribution(&[("route", "/")], &durations.histogram());
        let text = page.into_text();
        assert_eq!(text.lines().count(), 2 + SECONDS.len() + 3);
        for line in [
            "t_seconds_bucket{route=\"/\",le=\"0.0025\"} 0\n",
            "t_seconds_bucket{route=\"/\",le=\"0.005\"} 1\n",
            "t_seconds_bucket{route=\"/\",le=\"60\"} 1\n",
            "t_seconds_bucket{route=\"/\",le=\"+Inf\"} 2\n",
            "t_seconds_sum{route=\"/\"} 90.003\n",
            "t_seconds_count{route=\"/\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
