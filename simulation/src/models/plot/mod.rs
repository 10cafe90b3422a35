//! Plots as SVG: lines and points over linear or logarithmic axes, readable on light and on
//! dark pages.

mod axis;

use std::fmt::Write;

pub use axis::{Axis, Scale};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 548.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 346.0;
/// How many series have a colour of their own.
const COLOURS: usize = 6;

/// Plain classes and no variables, which not every viewer of pictures understands.
const STYLE: &str = "\
svg{font:12px system-ui,sans-serif}.title{font-size:14px;font-weight:600}\
.page{fill:#fff}text{fill:#1f2328}.grid{stroke:#d1d9e0}.frame{stroke:#1f2328;fill:none}\
.line{fill:none;stroke-width:2}.dashed{stroke-dasharray:6 4}\
.rule{stroke:#1f2328;stroke-dasharray:2 3}\
.s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#1a7f37}.s3{stroke:#8250df}\
.s4{stroke:#cf222e}.s5{stroke:#6e7781}\
.f0{fill:#0969da}.f1{fill:#bc4c00}.f2{fill:#1a7f37}.f3{fill:#8250df}\
.f4{fill:#cf222e}.f5{fill:#6e7781}\
@media(prefers-color-scheme:dark){\
.page{fill:#0d1117}text{fill:#e6edf3}.grid{stroke:#3d444d}.frame,.rule{stroke:#e6edf3}\
.s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#3fb950}.s3{stroke:#bc8cff}\
.s4{stroke:#ff7b72}.s5{stroke:#8b949e}\
.f0{fill:#58a6ff}.f1{fill:#f0883e}.f2{fill:#3fb950}.f3{fill:#bc8cff}\
.f4{fill:#ff7b72}.f5{fill:#8b949e}}";

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn, the first below.
    pub series: Vec<Series>,
    /// Heights that mean something, with a word on each.
    pub rules: Vec<(f64, String)>,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Which colour, below 6: series of one colour belong together.
    pub colour: usize,
    /// How it is drawn.
    pub mark: Mark,
    /// Where: x, y.
    pub points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line from point to point.
    Line,
    /// A broken line: theory, bounds.
    Dashed,
    /// Dots, with a bar from low to high: measured values.
    Dots,
}

/// One value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// How much.
    pub y: f64,
    /// How little it may be.
    pub low: f64,
    /// How much it may be.
    pub high: f64,
}

impl Point {
    /// A value that is exact.
    #[must_use]
    pub const fn exact(x: f64, y: f64) -> Self {
        Self { x, y, low: y, high: y }
    }
}

impl Series {
    /// A series of exact values.
    #[must_use]
    pub fn exact(name: &str, colour: usize, mark: Mark, points: &[(f64, f64)]) -> Self {
        let points = points.iter().map(|(x, y)| Point::exact(*x, *y)).collect();
        Self { name: name.to_owned(), colour, mark, points }
    }
}

impl Plot {
    /// The plot as a file.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\"><title>{title}</title><style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n",
            title = escaped(&self.title)
        );
        self.draw_axes(&mut svg);
        for series in &self.series {
            self.draw(series, &mut svg);
        }
        self.draw_rules(&mut svg);
        self.draw_legend(&mut svg);
        svg + "</svg>\n"
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * self.x.part(x)
    }

    fn down(&self, y: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * self.y.part(y)
    }

    // Writing to a string cannot fail: the results below are of no interest.
    fn draw_axes(&self, svg: &mut String) {
        for (value, label) in self.x.ticks() {
            let x = self.across(value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                BOTTOM + 17.0
            );
        }
        for (value, label) in self.y.ticks() {
            let y = self.down(value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let (middle, height) = (f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM));
        let _ = writeln!(
            svg,
            "<path class=\"frame\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(18 {height:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            BOTTOM + 38.0,
            escaped(&self.x.label),
            escaped(&self.y.label)
        );
    }

    fn draw(&self, series: &Series, svg: &mut String) {
        let colour = series.colour % COLOURS;
        if series.mark == Mark::Dots {
            for point in &series.points {
                let (x, y) = (self.across(point.x), self.down(point.y));
                let (low, high) = (self.down(point.low), self.down(point.high));
                let _ = writeln!(
                    svg,
                    "<path class=\"s{colour}\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>\
                     <circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
                );
            }
            return;
        }
        let mut path = String::new();
        for (index, point) in series.points.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1}", self.across(point.x), self.down(point.y));
        }
        let class = if series.mark == Mark::Dashed { "line dashed" } else { "line" };
        let _ = writeln!(svg, "<path class=\"{class} s{colour}\" d=\"{path}\"/>");
    }

    fn draw_rules(&self, svg: &mut String) {
        for (value, word) in &self.rules {
            let y = self.down(*value);
            let _ = writeln!(
                svg,
                "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT + 6.0,
                y - 5.0,
                escaped(word)
            );
        }
    }

    fn draw_legend(&self, svg: &mut String) {
        for (place, series) in self.series.iter().enumerate() {
            let (colour, y) = (series.colour % COLOURS, TOP + 10.0 + 20.0 * place as f64);
            let (start, end, words) = (RIGHT + 12.0, RIGHT + 36.0, RIGHT + 42.0);
            let sign = match series.mark {
                Mark::Dots => format!(
                    "<circle class=\"f{colour}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"/>",
                    f64::midpoint(start, end)
                ),
                Mark::Line | Mark::Dashed => {
                    let dashed = if series.mark == Mark::Dashed { " dashed" } else { "" };
                    format!(
                        "<path class=\"line{dashed} s{colour}\" \
                         d=\"M{start:.1} {y:.1}H{end:.1}\"/>"
                    )
                }
            };
            let _ = writeln!(
                svg,
                "{sign}<text x=\"{words:.1}\" y=\"{:.1}\">{}</text>",
                y + 4.0,
                escaped(&series.name)
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Axis, Mark, Plot, Point, Scale, Series};

    fn plot() -> Plot {
        Plot {
            title: "a < b & c".to_owned(),
            x: Axis::new("x", Scale::Logarithmic, 1.0, 100.0),
            y: Axis::new("y", Scale::Linear, 0.0, 10.0),
            series: vec![
                Series::exact("line", 0, Mark::Line, &[(1.0, 0.0), (100.0, 10.0)]),
                Series {
                    name: "dots".to_owned(),
                    colour: 1,
                    mark: Mark::Dots,
                    points: vec![Point { x: 10.0, y: 5.0, low: 4.0, high: 6.0 }],
                },
            ],
            rules: vec![(5.0, "half".to_owned())],
        }
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        assert!(plot().svg().contains("M78.0 346.0L548.0 40.0"));
    }

    #[test]
    fn a_dot_lies_where_its_axes_say_and_its_bar_around_it() {
        let svg = plot().svg();

        assert!(svg.contains("cx=\"313.0\" cy=\"193.0\""), "{svg}");
        assert!(svg.contains("M313.0 223.6V162.4"), "{svg}");
    }

    #[test]
    fn words_are_escaped() {
        assert!(plot().svg().contains("a &lt; b &amp; c"));
    }
}
