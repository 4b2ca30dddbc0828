//! A lease as its holder counts it: on its own clock, from before it asked, and not to the end. Whoever wants what is held
//! counts longer, from later: [`Holding::patience_us`](super::lock::Holding::patience_us).

use std::ops::Add;
use std::time::Duration;

/// A renewal is asked for when this much of the lease is over: a third.
const RENEW_AT: u32 = 3;
/// Who has not renewed by then stops: this much of the lease before its end, for what is yet to be stopped.
const STOP_BEFORE: u32 = 5;
/// A renewal that failed is asked again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What a holder has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    Nothing,
    Renew,
    /// Leave alone what it holds: the lease ends soon, or has ended.
    Stop,
}

/// `T` is the time of a clock that only goes forward.
#[derive(Clone, Copy, Debug)]
pub struct Lease<T> {
    length: Duration,
    renew_at: T,
    stop_at: T,
    ends_at: T,
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Lease<T> {
    /// It was granted for so long. `asked`: before that was asked for.
    pub fn begun(asked: T, length: Duration) -> Self {
        let stop_at = asked + (length - length / STOP_BEFORE);
        Self { length, renew_at: asked + length / RENEW_AT, stop_at, ends_at: asked + length }
    }

    /// It begins anew.
    pub fn renewed(&mut self, asked: T) {
        *self = Self::begun(asked, self.length);
    }

    pub fn not_renewed(&mut self, now: T) {
        self.renew_at = now + AGAIN;
    }

    pub fn stop_at(&self) -> T {
        self.stop_at
    }

    /// From then on another may have it.
    pub fn ends_at(&self) -> T {
        self.ends_at
    }

    /// When something is to be done next.
    pub fn due(&self) -> T {
        self.renew_at.min(self.stop_at)
    }

    pub fn duty(&self, now: T) -> Duty {
        match now {
            now if now >= self.stop_at => Duty::Stop,
            now if now >= self.renew_at => Duty::Renew,
            _ => Duty::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_holder_renews_early_and_stops_before_the_end_whatever_became_of_that() {
        let mut lease = Lease::begun(ms(100), ms(900));
        assert_eq!((lease.due(), lease.duty(ms(399)), lease.duty(ms(400))), (ms(400), Duty::Nothing, Duty::Renew));
        lease.renewed(ms(400));
        assert_eq!(
            (lease.duty(ms(699)), lease.duty(ms(700)), lease.stop_at()),
            (Duty::Nothing, Duty::Renew, ms(1_120))
        );
        lease.not_renewed(ms(1_000));
        assert_eq!((lease.due(), lease.duty(ms(1_119))), (ms(1_120), Duty::Nothing), "there is no time to ask again");
        assert_eq!((lease.duty(ms(1_120)), lease.duty(ms(9_999))), (Duty::Stop, Duty::Stop));
    }
}
