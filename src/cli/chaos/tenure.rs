//! What became of a contest, and the oracles over it: one holder at a time, tokens that grow, a fence that held, an owner
//! that was told in time, and a takeover that came neither early nor late.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::chaos::fence::{Fence, Tenure};
use crate::cli::chaos::verdict::Verdict;
use crate::engine::ballot::lock::DRIFT;

/// Beyond a lease and a tenth, a takeover may take this long: a watcher looks every 400 ms, and a busy machine takes its time
/// to decide.
const SLACK_US: u64 = 2_000_000;
/// Who stood still learns within this, after it went on, that it has lost the thing.
const LEARNS_WITHIN_US: u64 = 2_000_000;

/// A worker did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Still {
    pub worker: usize,
    pub from_us: u64,
    pub until_us: Option<u64>,
}

/// All that is known of a contest, in µs of the lab.
#[derive(Debug, Default)]
pub struct Course {
    pub fence: Fence,
    pub lease_us: u64,
    pub hurt_us: Option<u64>,
    pub stood: Vec<Still>,
    /// What nodes said in the end that is not so.
    pub said: Vec<String>,
}

/// The figures of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The owner knew so long before its lease ended; negative: after it.
    pub told_before_end_ms: Option<f64>,
    /// From what was done to the nodes to when the next had it.
    pub hurt_to_takeover_ms: Option<f64>,
    /// From the end of the old lease, by its holder's count, to when the next had it.
    pub end_to_takeover_ms: Option<f64>,
    pub writes: usize,
    /// Writes of who had lost it, when another had written already.
    pub late_refused: usize,
    pub late_taken: usize,
}

impl Course {
    /// One after the other had it.
    fn takeovers(&self) -> impl Iterator<Item = (&Tenure, &Tenure)> {
        self.fence.tenures.values().zip(self.fence.tenures.values().skip(1))
    }

    /// Whether it was stopped before it could be told.
    fn stood_still(&self, tenure: &Tenure) -> Option<&Still> {
        self.stood
            .iter()
            .find(|still| still.worker == tenure.worker && (tenure.from_us..tenure.until_us).contains(&still.from_us))
    }

    pub fn judge(&self) -> Vec<Verdict> {
        let grants = self.fence.tenures.len();
        let takeovers = self.takeovers().count();
        vec![
            Verdict::new("one holder at a time", grants, overlaps(&self.fence.tenures)),
            Verdict::new("tokens grow with each holder", grants, self.tokens()),
            Verdict::new("the fence lets no stale write through", self.fence.writes, self.fence.stale.clone()),
            Verdict::new("an owner is told before its lease ends", takeovers, self.told()),
            Verdict::new("who stood still writes late, and is refused", self.stood.len(), self.late()),
            Verdict::new("another takes over, in time", takeovers, self.in_time()),
            Verdict::new("all know who has it", grants, self.said.clone()),
        ]
    }

    /// In the order of tokens they were given out in, and each once.
    fn tokens(&self) -> Vec<String> {
        let back = self.takeovers().filter(|(before, after)| after.from_us <= before.from_us);
        let back = back.map(|(before, after)| {
            format!(
                "w{} was given the token {} before w{} was given {}",
                after.worker, after.token, before.worker, before.token
            )
        });
        back.chain(self.fence.twice.iter().cloned()).collect()
    }

    fn told(&self) -> Vec<String> {
        let lost = self.takeovers().map(|(before, _)| before).filter(|tenure| self.stood_still(tenure).is_none());
        let late = lost.filter(|tenure| tenure.told_us.is_none_or(|told_us| told_us >= tenure.until_us));
        late.map(|tenure| match tenure.told_us {
            None => format!("w{} was never told that it lost it", tenure.worker),
            Some(us) => format!("w{} was told {:.1} ms after its lease ended", tenure.worker, ms(us - tenure.until_us)),
        })
        .collect()
    }

    /// The write that it was about to make arrives after another's, and shows what the token is for. Nobody else's does.
    fn late(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for still in &self.stood {
            let lost =
                self.takeovers().map(|(before, _)| before).find(|tenure| self.stood_still(tenure) == Some(still));
            let Some(tenure) = lost else { continue };
            if !self.fence.late.iter().any(|late| late.token == tenure.token) {
                wrong.push(format!(
                    "no write of w{} arrived after it had lost it: nothing was put to the test",
                    still.worker
                ));
            }
            let (Some(on_us), told_us) = (still.until_us, tenure.told_us) else { continue };
            if told_us.is_none_or(|told_us| told_us > on_us + LEARNS_WITHIN_US) {
                wrong.push(format!("w{} went on and does not know that it lost it", still.worker));
            }
        }
        let stood = |worker| self.stood.iter().any(|still| still.worker == worker);
        let others = self.fence.late.iter().filter(|late| !stood(late.worker));
        wrong.extend(
            others.map(|late| format!("w{} wrote under the token {} after it was lost", late.worker, late.token)),
        );
        wrong
    }

    fn in_time(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(hurt_us) = self.hurt_us else { return wrong };
        for (before, after) in self.takeovers() {
            // A renewal that was asked for before may have been decided, although nobody could tell its holder.
            let asked_us = before.renews_us.iter().copied().filter(|asked_us| *asked_us <= hurt_us).max().unwrap_or(0);
            let end_us = before.until_us.max(asked_us + self.lease_us);
            let latest_us = end_us + self.lease_us / DRIFT + SLACK_US;
            if after.from_us > latest_us {
                let late_ms = ms(after.from_us - latest_us);
                wrong.push(format!(
                    "w{} had it {late_ms:.1} ms later than a lease, a tenth and the slack",
                    after.worker
                ));
            }
        }
        if self.takeovers().next().is_none() {
            wrong.push("nobody took it over".to_owned());
        }
        wrong
    }

    pub fn figures(&self) -> Figures {
        let late_taken = self.fence.stale.len();
        let mut figures = Figures {
            writes: self.fence.writes,
            late_refused: self.fence.late.len().saturating_sub(late_taken),
            late_taken,
            ..Figures::default()
        };
        if let Some((before, after)) = self.takeovers().next() {
            figures.told_before_end_ms = before.told_us.map(|told_us| signed_ms(told_us, before.until_us));
            figures.hurt_to_takeover_ms = self.hurt_us.map(|hurt_us| signed_ms(hurt_us, after.from_us));
            figures.end_to_takeover_ms = Some(signed_ms(before.until_us, after.from_us));
        }
        figures
    }
}

impl Figures {
    pub fn text(&self) -> String {
        let told = match self.told_before_end_ms {
            Some(ms) if ms >= 0.0 => format!("told {ms:.0} ms before its lease ended"),
            Some(ms) => format!("knew {:.0} ms after its lease ended", -ms),
            None => "never told".to_owned(),
        };
        let since = |ms: Option<f64>, what: &str| ms.map_or(String::new(), |ms| format!("{ms:.0} ms after {what}"));
        let (hurt, end) =
            (since(self.hurt_to_takeover_ms, "the fault"), since(self.end_to_takeover_ms, "the lease's end"));
        let taken = if end.is_empty() { "not taken over".to_owned() } else { format!("taken over {hurt}, {end}") };
        format!(
            "{told}; {taken}; {} writes, {} late ones refused, {} taken",
            self.writes, self.late_refused, self.late_taken
        )
    }
}

/// Who had it before the one before had it no more, by that one's own count.
pub fn overlaps(tenures: &BTreeMap<u64, Tenure>) -> Vec<String> {
    let pairs = tenures.values().zip(tenures.values().skip(1));
    let early = pairs.filter(|(before, after)| after.from_us < before.until_us);
    let early = early.map(|(before, after)| {
        let by_ms = ms(before.until_us - after.from_us);
        format!("w{} had it {by_ms:.1} ms before the lease of w{} ended", after.worker, before.worker)
    });
    early.collect()
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

fn signed_ms(from_us: u64, to_us: u64) -> f64 {
    if to_us >= from_us { ms(to_us - from_us) } else { -ms(from_us - to_us) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::chaos::fence::Late;

    const LEASE_US: u64 = 5_000_000;

    fn tenure(worker: usize, token: u64, from_us: u64, until_us: u64, told_us: Option<u64>) -> Tenure {
        Tenure { worker, token, from_us, until_us, renews_us: Vec::new(), told_us }
    }

    /// The first had it until 6 s and was told a second before; the second has it since 6.6 s.
    fn course() -> Course {
        let mut course = Course { lease_us: LEASE_US, hurt_us: Some(2_000_000), ..Course::default() };
        let first = tenure(0, 1, 1_000_000, 6_000_000, Some(5_000_000));
        let second = tenure(1, 2, 6_600_000, 20_000_000, None);
        course.fence.tenures = [(1, first), (2, second)].into();
        course
    }

    fn wrong(course: &Course) -> Vec<&'static str> {
        course.judge().into_iter().filter(|verdict| !verdict.wrong.is_empty()).map(|verdict| verdict.oracle).collect()
    }

    fn of(course: &mut Course, token: u64) -> &mut Tenure {
        course.fence.tenures.get_mut(&token).unwrap()
    }

    #[test]
    fn a_takeover_after_the_lease_is_in_order_and_measured() {
        let figures = course().figures();
        assert_eq!(wrong(&course()), [""; 0]);
        assert_eq!(figures.told_before_end_ms, Some(1_000.0));
        assert_eq!((figures.hurt_to_takeover_ms, figures.end_to_takeover_ms), (Some(4_600.0), Some(600.0)));
    }

    #[test]
    fn whoever_has_it_before_the_lease_ended_is_found() {
        let mut early = course();
        of(&mut early, 2).from_us = 5_999_999;
        assert_eq!(wrong(&early), ["one holder at a time"]);
    }

    #[test]
    fn an_owner_that_is_told_too_late_or_never_is_found() {
        for told_us in [Some(6_000_000), None] {
            let mut late = course();
            of(&mut late, 1).told_us = told_us;
            assert_eq!(wrong(&late), ["an owner is told before its lease ends"]);
        }
    }

    #[test]
    fn a_takeover_that_never_comes_or_too_late_is_found() {
        let mut late = course();
        of(&mut late, 2).from_us = 6_000_000 + LEASE_US / 10 + SLACK_US + 1;
        assert_eq!(wrong(&late), ["another takes over, in time"]);
        let mut never = course();
        never.fence.tenures.remove(&2);
        assert_eq!(wrong(&never), ["another takes over, in time"]);
    }

    #[test]
    fn who_stood_still_must_have_put_the_fence_to_the_test() {
        let mut still = course();
        still.stood.push(Still { worker: 0, from_us: 2_000_000, until_us: Some(10_000_000) });
        of(&mut still, 1).told_us = Some(10_100_000);
        assert_eq!(wrong(&still), ["who stood still writes late, and is refused"]);
        still.fence.late.push(Late { at_us: 10_000_000, worker: 0, token: 1 });
        assert_eq!(wrong(&still), [""; 0]);
        still.fence.stale.push("let through".into());
        assert_eq!(wrong(&still), ["the fence lets no stale write through"]);
    }

    #[test]
    fn who_did_not_stand_still_must_not_write_late() {
        let mut late = course();
        late.fence.late.push(Late { at_us: 7_000_000, worker: 0, token: 1 });
        assert_eq!(wrong(&late), ["who stood still writes late, and is refused"]);
    }

    #[test]
    fn a_token_below_one_given_out_before_is_found() {
        let mut back = course();
        let later = tenure(2, 3, 6_500_000, 6_500_000, None);
        back.fence.tenures.insert(3, later);
        assert!(wrong(&back).contains(&"tokens grow with each holder"));
    }
}
