//! Names of files that say whose routes they hold, and of what time.

use std::path::PathBuf;

use jiff::Zoned;

use super::json::PeerName;
use crate::file_name;
pub use crate::file_name::FileNameError;

/// Stands for the address of the peer.
const PEER: &str = "$peer_src_ip";

/// A path in which `$peer_src_ip` stands for the address of a peer, and `%H` and the like for a time
/// (`strftime`), as in pmacct's `bgp_table_dump_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNamePattern(file_name::FileNamePattern);

impl FileNamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`FileNameError`].
    pub fn new(text: &str) -> Result<Self, FileNameError> {
        let pattern = file_name::FileNamePattern::new(text, &[PEER])?;
        if pattern.has(PEER) { Ok(Self(pattern)) } else { Err(FileNameError::Missing(PEER)) }
    }

    /// The path for this peer and time. Dots and colons of the address become `_`.
    #[must_use]
    pub fn path(&self, at: &Zoned, peer: PeerName) -> PathBuf {
        self.0.path(at, &[(PEER, &peer.address.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn names_are_those_of_pmacct() {
        let at = date(2026, 11, 21).at(5, 40, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        let peer = |address: &str| PeerName { address: address.parse().unwrap(), port: Some(179) };
        let pattern = FileNamePattern::new("/tmp/bgp-$peer_src_ip-%H%M.txt").unwrap();
        assert_eq!(pattern.path(&at, peer("127.0.0.1")), PathBuf::from("/tmp/bgp-127_0_0_1-0540.txt"));
        assert_eq!(pattern.path(&at, peer("2001:db8::7")), PathBuf::from("/tmp/bgp-2001_db8__7-0540.txt"));
        let pattern = FileNamePattern::new("%Y/%m/%d/$peer_src_ip_%s").unwrap();
        assert_eq!(pattern.path(&at, peer("192.0.2.1")), PathBuf::from("2026/11/21/192_0_2_1_1795239600"));
    }

    #[test]
    fn what_cannot_be_a_name_is_said() {
        assert_eq!(FileNamePattern::new("/tmp/bgp-%H%M.txt"), Err(FileNameError::Missing(PEER)));
        let unknown = FileNameError::UnknownVariable(PEER.to_owned());
        assert_eq!(FileNamePattern::new("$peer_src_ip-$tag"), Err(unknown));
        assert!(matches!(FileNamePattern::new("$peer_src_ip-%!"), Err(FileNameError::Time(_))));
    }
}
