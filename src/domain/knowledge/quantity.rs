//! Numbers, versions, dates and times, as intervals. Two quantities of one kind agree when they are the same, can both
//! be true when their intervals meet, and contradict each other when they do not.

use super::lexicon::{Bound, lexicon};

/// How far `about 40` reaches to either side.
const ABOUT: f64 = 0.15;

/// What is measured. Quantities of different kinds are never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    /// With a unit; the number is that of its dimension in the lexicon.
    Measured(u8),
    Version,
    Date,
    TimeOfDay,
    Address,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    pub kind: Kind,
    pub low: f64,
    pub high: f64,
    /// As it was written, for people and for exact equality of versions and addresses.
    pub shown: String,
}

impl Quantity {
    fn point(kind: Kind, value: f64, shown: &str) -> Self {
        Self { kind, low: value, high: value, shown: shown.to_owned() }
    }

    pub fn bounded(mut self, bound: Bound) -> Self {
        match bound {
            Bound::AtLeast => self.high = f64::INFINITY,
            Bound::AtMost => self.low = f64::NEG_INFINITY,
            Bound::About => {
                let reach = self.low.abs() * ABOUT;
                (self.low, self.high) = (self.low - reach, self.high + reach);
            }
        }
        self
    }

    pub fn is_open(&self) -> bool {
        self.low.is_infinite() || self.high.is_infinite()
    }

    /// Both say the same: equal, or one of them is `about` and the other within.
    pub fn agrees(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return false;
        }
        if matches!(self.kind, Kind::Version | Kind::Address) {
            return self.shown == other.shown;
        }
        match (self.is_open(), other.is_open()) {
            (false, false) => self.meets(other),
            (true, true) => near(self.low, other.low) && near(self.high, other.high),
            _ => false,
        }
    }

    /// Both can be true.
    pub fn meets(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return true;
        }
        if matches!(self.kind, Kind::Version | Kind::Address) {
            return self.shown == other.shown || self.is_open() || other.is_open();
        }
        // An open end excludes its bound: less than 2 and at least 2 do not meet.
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        let touch_by_open_ends = self.is_open() && other.is_open() && low == high;
        (low <= high && !touch_by_open_ends) || (near(low, high) && !self.is_open() && !other.is_open())
    }
}

fn near(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// What a word with a digit is. `next` is the word behind it, for a unit or `am`; the number says whether it was used.
pub fn read(word: &str, next: Option<&str>) -> Option<(Quantity, usize)> {
    let clock = |text: &str| matches!(text, "am" | "pm");
    if let Some(value) = date(word) {
        return Some((Quantity::point(Kind::Date, value, word), 0));
    }
    if let Some(minutes) = time(word) {
        return Some(match next.filter(|next| clock(next)) {
            Some(half) => (Quantity::point(Kind::TimeOfDay, half_day(minutes, half), word), 1),
            None => (Quantity::point(Kind::TimeOfDay, minutes, word), 0),
        });
    }
    if dotted(word, 4) && word.matches('.').count() == 3 {
        return Some((Quantity::point(Kind::Address, 0.0, word), 0));
    }
    let bare = word.strip_prefix('v').unwrap_or(word);
    if (dotted(bare, 9) && bare.matches('.').count() >= 2) || (bare.len() < word.len() && dotted(bare, 9)) {
        return Some((Quantity::point(Kind::Version, 0.0, bare), 0));
    }
    let (value, unit) = number(word)?;
    let unit = unit.trim_start_matches('-');
    let (unit, used) = match next {
        Some(next) if unit.is_empty() => (next, 1),
        _ => (unit, 0),
    };
    if clock(unit) && value <= 12.0 {
        return Some((Quantity::point(Kind::TimeOfDay, half_day(value * 60.0, unit), word), used));
    }
    let multiple = match unit {
        "k" if used == 0 => Some(1e3),
        "million" => Some(1e6),
        "thousand" => Some(1e3),
        _ => None,
    };
    if let Some(multiple) = multiple {
        return Some((Quantity::point(Kind::Plain, value * multiple, &shown(word, unit, used)), used));
    }
    if let Some((dimension, size)) = lexicon().unit(unit) {
        return Some((Quantity::point(Kind::Measured(dimension), value * size, &shown(word, unit, used)), used));
    }
    (used == 1 || unit.is_empty()).then(|| (Quantity::point(Kind::Plain, value, word), 0))
}

/// The quantity of a spelled number.
pub fn spelled(word: &str, value: f64, next: Option<&str>) -> (Quantity, usize) {
    match next.and_then(|next| lexicon().unit(next).map(|unit| (next, unit))) {
        // `c` and `m` behind a spelled number are no units.
        Some((next, (dimension, size))) if next.len() > 1 => {
            (Quantity::point(Kind::Measured(dimension), value * size, &shown(word, next, 1)), 1)
        }
        _ => (Quantity::point(Kind::Plain, value, word), 0),
    }
}

fn shown(word: &str, unit: &str, used: usize) -> String {
    if used == 1 { format!("{word} {unit}") } else { word.to_owned() }
}

/// `2025-03-01` or `2025/3/1`, as a number that rises with the day.
fn date(word: &str) -> Option<f64> {
    let mut parts = word.split(['-', '/']);
    let mut part = || parts.next()?.parse::<u32>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    let fits = (1900..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    (fits && parts.next().is_none()).then(|| f64::from(year * 372 + month * 31 + day))
}

/// `14:05` or `14:05:30`, in minutes.
fn time(word: &str) -> Option<f64> {
    let mut parts = word.split(':').map(|part| part.parse::<u32>().ok().filter(|_| part.len() <= 2));
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next().unwrap_or(Some(0))?;
    let fits = hours < 25 && minutes < 60 && seconds < 60 && parts.next().is_none();
    fits.then(|| f64::from(hours * 60 + minutes) + f64::from(seconds) / 60.0)
}

fn half_day(minutes: f64, half: &str) -> f64 {
    (minutes % 720.0) + if half == "pm" { 720.0 } else { 0.0 }
}

/// A year of this time.
pub fn year(word: &str) -> Option<Quantity> {
    let year = word.parse::<u32>().ok().filter(|year| (1900..2200).contains(year))?;
    Some(Quantity::point(Kind::Date, f64::from(year * 372), word))
}

/// Digits and dots, at most `parts` numbers.
fn dotted(word: &str, parts: usize) -> bool {
    let number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    word.split('.').all(number) && word.split('.').count() <= parts
}

/// A number with what is glued to its end. `10,000` is ten thousand.
fn number(word: &str) -> Option<(f64, &str)> {
    let end = word.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).unwrap_or(word.len());
    let (digits, rest) = word.split_at(end);
    let value = digits.replace(',', "").parse::<f64>().ok().filter(|value| value.is_finite())?;
    let letters = rest.trim_start_matches('-').chars().all(|c| c.is_alphabetic() || c == '%');
    letters.then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Quantity {
        let mut words = text.split(' ');
        read(words.next().unwrap(), words.next()).unwrap_or_else(|| panic!("{text} is no quantity")).0
    }

    #[test]
    fn the_same_in_other_units_agrees() {
        for (a, b) in
            [("4 mb", "4096kb"), ("0.5 s", "500ms"), ("30 minutes", "1800 s"), ("2 am", "02:00"), ("2pm", "14:00")]
        {
            assert!(of(a).agrees(&of(b)), "{a} {b}");
        }
        for (a, b) in
            [("4 mb", "4 s"), ("4 mb", "5 mb"), ("1.2.3", "1.2.4"), ("10.0.0.1", "10.0.0.2"), ("10:00", "11:00")]
        {
            assert!(!of(a).agrees(&of(b)), "{a} {b}");
        }
    }

    #[test]
    fn bounds_are_intervals() {
        let at_least = of("16 gb").bounded(Bound::AtLeast);
        assert!(!at_least.meets(&of("4 gb")) && at_least.meets(&of("32 gb")) && !at_least.agrees(&of("32 gb")));
        assert!(!of("2 gb").bounded(Bound::AtMost).meets(&of("2 gb").bounded(Bound::AtLeast)));
        assert!(of("40 ms").bounded(Bound::About).agrees(&of("42 ms")));
        assert!(!of("40 ms").bounded(Bound::About).agrees(&of("50 ms")));
    }

    #[test]
    fn names_are_no_quantities() {
        for word in ["web-03", "eu-west-1", "sha256:ab", "n4", "a1b2", "v", "vm-17"] {
            assert_eq!(read(word, None), None, "{word}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(word in "\\PC{0,20}", next in "\\PC{0,8}") {
            let _ = read(&word, Some(&next));
        }
    }
}
