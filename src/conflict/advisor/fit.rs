//! Softmax regression: weights under which the choices that were made are the likeliest, held small by a penalty.
//!
//! The loss and its gradient are here, over sparse rows (a case has about 25 features of several hundred); the search
//! is L-BFGS (Nocedal, 1980) of `smartcore`. Its own dense regression gave the same answers some tens of times slower.
//! The loss is convex, so a search from zero needs no luck and no seed.

use std::cell::RefCell;

use smartcore::optimization::first_order::FirstOrderOptimizer;
use smartcore::optimization::first_order::lbfgs::LBFGS;
use smartcore::optimization::line_search::{LineSearchMethod, LineSearchResult};

/// Steps of a search. It ends sooner, when a step gains less than [`GAIN_MIN`]; typically after 30 to 100.
const STEPS_MAX: usize = 200;
/// Relative gain below which more steps would only polish digits that the model does not keep.
const GAIN_MIN: f64 = 1e-6;
/// Halvings of a step that did not gain. 2^-40 of a step is no step.
const HALVINGS_MAX: u32 = 40;

/// One decision: the features that are not zero, and the class that was chosen.
#[derive(Clone, Debug)]
pub struct Row {
    pub features: Vec<(u32, f64)>,
    pub class: usize,
}

/// Weights by class, each of `features` numbers and then the bias.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    pub rows: &'a [&'a Row],
    pub classes: usize,
    pub features: usize,
    /// Of the squared weights, biases excepted.
    pub penalty: f64,
}

impl Problem<'_> {
    pub fn solve(&self) -> Vec<f64> {
        let start = vec![0.0; self.classes * self.width()];
        let known = RefCell::new(Point::default());
        let loss = |weights: &Vec<f64>| self.at(&known, weights, |point| point.loss);
        let gradient = |into: &mut Vec<f64>, weights: &Vec<f64>| {
            self.at(&known, weights, |point| into.clone_from(&point.gradient));
        };
        let search = LBFGS { max_iter: STEPS_MAX, f_reltol: GAIN_MIN, ..LBFGS::default() };
        search.optimize(&loss, &gradient, &start, &Halving).x
    }

    fn width(&self) -> usize {
        self.features + 1
    }

    /// The search asks for the loss and the gradient of one place several times; they are computed once.
    fn at<R>(&self, known: &RefCell<Point>, weights: &Vec<f64>, read: impl FnOnce(&Point) -> R) -> R {
        let mut point = known.borrow_mut();
        if point.weights != *weights {
            *point = self.compute(weights);
        }
        read(&point)
    }

    fn compute(&self, weights: &[f64]) -> Point {
        let mut point = Point { weights: weights.to_vec(), loss: 0.0, gradient: vec![0.0; weights.len()] };
        let mut shares = vec![0.0; self.classes];
        for row in self.rows {
            for (class, share) in shares.iter_mut().enumerate() {
                *share = score(&weights[class * self.width()..][..self.width()], &row.features);
            }
            softmax(&mut shares);
            point.loss -= libm::log(shares[row.class].max(f64::MIN_POSITIVE));
            for (class, share) in shares.iter().enumerate() {
                let excess = share - if class == row.class { 1.0 } else { 0.0 };
                let gradient = &mut point.gradient[class * self.width()..][..self.width()];
                row.features.iter().for_each(|(at, value)| gradient[*at as usize] += excess * value);
                gradient[self.features] += excess;
            }
        }
        for (at, weight) in weights.iter().enumerate().filter(|(at, _)| (at + 1) % self.width() != 0) {
            point.loss += 0.5 * self.penalty * weight * weight;
            point.gradient[at] += self.penalty * weight;
        }
        point
    }
}

#[derive(Default)]
struct Point {
    weights: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
}

/// The bias is the last weight.
fn score(weights: &[f64], features: &[(u32, f64)]) -> f64 {
    let bias = weights.last().copied().unwrap_or_default();
    features.iter().fold(bias, |sum, (at, value)| sum + weights[*at as usize] * value)
}

/// Scores become shares of one. In software, so that its bits are the same everywhere.
pub fn softmax(scores: &mut [f64]) {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::exp(*score - highest);
        sum += *score;
    }
    scores.iter_mut().for_each(|share| *share /= sum);
}

/// Halves a step until it gains enough (Armijo, 1966). `smartcore`'s own search can panic when it finds none.
struct Halving;

impl LineSearchMethod<f64> for Halving {
    fn search(
        &self,
        loss: &dyn Fn(f64) -> f64,
        _: &dyn Fn(f64) -> f64,
        start: f64,
        before: f64,
        slope: f64,
    ) -> LineSearchResult<f64> {
        let mut alpha = start;
        for _ in 0..HALVINGS_MAX {
            let f_x = loss(alpha);
            if f_x <= before + 1e-4 * alpha * slope {
                return LineSearchResult { alpha, f_x };
            }
            alpha /= 2.0;
        }
        LineSearchResult { alpha: 0.0, f_x: before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |features: &[(u32, f64)], class| Row { features: features.to_vec(), class };
        vec![
            row(&[(0, 1.0)], 0),
            row(&[(0, 1.0), (2, 0.5)], 0),
            row(&[(1, 1.0)], 1),
            row(&[(1, 1.0), (2, -0.5)], 2),
            row(&[(2, 1.0)], 2),
        ]
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let rows = rows();
        let rows: Vec<&Row> = rows.iter().collect();
        let problem = Problem { rows: &rows, classes: 3, features: 3, penalty: 0.7 };
        let weights: Vec<f64> = (0..12).map(|n| f64::from(n * 7 % 5) / 3.0 - 0.6).collect();
        let gradient = problem.compute(&weights).gradient;
        for (at, slope) in gradient.iter().enumerate() {
            let near = |by: f64| {
                let mut moved = weights.clone();
                moved[at] += by;
                problem.compute(&moved).loss
            };
            let measured = (near(1e-5) - near(-1e-5)) / 2e-5;
            assert!((measured - slope).abs() < 1e-6, "{at}: {measured} against {slope}");
        }
    }

    #[test]
    fn at_the_solution_there_is_no_slope_left() {
        let rows = rows();
        let rows: Vec<&Row> = rows.iter().collect();
        let problem = Problem { rows: &rows, classes: 3, features: 3, penalty: 0.1 };
        let solved = problem.compute(&problem.solve());
        assert!(solved.gradient.iter().all(|slope| slope.abs() < 0.02), "{:?}", solved.gradient);
        assert!(solved.loss < problem.compute(&[0.0; 12]).loss / 2.0, "{}", solved.loss);
    }
}
