//! Weighted least squares of a straight line, and what can be said of its residuals.

/// A point to be fitted: `x` and `y` in seconds, `weight` above zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) weight: f64,
}

/// The line `y = intercept + slope * x` through weighted points, and the spread around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) intercept: f64,
    pub(super) slope: f64,
    /// Variance of a point of unit weight.
    pub(super) variance: f64,
    /// Weighted mean of `x`.
    centre: f64,
    /// Sum of the weights.
    total: f64,
    /// Weighted sum of squares of `x - centre`.
    spread: f64,
}

/// Fewest points that leave something to judge a line by.
pub(super) const MIN_POINTS: usize = 3;

impl Line {
    /// Fits a line to at least [`MIN_POINTS`] points whose `x` are not all equal.
    pub(super) fn fit(points: &[Point]) -> Option<Self> {
        if points.len() < MIN_POINTS {
            return None;
        }
        let total: f64 = points.iter().map(|p| p.weight).sum();
        let centre = points.iter().map(|p| p.weight * p.x).sum::<f64>() / total;
        let mean = points.iter().map(|p| p.weight * p.y).sum::<f64>() / total;
        let spread: f64 = points.iter().map(|p| p.weight * (p.x - centre).powi(2)).sum();
        if spread <= 0.0 || !spread.is_finite() {
            return None;
        }
        let slope = points.iter().map(|p| p.weight * (p.x - centre) * (p.y - mean)).sum::<f64>() / spread;
        let intercept = mean - slope * centre;
        let squares: f64 = points.iter().map(|p| p.weight * (p.y - intercept - slope * p.x).powi(2)).sum();
        let freedom = points.len().saturating_sub(2).max(1);
        // Weights are relative: scaled to a mean of one, so that the variance is that of an average point.
        #[expect(clippy::cast_precision_loss, reason = "at most a few dozen points")]
        let variance = squares / total * points.len() as f64 / freedom as f64;
        Some(Self { intercept, slope, variance, centre, total, spread })
    }

    /// The line at `x`.
    pub(super) fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }

    /// Variance of [`at`](Self::at), for `count` points.
    pub(super) fn variance_at(&self, x: f64, count: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most a few dozen points")]
        let mean_weight = self.total / count as f64;
        self.variance * mean_weight * (1.0 / self.total + (x - self.centre).powi(2) / self.spread)
    }

    /// Variance of the slope, for `count` points.
    pub(super) fn slope_variance(&self, count: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most a few dozen points")]
        let mean_weight = self.total / count as f64;
        self.variance * mean_weight / self.spread
    }

    /// Runs of equal sign among the residuals.
    pub(super) fn runs(&self, points: &[Point]) -> usize {
        let mut signs = points.iter().map(|p| p.y >= self.at(p.x));
        let Some(mut last) = signs.next() else { return 0 };
        let mut runs = 1;
        for sign in signs {
            if sign != last {
                runs += 1;
                last = sign;
            }
        }
        runs
    }
}

/// Student's t at 99.95 % (one-sided) by degrees of freedom, 1 to 10, then selected values; the last holds beyond.
const T_SMALL: [f64; 10] = [636.6, 31.60, 12.92, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587];
const T_LARGE: [(usize, f64); 6] =
    [(12, 4.318), (15, 4.073), (20, 3.850), (30, 3.646), (60, 3.460), (usize::MAX, 3.373)];

/// Student's t at 99.95 % for `freedom` degrees of freedom.
pub(super) fn student_t(freedom: usize) -> f64 {
    if let Some(&t) = freedom.max(1).checked_sub(1).and_then(|index| T_SMALL.get(index)) {
        return t;
    }
    T_LARGE.iter().find(|(limit, _)| freedom <= *limit).map_or(T_SMALL[9], |(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(f64, f64, f64)]) -> Vec<Point> {
        values.iter().map(|&(x, y, weight)| Point { x, y, weight }).collect()
    }

    #[test]
    fn a_line_is_found_exactly() {
        let line =
            Line::fit(&points(&[(-3.0, 1.0, 1.0), (-2.0, 3.0, 0.5), (-1.0, 5.0, 2.0), (0.0, 7.0, 1.0)])).unwrap();
        assert!((line.slope - 2.0).abs() < 1e-12 && (line.intercept - 7.0).abs() < 1e-12);
        assert!(line.variance < 1e-20);
    }

    #[test]
    fn scaling_all_weights_changes_nothing() {
        let raw = [(-3.0, 1.1), (-2.0, 2.8), (-1.0, 5.3), (0.0, 6.9)];
        let fit = |w: f64| Line::fit(&points(&raw.map(|(x, y)| (x, y, w)))).unwrap();
        let (a, b) = (fit(1.0), fit(1000.0));
        assert!((a.variance_at(0.0, 4) - b.variance_at(0.0, 4)).abs() < 1e-12);
        assert!((a.slope_variance(4) - b.slope_variance(4)).abs() < 1e-12);
    }

    #[test]
    fn points_at_one_moment_have_no_slope() {
        assert_eq!(Line::fit(&points(&[(1.0, 1.0, 1.0); 5])), None);
        assert_eq!(Line::fit(&points(&[(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])), None);
    }

    #[test]
    fn t_shrinks_with_freedom() {
        assert!((1..200).all(|n| student_t(n + 1) <= student_t(n)));
        assert!(student_t(0) > 600.0);
    }
}
