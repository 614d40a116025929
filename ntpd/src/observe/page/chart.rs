//! A chart of up to one day as SVG. Lines stretch with the window, so words stand beside the drawing, as HTML.

use std::fmt::Write as _;

use super::html::Html;
use crate::observe::history::Spread;

/// Minutes without a correction after which the line is broken: more than twice the longest usual interval of 17.
const GAP: u64 = 40;
/// Hours that a chart may show; the fewest that hold all points are taken.
const HOURS: [u32; 5] = [1, 3, 6, 12, 24];
/// Steps tried, from one that fits to ten times as much.
const STEPS: usize = 5;
/// One point of so many may lie beyond the scale,
const OUTLIERS: usize = 20;
/// if it is so much farther away than all others.
const FAR: f64 = 5.0;
/// Height of the drawing in its own units; its width is in minutes.
const HEIGHT: f64 = 100.0;

/// Which levels a chart has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Levels {
    /// Zero is in the middle.
    AroundZero,
    /// The values are in the middle; levels are so far apart at least, that small changes look small.
    Near(f64),
}

/// Draws `points`, each with its age in minutes, from the oldest on.
pub(super) fn draw(
    title: &str,
    what: &str,
    points: &[(u64, Spread)],
    levels: Levels,
    write: impl Fn(f64) -> String,
    out: &mut Html,
) {
    let all = points.iter().map(|(_, spread)| (spread.min, spread.max)).reduce(wider);
    let shown = Shown::of(points, levels);
    out.raw("<figure>\n<figcaption>");
    out.element("strong", "", title);
    out.raw(" ");
    match shown.as_ref().filter(|shown| shown.beyond > 0) {
        Some(Shown { beyond, farthest, .. }) => {
            let points = if *beyond == 1 { "one point is" } else { &format!("{beyond} points are") };
            out.element("span", "note", &format!("{what}; {points} beyond the scale, up to {}", write(*farthest)));
        }
        None => out.element("span", "note", what),
    }
    out.raw("</figcaption>\n");
    let (Some(Shown { low, high, .. }), Some(all)) = (shown, all) else {
        out.raw("<p class=\"nothing\">Nothing was measured yet.</p>\n</figure>\n");
        return;
    };
    let oldest = points.first().map_or(0, |(age, _)| *age);
    let hours = HOURS.into_iter().find(|hours| oldest <= u64::from(hours * 60)).unwrap_or(24);
    let (scale, width) = (Scale::new(low, high, levels), hours * 60);
    out.raw("<div class=\"plot\">\n<div class=\"levels\">");
    for level in [scale.top(), scale.middle(), scale.bottom] {
        out.element("span", "", &write(level));
    }
    out.raw(&format!(
        "</div>\n<svg viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\""
    ));
    out.text(&format!("{title}: from {} to {}", write(all.0), write(all.1)));
    out.raw("\">\n");
    for level in [0.0, HEIGHT / 2.0, HEIGHT] {
        out.raw(&format!("<path class=\"grid\" d=\"M0 {level}H{width}\"/>\n"));
    }
    for points in points.chunk_by(|(older, _), (newer, _)| older - newer <= GAP) {
        out.raw(&format!("<path class=\"band\" d=\"{}\"/>\n", scale.band(points, width)));
        out.raw(&format!("<path class=\"line\" d=\"{}\"/>\n", scale.line(points, width)));
    }
    let middle = if hours == 1 { "30 min ago".to_owned() } else { format!("{} h ago", f64::from(hours) / 2.0) };
    out.raw(&format!(
        "</svg>\n<div class=\"hours\"><span>{hours} h ago</span><span>{middle}</span><span>now</span></div>\n"
    ));
    out.raw("</div>\n");
    out.raw("</figure>\n");
}

fn wider((low, high): (f64, f64), (min, max): (f64, f64)) -> (f64, f64) {
    (low.min(min), high.max(max))
}

/// What the scale is made for. A few points far away from all others, such as a step, do not flatten the rest: they lie at the
/// edge, and the caption says so.
#[derive(Debug, PartialEq)]
struct Shown {
    low: f64,
    high: f64,
    /// Points that are not within.
    beyond: usize,
    /// The value among these that is farthest away.
    farthest: f64,
}

impl Shown {
    fn of(points: &[(u64, Spread)], levels: Levels) -> Option<Self> {
        let center = match levels {
            Levels::AroundZero => 0.0,
            Levels::Near(_) => {
                let mut means: Vec<f64> = points.iter().map(|(_, spread)| spread.mean()).collect();
                means.sort_by(f64::total_cmp);
                means.get(means.len() / 2).copied()?
            }
        };
        let far = |spread: &Spread| {
            let [low, high] = [spread.min, spread.max].map(|value| (value - center).abs());
            if low > high { spread.min } else { spread.max }
        };
        let distance = |spread: &Spread| (far(spread) - center).abs();
        let mut distances: Vec<f64> = points.iter().map(|(_, spread)| distance(spread)).collect();
        distances.sort_by(f64::total_cmp);
        let usual =
            distances.len().checked_sub(1 + distances.len() / OUTLIERS).and_then(|at| distances.get(at)).copied()?;
        let limit = if usual > 0.0 { usual * FAR } else { f64::INFINITY };
        let (near, beyond): (Vec<&Spread>, Vec<&Spread>) =
            points.iter().map(|(_, spread)| spread).partition(|spread| distance(spread) <= limit);
        let (low, high) = near.iter().map(|spread| (spread.min, spread.max)).reduce(wider)?;
        let farthest =
            beyond.iter().map(|spread| far(spread)).max_by(|a, b| (a - center).abs().total_cmp(&(b - center).abs()));
        Some(Self { low, high, beyond: beyond.len(), farthest: farthest.unwrap_or(center) })
    }
}

/// From values to heights: three levels at even distances. What is not between them lies at the edge.
struct Scale {
    bottom: f64,
    step: f64,
}

impl Scale {
    fn new(low: f64, high: f64, levels: Levels) -> Self {
        let least = match levels {
            Levels::AroundZero => {
                let step = nice(high.abs().max(low.abs()).max(f64::MIN_POSITIVE.sqrt()));
                return Self { bottom: -step, step };
            }
            Levels::Near(least) => least,
        };
        let mut step = nice(((high - low) / 2.0).max(least));
        // What is not between round numbers is between larger ones: ten times as large ones always do.
        for _ in 0..STEPS {
            let bottom = (((low + high) / 2.0 / step).round() - 1.0) * step;
            if bottom <= low && bottom + 2.0 * step >= high {
                return Self { bottom, step };
            }
            step = nice(step * 1.01);
        }
        Self { bottom: low, step }
    }

    fn middle(&self) -> f64 {
        self.bottom + self.step
    }

    fn top(&self) -> f64 {
        self.bottom + 2.0 * self.step
    }

    fn y(&self, value: f64) -> f64 {
        (HEIGHT * (self.top() - value) / (2.0 * self.step)).clamp(0.0, HEIGHT)
    }

    fn line(&self, points: &[(u64, Spread)], width: u32) -> String {
        let mut path = String::new();
        for (place, (age, spread)) in points.iter().enumerate() {
            let _ =
                write!(path, "{}{} {:.1}", if place == 0 { 'M' } else { 'L' }, x(*age, width), self.y(spread.mean()));
        }
        // A line of no length with round ends is a dot.
        if points.len() == 1 { path + "h0" } else { path }
    }

    fn band(&self, points: &[(u64, Spread)], width: u32) -> String {
        let mut path = String::new();
        for (place, (age, spread)) in points.iter().enumerate() {
            let _ = write!(path, "{}{} {:.1}", if place == 0 { 'M' } else { 'L' }, x(*age, width), self.y(spread.max));
        }
        for (age, spread) in points.iter().rev() {
            let _ = write!(path, "L{} {:.1}", x(*age, width), self.y(spread.min));
        }
        path + "Z"
    }
}

fn x(age: u64, width: u32) -> u64 {
    u64::from(width).saturating_sub(age)
}

/// The least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `value`, which is positive.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0].into_iter().map(|factor| factor * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_is_within_the_scale(low in -1e6..1e6_f64, more in 0.0..1e6_f64, exponent in -3..3_i32, zero: bool) {
            let (low, high) = (low * 10_f64.powi(exponent), (low + more) * 10_f64.powi(exponent));
            let scale = Scale::new(low, high, if zero { Levels::AroundZero } else { Levels::Near(1e-6) });
            let slack = scale.step * 1e-6;
            prop_assert!(scale.bottom <= low + slack && scale.top() >= high - slack, "{} {}", scale.bottom, scale.step);
            prop_assert!(scale.y(high) <= scale.y(low));
        }
    }

    fn points(values: impl IntoIterator<Item = f64>) -> Vec<(u64, Spread)> {
        values.into_iter().zip((0..1_440).rev()).map(|(value, age)| (age, Spread::of(value))).collect()
    }

    #[test]
    fn a_step_does_not_flatten_a_day() {
        let usual = |number: i32| f64::from(number % 7 - 3) * 1e-5;
        let day = |step: f64| points((0..85).map(|number| if number == 2 { step } else { usual(number) }));
        let shown = Shown::of(&day(-86_400.0), Levels::AroundZero).unwrap();
        assert_eq!((shown.beyond, shown.farthest), (1, -86_400.0));
        assert!((shown.low + 3e-5).abs() < 1e-12 && (shown.high - 3e-5).abs() < 1e-12, "{shown:?}");
        let shown = Shown::of(&day(1e-4), Levels::AroundZero).unwrap();
        assert_eq!((shown.high, shown.beyond), (1e-4, 0), "that is not far");
        // More than a few are what the day was like.
        let half = points((0..85).map(|number| if number % 2 == 0 { 1.0 } else { usual(number) }));
        assert_eq!(Shown::of(&half, Levels::AroundZero).unwrap().beyond, 0);
        // Of few points each counts, and where nothing else was wrong the step is all there is.
        assert_eq!(Shown::of(&points([0.0, 1e-5, 1.0]), Levels::AroundZero).unwrap().high, 1.0);
        assert_eq!(
            Shown::of(&points((0..85).map(|n| f64::from(u8::from(n == 2)))), Levels::AroundZero).unwrap().high,
            1.0
        );
        let rates = points((0..85).map(|number| if number == 80 { 500.0 } else { 12.3 + usual(number) }));
        let shown = Shown::of(&rates, Levels::Near(0.01)).unwrap();
        assert_eq!((shown.beyond, shown.farthest), (1, 500.0));
        assert!(shown.high < 12.4);
        let mut out = Html::default();
        draw("Corrections", "what was wrong", &day(-2.5), Levels::AroundZero, |value| value.to_string(), &mut out);
        assert!(out.0.contains("what was wrong; one point is beyond the scale, up to -2.5"), "{}", out.0);
        assert!(out.0.contains("from -2.5 to 0.00003"), "of all points: {}", out.0);
    }

    #[test]
    fn levels_are_round_numbers() {
        for (low, high, levels, bottom, step) in [
            (-0.000_3, 0.000_12, Levels::AroundZero, -0.000_5, 0.000_5),
            (0.0, 0.0, Levels::Near(0.01), -0.01, 0.01),
            (12.31, 12.39, Levels::Near(0.01), 12.30, 0.05),
            (-3.0, 4.0, Levels::Near(0.01), -5.0, 5.0),
        ] {
            let scale = Scale::new(low, high, levels);
            assert!((scale.step / step - 1.0).abs() < 1e-9, "{low} {high}: {}", scale.step);
            assert!((scale.bottom - bottom).abs() < step * 1e-6, "{low} {high}: {}", scale.bottom);
        }
    }
}
