//! Where a node's settings come from: a flag, else a `FOLKMOOT_*` variable, else `folkmoot.toml`, else the default.
//!
//! Each value remembers where it was said, so that an error can point there and `config show --origin` can tell.
//! Unknown keys are errors: a misspelt key that is ignored is found at the worst time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::exit::Error;
use crate::cli::settings::{self, BadSetting, KEYS, Origin, Said};
use crate::node::settings::NodeSettings;

const FILE_DEFAULT: &str = "folkmoot.toml";
const VARIABLE_PREFIX: &str = "FOLKMOOT_";
/// Variables that are ours and no setting of a node.
const OTHER_VARIABLES: [&str; 2] = ["FOLKMOOT_CONFIG", "FOLKMOOT_TRACES"];
/// Kubernetes sets these in every pod beside a service that is called `folkmoot`; nobody wrote them.
const FOREIGN_PREFIXES: [&str; 2] = ["FOLKMOOT_SERVICE_", "FOLKMOOT_PORT"];

/// What was said by one source.
pub type Layer = BTreeMap<&'static str, Said>;

/// A node's settings and where each was said.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: NodeSettings,
    pub said: BTreeMap<&'static str, Said>,
}

/// Gathers all the sources as they are on this machine.
pub fn load(flags: Layer, file: Option<&Path>) -> Result<Config, Error> {
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let named = file.map(Path::to_owned).or_else(|| {
        let path = variables.iter().find(|(name, _)| name == "FOLKMOOT_CONFIG").map(|(_, path)| path);
        path.filter(|path| !path.is_empty()).map(PathBuf::from)
    });
    let file = match (&named, std::fs::read_to_string(named.as_deref().unwrap_or(Path::new(FILE_DEFAULT)))) {
        (named, Ok(text)) => from_file(named.as_deref().unwrap_or(Path::new(FILE_DEFAULT)), &text)?,
        (None, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Layer::new(),
        (named, Err(error)) => {
            let path = named.as_deref().unwrap_or(Path::new(FILE_DEFAULT)).display();
            return Err(Error::Usage(format!("cannot read {path}: {error}")));
        }
    };
    resolve(defaults(&host_name(), &data_dir_default()), file, from_variables(&variables)?, flags)
        .map_err(|error| Error::Usage(error.to_string()))
}

/// Lays the sources over each other, the strongest last.
pub fn resolve(defaults: Layer, file: Layer, variables: Layer, flags: Layer) -> Result<Config, BadSetting> {
    let said: Layer = [defaults, file, variables, flags].into_iter().flatten().collect();
    Ok(Config { settings: settings::read(&said)?, said })
}

pub fn defaults(host_name: &str, data_dir: &Path) -> Layer {
    let one = |text: &str| Said::one(text, Origin::Default);
    let none = || Said { texts: Vec::new(), origin: Origin::Default };
    Layer::from([
        ("data_dir", one(&data_dir.to_string_lossy())),
        ("name", one(host_name)),
        ("host_report", one("on")),
        ("mdns", one("auto")),
        ("listen", one("/ip4/127.0.0.1/tcp/7118")),
        ("api", one("127.0.0.1:7117")),
        ("join", none()),
        ("psk", none()),
        ("allow", none()),
        ("store", one("sled")),
        ("region", one("")),
        ("chaos", one("off")),
        ("insecure", one("off")),
        ("max_clock_skew_ms", one("500")),
        ("log", one("info")),
    ])
}

/// Reads `FOLKMOOT_*`. Lists are separated by commas; an empty variable counts as not set.
pub fn from_variables(variables: &[(String, String)]) -> Result<Layer, Error> {
    let mut layer = Layer::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        let foreign = FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if value.is_empty() || foreign || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let Some(key) = known(&rest.to_ascii_lowercase()) else {
            return Err(Error::Usage(format!("${name}: there is no such setting; {}", known_keys())));
        };
        let origin = Origin::Variable(name.clone());
        let said = match is_list(key) {
            true => Said { texts: split(value), origin },
            false => Said::one(value, origin),
        };
        layer.insert(key, said);
    }
    Ok(layer)
}

/// Reads a TOML file of top-level keys.
pub fn from_file(path: &Path, text: &str) -> Result<Layer, Error> {
    let wrong = |at: usize, cause: String| Error::Usage(format!("{}:{}: {cause}", path.display(), line_of(text, at)));
    let table = DeTable::parse(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let mut layer = Layer::new();
    for (key, value) in table.get_ref() {
        let at = key.span().start;
        let Some(known) = known(key.get_ref()) else {
            return Err(wrong(at, format!("there is no setting `{}`; {}", key.get_ref(), known_keys())));
        };
        let origin = Origin::File { path: path.to_owned(), line: line_of(text, at) };
        let texts = texts(value).ok_or_else(|| {
            wrong(at, format!("{known}: give a text, a number, a boolean, or a list of texts where it is a list"))
        })?;
        if matches!(value.get_ref(), DeValue::Array(_)) && !is_list(known) {
            return Err(wrong(at, format!("{known}: give one value, not a list")));
        }
        layer.insert(known, Said { texts, origin });
    }
    Ok(layer)
}

fn texts(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect(),
        other => Some(vec![scalar(other)?]),
    }
}

fn known(key: &str) -> Option<&'static str> {
    KEYS.into_iter().find(|known| *known == key)
}

fn known_keys() -> String {
    format!("the settings are {}", KEYS.join(", "))
}

fn is_list(key: &str) -> bool {
    matches!(key, "listen" | "join" | "allow")
}

fn split(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn host_name() -> String {
    sysinfo::System::host_name().ok().filter(|name| !name.is_empty()).unwrap_or_else(|| String::from("node"))
}

/// `/var/lib/folkmoot` for root, else `$XDG_DATA_HOME/folkmoot`, else `~/.local/share/folkmoot`.
fn data_dir_default() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/folkmoot");
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    data.map_or_else(|| PathBuf::from("folkmoot-data"), |dir| dir.join("folkmoot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(file: &str, variables: &[(&str, &str)], flags: Layer) -> Result<Config, Error> {
        let variables: Vec<_> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let file = from_file(Path::new("f.toml"), file)?;
        let base = defaults("host", Path::new("/d"));
        resolve(base, file, from_variables(&variables)?, flags).map_err(|error| Error::Usage(error.to_string()))
    }

    fn words(result: Result<Config, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let file = "store = \"redb\"\nname = \"from-file\"\nlog = \"warn\"\n";
        let flags = Layer::from([("store", Said::one("memory", Origin::Flag("--store".into())))]);
        let config = config(file, &[("FOLKMOOT_STORE", "sled"), ("FOLKMOOT_NAME", "from-env")], flags).unwrap();
        assert_eq!(config.settings.store, "memory");
        assert_eq!(config.settings.name, "from-env");
        assert_eq!(config.settings.log, "warn");
        assert_eq!(config.settings.max_clock_skew_ms, 500);
        let origins: Vec<String> =
            ["store", "name", "log", "api"].iter().map(|key| config.said[key].origin.to_string()).collect();
        assert_eq!(origins, ["--store", "$FOLKMOOT_NAME", "f.toml:3", "default"]);
    }

    #[test]
    fn a_bad_value_names_the_line_or_the_variable() {
        let none = Layer::new;
        assert!(words(config("\nstore = \"disk\"\n", &[], none())).starts_with("f.toml:2: store: `disk`"));
        assert!(words(config("", &[("FOLKMOOT_API", "here")], none())).starts_with("$FOLKMOOT_API: api: `here`"));
        assert!(words(config("a = 1\n", &[], none())).starts_with("f.toml:1: there is no setting `a`"));
        assert!(words(config("", &[("FOLKMOOT_STROE", "x")], none())).starts_with("$FOLKMOOT_STROE"));
        assert!(words(config("name = \"a\"\nstore =\n", &[], none())).starts_with("f.toml:2: "));
        assert!(words(config("name = [\"a\"]\n", &[], none())).starts_with("f.toml:1: name"));
        assert!(words(config("name = { a = 1 }\n", &[], none())).starts_with("f.toml:1: name"));
    }

    #[test]
    fn variables_that_nobody_wrote_for_a_node_are_left_alone() {
        let config = config(
            "",
            &[
                ("FOLKMOOT_PORT", "tcp://10.0.0.1:7117"),
                ("FOLKMOOT_SERVICE_HOST", "10.0.0.1"),
                ("FOLKMOOT_TRACES", "/t"),
                ("FOLKMOOT_STORE", ""),
                ("HOME", "/h"),
            ],
            Layer::new(),
        );
        assert_eq!(config.unwrap().settings.store, "sled");
    }

    #[test]
    fn lists_come_from_every_source() {
        let file = "join = [\"/ip4/10.0.0.1/tcp/1\", \"/ip4/10.0.0.2/tcp/1\"]\n";
        assert_eq!(config(file, &[], Layer::new()).unwrap().settings.join.len(), 2);
        let variables = [("FOLKMOOT_JOIN", "/ip4/10.0.0.1/tcp/1, /dns4/a/tcp/2,")];
        let settings = config(file, &variables, Layer::new()).unwrap().settings;
        assert_eq!(settings.join, ["/ip4/10.0.0.1/tcp/1", "/dns4/a/tcp/2"]);
    }

    #[test]
    fn toml_numbers_and_booleans_are_as_good_as_text() {
        let config = config("max_clock_skew_ms = 250\nchaos = true\nmdns = \"off\"\n", &[], Layer::new()).unwrap();
        assert_eq!((config.settings.max_clock_skew_ms, config.settings.chaos), (250, true));
        assert_eq!(config.settings.mdns, Some(false));
    }
}
