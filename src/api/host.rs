//! Is this request meant for this API?
//!
//! A web page can make a browser send requests to a loopback port. Two checks stop it. The `Host` must be an address or a
//! name of this API: a page that rebinds its own name to 127.0.0.1 still sends its own name. The `Origin`, which
//! browsers add to cross-site writes, must be this API itself.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, Uri, header};

use super::problem::{Kind, Problem};

/// The names under which this API may be called.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    /// The address it is bound to.
    bound: IpAddr,
    /// Whether any address literal will do: the API listens beyond loopback. A literal cannot be rebound.
    literals: bool,
    names: Vec<String>,
}

impl Hosts {
    pub fn new(bound: SocketAddr, insecure: bool, names: &[String]) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { bound: bound.ip(), literals: insecure && !bound.ip().is_loopback(), names }
    }

    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let host = single(headers, header::HOST)?;
        let Some(host) = host.or(uri.authority().map(|authority| authority.as_str())) else {
            return Err(Problem::new(Kind::BadRequest, "the Host header is missing: HTTP/1.1 asks for one"));
        };
        // A request in absolute form names its host twice; the copy in the URL counts as much.
        let target = uri.authority().map_or(host, |authority| authority.as_str());
        if !self.names_this(host) || !self.names_this(target) {
            let shown: String = host.chars().take(80).collect();
            let detail = format!("`{shown}` is not a name of this API: call it by its loopback address or `localhost`");
            return Err(Problem::new(Kind::ForeignHost, detail));
        }
        let Some(origin) = single(headers, header::ORIGIN)? else { return Ok(()) };
        let own = origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host));
        if own {
            return Ok(());
        }
        let shown: String = origin.chars().take(80).collect();
        let detail = format!("a page of `{shown}` may not use this API: call it from a program, or from its own pages");
        Err(Problem::new(Kind::ForeignOrigin, detail))
    }

    fn names_this(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return address.is_loopback() || address == self.bound || self.literals;
        }
        let name = name.to_ascii_lowercase();
        name == "localhost" || self.names.contains(&name)
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(Kind::BadRequest, format!("the header {name} is given twice: give it once")));
    }
    first
        .to_str()
        .map(Some)
        .map_err(|_| Problem::new(Kind::BadRequest, format!("the header {name} holds bytes beyond ASCII")))
}

/// `name` of `name:port`, `[v6]` of `[v6]:port`; `None` when the port is not one.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let port = port.strip_prefix(':');
    let good = port.map_or(host.len() == end, |port| port.parse::<u16>().is_ok());
    (good && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(hosts: &Hosts, host: &str, origin: Option<&str>) -> Option<Kind> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        hosts.check(&"/v1/peers".parse().unwrap(), &headers).err().map(|problem| problem.kind())
    }

    #[test]
    fn only_the_names_of_this_api_pass_on_loopback() {
        let hosts = Hosts::new("127.0.0.1:7070".parse().unwrap(), false, &[]);
        for host in ["127.0.0.1:7070", "127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:7070", "127.0.0.2:1"] {
            assert_eq!(ask(&hosts, host, None), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7070",
            "10.0.0.1:7070",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:x",
            "[::1",
            "",
            ":80",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(ask(&hosts, host, None), Some(Kind::ForeignHost), "{host}");
        }
    }

    #[test]
    fn an_api_beyond_loopback_answers_to_addresses_and_to_the_names_it_was_given() {
        let hosts = Hosts::new("0.0.0.0:7070".parse().unwrap(), true, &["Node-1.fleet".into()]);
        assert_eq!(ask(&hosts, "10.0.0.1:7070", None), None);
        assert_eq!(ask(&hosts, "node-1.fleet:7070", None), None);
        assert_eq!(ask(&hosts, "evil.example:7070", None), Some(Kind::ForeignHost));
    }

    #[test]
    fn only_this_apis_own_origin_passes() {
        let hosts = Hosts::new("127.0.0.1:7070".parse().unwrap(), false, &[]);
        assert_eq!(ask(&hosts, "localhost:7070", Some("http://localhost:7070")), None);
        for origin in
            ["null", "http://evil.example", "http://localhost:7071", "https://localhost:7070", "http://localhost"]
        {
            assert_eq!(ask(&hosts, "localhost:7070", Some(origin)), Some(Kind::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn a_foreign_url_in_absolute_form_is_refused_whatever_the_host_header_says() {
        let hosts = Hosts::new("127.0.0.1:7070".parse().unwrap(), false, &[]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost:7070".parse().unwrap());
        let refused = hosts.check(&"http://evil.example/healthz".parse().unwrap(), &headers).unwrap_err();
        assert_eq!(refused.kind(), Kind::ForeignHost);
        headers.append(header::HOST, "evil.example".parse().unwrap());
        let refused = hosts.check(&"/healthz".parse().unwrap(), &headers).unwrap_err();
        assert_eq!(refused.kind(), Kind::BadRequest);
    }
}
