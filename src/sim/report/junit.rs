//! JUnit's XML, which CI systems read.

use std::fmt::Write as _;

/// One scenario over some seeds.
#[derive(Clone, Debug)]
pub struct Case {
    pub scenario: String,
    pub seeds: String,
    pub seconds: f64,
    /// What failed: the seed, what was found, and how to see it again.
    pub failures: Vec<(u64, String, String)>,
}

pub fn junit(cases: &[Case]) -> String {
    let failures: usize = cases.iter().filter(|case| !case.failures.is_empty()).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string does not fail.
    let _ = writeln!(xml, "<testsuite name=\"simulations\" tests=\"{}\" failures=\"{failures}\">", cases.len());
    for case in cases {
        let (name, seeds) = (escape(&case.scenario), escape(&case.seeds));
        let _ = writeln!(xml, "  <testcase classname=\"{name}\" name=\"seeds {seeds}\" time=\"{:.3}\">", case.seconds);
        for (seed, found, again) in &case.failures {
            let (found, again) = (escape(found), escape(again));
            let _ = writeln!(xml, "    <failure message=\"seed {seed}: {found}\">{again}</failure>");
        }
        xml.push_str("  </testcase>\n");
    }
    xml.push_str("</testsuite>\n");
    xml
}

/// Text as an attribute or between tags. Control characters that XML has no way to write are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t') {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_and_escaped() {
        let failure = (7, "state: a < b & \"c\"\u{1}".to_owned(), "folkmoot sim replay x --seed 7".to_owned());
        let case = Case { scenario: "x".into(), seeds: "1..9".into(), seconds: 1.5, failures: vec![failure] };
        let xml = junit(&[case]);
        assert!(xml.contains("tests=\"1\" failures=\"1\""));
        assert!(xml.contains("seed 7: state: a &lt; b &amp; &quot;c&quot;\">"));
    }
}
