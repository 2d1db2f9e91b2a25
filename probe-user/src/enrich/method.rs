//! Where AS, prefix length, peer AS and next hop of an address are from: BGP, the networks file, or whichever of
//! them knows the longer prefix.

use std::net::IpAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::networks::Network;

/// What a field of a record is from; the words of pmacct's `pmacctd_as` and `pmacctd_net`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The route that BGP has.
    Bgp,
    /// The networks file.
    File,
    /// Whichever knows the longer prefix, and the file if both are of one length.
    #[default]
    Longest,
}

/// How the two sources are brought together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// For AS and peer AS.
    pub as_number: Method,
    /// For prefix length and next hop.
    pub network: Method,
    /// With [`Method::Longest`], whether the file counts for AS, peer AS and next hop however short its prefix.
    pub no_lpm: bool,
}

/// What is known about one address. A route of the own AS has AS number 0 here like no route at all; the two differ in
/// whether there is a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Length of the prefix, in bits.
    pub prefix_length: u8,
    /// The AS that it is of; 0 = unknown.
    pub as_number: u32,
    /// The AS by which it is reached; 0 = unknown.
    pub peer_as_number: u32,
    /// The next hop by which it is reached.
    pub next_hop: Option<IpAddr>,
}

/// Brings together what BGP and the networks file say of an address.
///
/// As pmacct does it, but for one thing: what a row of the file does not name stays what BGP says, where pmacct
/// makes it 0.
#[must_use]
pub fn resolve(methods: Methods, bgp: Option<&Origin>, file: Option<&Network>) -> Origin {
    let known = bgp.copied().unwrap_or_default();
    let from_bgp = |method| if method == Method::File { Origin::default() } else { known };
    let (of_as, of_network) = (from_bgp(methods.as_number), from_bgp(methods.network));
    let mut origin = Origin {
        prefix_length: of_network.prefix_length,
        as_number: of_as.as_number,
        peer_as_number: of_as.peer_as_number,
        next_hop: of_network.next_hop,
    };
    let Some(file) = file else { return origin };
    // Without a route, its length is none at all and every row is longer.
    let wins = |method| match method {
        Method::Bgp => false,
        Method::File => true,
        Method::Longest => methods.no_lpm || bgp.is_none_or(|bgp| file.prefix_length >= bgp.prefix_length),
    };
    if wins(methods.as_number) {
        origin.as_number = file.origin_as.unwrap_or(origin.as_number);
        origin.peer_as_number = file.peer_as.unwrap_or(origin.peer_as_number);
    }
    if wins(methods.network) {
        origin.next_hop = file.next_hop.or(origin.next_hop);
    }
    if methods.network != Method::Bgp {
        // Not by `no_lpm`: the longer prefix describes the address better, whoever its AS is from.
        origin.prefix_length = origin.prefix_length.max(file.prefix_length);
    }
    origin
}

#[cfg(test)]
mod tests {
    use super::*;

    const BGP_AS: u32 = 60_729;
    const BGP_PEER: u32 = 6939;
    const FILE_AS: u32 = 397_143;
    const FILE_PEER: u32 = 64_500;

    /// The prefix lengths of a row that is shorter, as long and longer than the route's, by version of IP.
    struct Version {
        bgp: u8,
        bgp_next_hop: IpAddr,
        file_next_hop: IpAddr,
        shorter: u8,
        longer: u8,
    }

    fn versions() -> [Version; 2] {
        [
            Version {
                bgp: 20,
                bgp_next_hop: "192.0.2.1".parse().unwrap(),
                file_next_hop: "192.0.2.2".parse().unwrap(),
                shorter: 16,
                longer: 24,
            },
            Version {
                bgp: 36,
                bgp_next_hop: "2001:db8::1".parse().unwrap(),
                file_next_hop: "2001:db8::2".parse().unwrap(),
                shorter: 32,
                longer: 48,
            },
        ]
    }

    /// Who a field is expected from.
    #[derive(Clone, Copy, Debug)]
    enum By {
        Bgp,
        File,
        Nobody,
    }
    use By::{Bgp, File, Nobody};

    /// Method, `no_lpm`, and then for a row that is longer, equal, shorter and absent: who AS, peer AS and next hop
    /// are from, and who the prefix length is from.
    type Row = (Method, bool, [(By, By); 4]);

    const MATRIX: [Row; 6] = [
        (Method::Bgp, false, [(Bgp, Bgp); 4]),
        (Method::Bgp, true, [(Bgp, Bgp); 4]),
        (Method::File, false, [(File, File), (File, File), (File, File), (Nobody, Nobody)]),
        (Method::File, true, [(File, File), (File, File), (File, File), (Nobody, Nobody)]),
        (Method::Longest, false, [(File, File), (File, File), (Bgp, Bgp), (Bgp, Bgp)]),
        (Method::Longest, true, [(File, File), (File, File), (File, Bgp), (Bgp, Bgp)]),
    ];

    #[test]
    fn the_matrix_of_methods_and_prefix_lengths() {
        for version in versions() {
            let bgp = Origin {
                prefix_length: version.bgp,
                as_number: BGP_AS,
                peer_as_number: BGP_PEER,
                next_hop: Some(version.bgp_next_hop),
            };
            let row = |prefix_length| Network {
                prefix_length,
                origin_as: Some(FILE_AS),
                peer_as: Some(FILE_PEER),
                next_hop: Some(version.file_next_hop),
            };
            let files = [Some(row(version.longer)), Some(row(version.bgp)), Some(row(version.shorter)), None];
            for (method, no_lpm, expected) in MATRIX {
                let methods = Methods { as_number: method, network: method, no_lpm };
                for (file, (values, length)) in files.iter().zip(expected) {
                    let file_length = file.map_or(0, |file| file.prefix_length);
                    let (as_number, peer_as_number, next_hop) = match values {
                        Bgp => (BGP_AS, BGP_PEER, Some(version.bgp_next_hop)),
                        File => (FILE_AS, FILE_PEER, Some(version.file_next_hop)),
                        Nobody => (0, 0, None),
                    };
                    let prefix_length = match length {
                        Bgp => version.bgp,
                        File => file_length,
                        Nobody => 0,
                    };
                    let expected = Origin { prefix_length, as_number, peer_as_number, next_hop };
                    let case = format!("{method:?}, no_lpm {no_lpm}, {file:?}");
                    assert_eq!(resolve(methods, Some(&bgp), file.as_ref()), expected, "{case}");
                }
            }
        }
    }

    #[test]
    fn without_a_route_a_row_counts_unless_only_bgp_is_asked() {
        for version in versions() {
            for length in [0, version.longer] {
                let row = Network {
                    prefix_length: length,
                    origin_as: Some(FILE_AS),
                    peer_as: None,
                    next_hop: Some(version.file_next_hop),
                };
                for (method, no_lpm, _) in MATRIX {
                    let methods = Methods { as_number: method, network: method, no_lpm };
                    let expected = match method {
                        Method::Bgp => Origin::default(),
                        Method::File | Method::Longest => Origin {
                            prefix_length: length,
                            as_number: FILE_AS,
                            peer_as_number: 0,
                            next_hop: row.next_hop,
                        },
                    };
                    assert_eq!(resolve(methods, None, Some(&row)), expected, "{methods:?}");
                    assert_eq!(resolve(methods, None, None), Origin::default());
                }
            }
        }
    }

    #[test]
    fn the_two_methods_do_not_depend_on_each_other() {
        let bgp = Origin { prefix_length: 20, as_number: BGP_AS, peer_as_number: BGP_PEER, next_hop: None };
        let row =
            Network { prefix_length: 24, origin_as: Some(FILE_AS), peer_as: Some(FILE_PEER), next_hop: None };
        let methods = Methods { as_number: Method::Bgp, network: Method::File, no_lpm: false };
        let origin = resolve(methods, Some(&bgp), Some(&row));
        assert_eq!((origin.as_number, origin.peer_as_number, origin.prefix_length), (BGP_AS, BGP_PEER, 24));
        let methods = Methods { as_number: Method::File, network: Method::Bgp, no_lpm: false };
        let origin = resolve(methods, Some(&bgp), Some(&row));
        assert_eq!((origin.as_number, origin.peer_as_number, origin.prefix_length), (FILE_AS, FILE_PEER, 20));
    }

    #[test]
    fn what_a_row_does_not_name_stays_as_bgp_has_it() {
        let bgp = Origin {
            prefix_length: 24,
            as_number: 0,
            peer_as_number: BGP_PEER,
            next_hop: Some("192.0.2.1".parse().unwrap()),
        };
        let row = Network { prefix_length: 16, origin_as: Some(FILE_AS), peer_as: None, next_hop: None };
        let methods = Methods { no_lpm: true, ..Methods::default() };
        assert_eq!(resolve(methods, Some(&bgp), Some(&row)), Origin { as_number: FILE_AS, ..bgp });
        // Of an address without a number, the file is silent about the AS.
        let row = Network { origin_as: None, ..row };
        assert_eq!(resolve(methods, Some(&bgp), Some(&row)), bgp);
    }
}
