//! Against `mmdblookup` of libmaxminddb, on files that its maker's own writer has written.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A file that goes away with it.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, kind: &str) -> Self {
        let file = std::env::temp_dir().join(format!("pathflow-{name}-{}.mmdb", std::process::id()));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places/write.pl");
        let status = Command::new("perl").arg(script).arg(&file).arg(kind).status().unwrap();
        assert!(status.success(), "this test needs Debian's package libmaxmind-db-writer-perl");
        Self(file)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const ADDRESSES: [&str; 14] = [
    "192.0.2.0",
    "192.0.2.127",
    "192.0.2.128",
    "192.0.3.0",
    "198.51.100.9",
    "203.0.113.1",
    "203.0.113.200",
    "10.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "2001:db8::1",
    "2001:db8::1:0:1",
    "2001:db8:1::1",
    "::",
];

/// What libmaxminddb finds, between quotation marks or bare; empty if nothing.
fn looked_up(file: &Path, address: &str, path: [&str; 2]) -> String {
    let command = Command::new("mmdblookup")
        .args(["--file", &file.display().to_string(), "--ip", address])
        .args(path)
        .output()
        .expect("this test needs mmdblookup, of Debian's package mmdb-bin");
    let text = String::from_utf8(command.stdout).unwrap();
    let value = text.trim().rsplit_once(" <").map_or("", |(value, _)| value);
    value.trim_matches('"').to_owned()
}

#[test]
fn addresses_are_where_libmaxminddb_finds_them() {
    for kind in ["city", "ipv4"] {
        let written = Written::new(&format!("found-{kind}"), kind);
        let geography = Geography::read(&written.0).unwrap();
        assert_eq!(geography.kind(), "Test-City");
        let mut found = 0;
        for address in ADDRESSES {
            let place = geography.place(address.parse().unwrap());
            let theirs = |path| looked_up(&written.0, address, path);
            // It prints six digits.
            let degrees = |degrees: Option<f64>| degrees.map_or(String::new(), |some| format!("{some:.6}"));
            assert_eq!(*place.country, theirs(["country", "iso_code"]), "{address}");
            assert_eq!(*place.postal_code, theirs(["postal", "code"]), "{address}");
            assert_eq!(degrees(place.latitude), theirs(["location", "latitude"]), "{address}");
            assert_eq!(degrees(place.longitude), theirs(["location", "longitude"]), "{address}");
            found += usize::from(!place.country.is_empty());
        }
        assert_eq!(found, if kind == "ipv4" { 4 } else { 6 });
    }
}

#[test]
fn what_is_remembered_is_what_the_data_base_says_now() {
    let (before, after) = (Written::new("before", "city"), Written::new("after", "moved"));
    let [before, after] = [&before, &after].map(|file| Arc::new(Geography::read(&file.0).unwrap()));
    let mut places = Places::default();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(*places.find(address), Place::default());
    places.set(Some(&before));
    for text in ADDRESSES.iter().chain(&ADDRESSES) {
        let address = text.parse().unwrap();
        assert_eq!(*places.find(address), before.place(address));
    }
    // Neighbours have one place.
    assert!(Arc::ptr_eq(&places.find(address), &places.find("192.0.2.8".parse().unwrap())));
    // More addresses than are remembered.
    for number in 0..2 * super::ADDRESSES as u32 {
        let address = IpAddr::from(number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        assert_eq!(*places.find(address), before.place(address));
    }
    assert_eq!((&*places.find(address).country, places.by_address.len()), ("CH", super::ADDRESSES));
    places.set(Some(&after));
    assert_eq!(&*places.find(address).country, "AT");
    places.set(None);
    assert_eq!(*places.find(address), Place::default());
}

#[test]
fn a_damaged_file_is_refused_in_one_line_or_harmless() {
    let written = Written::new("damaged", "city");
    let octets = fs::read(&written.0).unwrap();
    let mut refused = 0;
    let mut read = |octets: &[u8]| {
        match Geography::parse(&written.0, octets.to_vec()) {
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(!text.contains('\n') && text.contains("it is not a MaxMind DB file, or damaged: "));
            }
            Ok(geography) => ADDRESSES.iter().for_each(|text| {
                let place = geography.place(text.parse().unwrap());
                assert!(place.latitude.is_none_or(f64::is_finite));
            }),
        }
        refused
    };
    for length in 0..octets.len() {
        assert_eq!(read(&octets[..length]), length + 1, "cut at {length}");
    }
    let cut = octets.len();
    for position in 0..octets.len() {
        for bit in 0..8 {
            let mut damaged = octets.clone();
            damaged[position] ^= 1 << bit;
            read(&damaged);
        }
    }
    // What is left over are other texts and degrees, and other pointers that lead to something.
    assert!(read(b"") - cut > octets.len(), "most are found");
    assert!(
        Geography::read(Path::new("/nowhere/places.mmdb")).unwrap_err().to_string().starts_with("/nowhere")
    );
}
