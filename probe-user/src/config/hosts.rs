//! Addresses of hosts that settings name.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};

/// What names of hosts stood for when they were looked up last. All clones know the same.
///
/// A name with several addresses goes on to be the one that it was, as long as it is one of them: resolvers give them in
/// another order each time, and settings that are read again are to be other ones only if something has changed.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts(Arc<Mutex<HashMap<String, SocketAddr>>>);

impl KnownHosts {
    /// The address of `HOST:PORT`.
    pub(super) fn look_up(&self, text: &str) -> Option<SocketAddr> {
        self.choose(text, text.to_socket_addrs().ok()?)
    }

    fn choose(&self, text: &str, found: impl IntoIterator<Item = SocketAddr>) -> Option<SocketAddr> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(text).copied();
        let mut found = found.into_iter().peekable();
        let first = *found.peek()?;
        let address = before.filter(|before| found.any(|address| address == *before)).unwrap_or(first);
        known.insert(text.to_owned(), address);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Raw;
    use crate::config::{Config, Overrides};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_stays_the_address_that_it_was_as_long_as_it_has_it() {
        let hosts = KnownHosts::default();
        let shared = hosts.clone();
        let [a, b, c] = ["192.0.2.1:4739", "192.0.2.2:4739", "[2001:db8::1]:4739"];
        let choose =
            |texts: &[&str]| hosts.choose("collector:4739", addresses(texts)).map(|it| it.to_string());
        assert_eq!(choose(&[b, a]).as_deref(), Some(b));
        assert_eq!(choose(&[a, b]).as_deref(), Some(b));
        assert_eq!(choose(&[c, a, b]).as_deref(), Some(b));
        // Nobody has answered.
        assert_eq!(choose(&[]), None);
        assert_eq!(choose(&[a, b]).as_deref(), Some(b));
        assert_eq!(choose(&[a, c]).as_deref(), Some(a));
        assert_eq!(choose(&[c, a]).as_deref(), Some(a));
        // Another name is another one, and clones know what was found.
        assert_eq!(shared.choose("other:4739", addresses(&[c, a])), addresses(&[c]).pop());
        assert_eq!(shared.choose("collector:4739", addresses(&[c, a])), addresses(&[a]).pop());
    }

    #[test]
    fn settings_that_are_read_again_have_the_same_collectors() {
        let raw: Raw = toml::from_str("[export]\ncollectors = [\"localhost:4739\"]\n").unwrap();
        let overrides = Overrides::default();
        // As if the resolver had given this one first.
        let before: SocketAddr = "127.0.0.1:4739".parse().unwrap();
        overrides.hosts.choose("localhost:4739", [before]);
        let read = || Config::resolve(raw.clone(), overrides.clone()).unwrap();
        assert_eq!(read().processes, read().processes);
        assert_eq!(read().processes[0].collectors, [before]);
    }
}
