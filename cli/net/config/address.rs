//! Where a replica is: a numeric address, or a name that the resolver of the system knows.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// An address and a port, as they are written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    Numeric(SocketAddr),
    Named { host: String, port: u16 },
}

impl Address {
    /// That of a host, given by number or by name.
    pub fn new(host: &str, port: u16) -> Result<Self, String> {
        match host.parse::<IpAddr>() {
            Ok(address) => Ok(SocketAddr::new(address, port).into()),
            Err(_) => format!("{host}:{port}").parse(),
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Address::Numeric(address) => address.port(),
            Address::Named { port, .. } => *port,
        }
    }

    /// The address, if it is written as one.
    pub fn numeric(&self) -> Option<SocketAddr> {
        match self {
            Address::Numeric(address) => Some(*address),
            Address::Named { .. } => None,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Address::Numeric(address));
        }
        let wanted = "write 10.0.0.1:7600, [2001:db8::1]:7600 or node0.example:7600";
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| format!("\"{text}\" has no port: {wanted}"))?;
        let number: Option<u16> = port.parse().ok();
        let port = number
            .ok_or_else(|| format!("\"{port}\" in \"{text}\" is no port between 1 and 65535: {wanted}"))?;
        if !is_name(host) {
            return Err(format!(
                "\"{host}\" in \"{text}\" is neither an IP address nor a host name: {wanted}"
            ));
        }
        Ok(Address::Named { host: host.to_owned(), port })
    }
}

/// Whether these are labels of letters, digits, hyphens and underscores, the last of which is no number: then
/// it would be an IPv4 address that is written wrongly.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number =
        host.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(is_label) && !last_is_number
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Numeric(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Numeric(address) => write!(f, "{address}"),
            Address::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The system's resolver.
pub fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Every address of the same family, that of a replica which is given by number, or else the first of IPv4
/// and IPv6 that every name has. Of several addresses of a name the first is taken.
///
/// # Errors
/// One sentence that says whose address does not resolve.
pub fn resolve(
    addresses: &[&Address],
    look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
) -> Result<Vec<SocketAddr>, String> {
    let mut found = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        found.push(match address {
            Address::Numeric(address) => vec![*address],
            Address::Named { host, port } => look_up(host, *port).map_err(|error| {
                format!(
                    "the address of replica {i}, {address}, does not resolve: {error}; see to the resolver of this \
                     machine or write a numeric address"
                )
            })?,
        });
    }
    let numeric = addresses.iter().find_map(|address| address.numeric());
    let everybody = |v4: bool| found.iter().all(|all| all.iter().any(|one| one.is_ipv4() == v4));
    let v4 = numeric.map_or_else(|| everybody(true) || !everybody(false), |address| address.is_ipv4());
    let family = if v4 { "IPv4" } else { "IPv6" };
    let mut taken: Vec<SocketAddr> = Vec::new();
    for (i, (address, all)) in addresses.iter().zip(&found).enumerate() {
        let one = all.iter().find(|one| one.is_ipv4() == v4).ok_or_else(|| {
            format!(
                "the address of replica {i}, {address}, resolves to no {family} address, and all replicas must have \
                 addresses of one family"
            )
        })?;
        if let Some(j) = taken.iter().position(|other| other == one) {
            return Err(format!(
                "the addresses of replicas {j} and {i} both resolve to {one}: give each its own"
            ));
        }
        taken.push(*one);
    }
    Ok(taken)
}

/// Every address of the machine, for a port.
pub fn unspecified(like: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, like.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_numbers_or_names_and_are_written_as_they_were_read() {
        for text in ["10.0.0.1:7600", "[2001:db8::1]:7600"] {
            assert!(address(text).numeric().is_some());
            assert_eq!(String::from(address(text)), text);
        }
        for text in ["node0.example:7600", "localhost:1", "a_b-c.d9.:7600"] {
            assert!(address(text).numeric().is_none());
            assert_eq!(String::from(address(text)), text);
        }
        assert_eq!(Address::new("::1", 5).unwrap().to_string(), "[::1]:5");
        assert_eq!(Address::new("node", 5).unwrap().to_string(), "node:5");
        for (text, says) in [
            ("node0.example", "has no port"),
            ("node0.example:99999", "\"99999\""),
            ("10.0.0.1:99999", "\"99999\""),
            ("10.0.0.300:7600", "\"10.0.0.300\""),
            ("::1:7600", "\"::1\""),
            (":7600", "\"\""),
            ("-a.example:7600", "neither"),
            ("a b:7600", "neither"),
        ] {
            let said = text.parse::<Address>().unwrap_err();
            assert!(said.contains(says) && said.contains("node0.example:7600"), "{said}");
        }
    }

    /// A resolver that knows three names.
    fn known(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let v4 = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 7).into(), port);
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        match host {
            "both" => Ok(vec![v6, v4]),
            "four" => Ok(vec![v4]),
            "six" => Ok(vec![v6]),
            _ => Err(io::Error::other("name not known")),
        }
    }

    fn resolved(texts: &[&str]) -> Result<Vec<String>, String> {
        let addresses: Vec<Address> = texts.iter().map(|text| address(text)).collect();
        let resolved = resolve(&addresses.iter().collect::<Vec<_>>(), known)?;
        Ok(resolved.iter().map(SocketAddr::to_string).collect())
    }

    #[test]
    fn names_resolve_to_addresses_of_one_family_that_are_all_different() {
        assert_eq!(resolved(&["both:1", "four:2"]).unwrap(), ["10.0.0.7:1", "10.0.0.7:2"]);
        assert_eq!(resolved(&["both:1", "six:2"]).unwrap(), ["[::1]:1", "[::1]:2"]);
        assert_eq!(resolved(&["[::9]:1", "both:2"]).unwrap(), ["[::9]:1", "[::1]:2"]);
        for (texts, says) in [
            (["four:1", "gone:2"], "replica 1, gone:2, does not resolve: name not known"),
            (["10.0.0.1:1", "six:2"], "replica 1, six:2, resolves to no IPv4 address"),
            (["four:1", "six:2"], "replica 1, six:2, resolves to no IPv4 address"),
            (["both:1", "four:1"], "replicas 0 and 1 both resolve to 10.0.0.7:1"),
        ] {
            let said = resolved(&texts).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
