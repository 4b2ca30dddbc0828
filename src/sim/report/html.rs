//! One page that shows one run: self-contained, no network, no build step.

use serde_json::Value as Json;

use super::json::json;
use crate::sim::Outcome;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub fn html(outcome: &Outcome) -> String {
    page(&format!("{} seed {}", outcome.plan.scenario.name, outcome.seed), &json(outcome))
}

/// The page over what [`json`] gives, or something of that shape.
pub fn page(title: &str, data: &Json) -> String {
    // Inside a script element only `</` could end it early; `<!--` could begin a comment.
    let data = data.to_string().replace('<', "\\u003c");
    PAGE.replace("{title}", title).replace("{style}", STYLE).replace("{script}", SCRIPT).replace("{data}", &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{How, Scenario, run};

    #[test]
    fn the_page_stands_on_its_own() {
        let text = "version = 1\nname = \"page\"\n[workload]\nuntil = \"1s\"\n";
        let scenario = Scenario::parse(text).unwrap();
        let page = html(&run(&scenario, 1, How { record: true, ..How::default() }));
        assert!(!page.contains("src=\"") && !page.contains("https://") && !page.contains("href=\"http"));
        assert_eq!(page.matches("</script>").count(), 2, "the data, and the program");
        for hole in ["{title}", "{style}", "{script}", "{data}"] {
            assert!(!page.contains(hole), "{hole}");
        }
    }
}
