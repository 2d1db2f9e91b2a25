//! Where addresses are, by a data base in the `MaxMind` DB format 2.0, such as `GeoLite2` City.
//!
//! The file is checked as a whole when it is read, and stays in memory: what happens to it on disk later means nothing.

use std::fmt;
use std::fs;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use maxminddb::{PathElement, Reader};

/// Addresses whose place is remembered by each thread, a power of two.
const ADDRESSES: usize = 1 << 16;
/// Places that are remembered by each thread: about as many cities as traffic meets.
const PLACES: usize = 1 << 16;

/// A data base of places.
pub struct Geography {
    file: PathBuf,
    reader: Reader<Vec<u8>>,
}

/// The data base cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct GeographyError {
    file: PathBuf,
    reason: String,
}

/// What the data base says of an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Code of the country (ISO 3166-1 alpha-2); empty = unknown.
    pub country: Arc<str>,
    /// Postal code; empty = unknown.
    pub postal_code: Arc<str>,
    /// Degrees north of the equator.
    pub latitude: Option<f64>,
    /// Degrees east of Greenwich.
    pub longitude: Option<f64>,
}

impl Default for Place {
    fn default() -> Self {
        Self { country: "".into(), postal_code: "".into(), latitude: None, longitude: None }
    }
}

impl Geography {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`GeographyError`] if it cannot be read, is no such data base, or is damaged.
    pub fn read(file: &Path) -> Result<Self, GeographyError> {
        let octets = fs::read(file)
            .map_err(|error| GeographyError { file: file.to_owned(), reason: error.to_string() })?;
        Self::parse(file, octets)
    }

    fn parse(file: &Path, octets: Vec<u8>) -> Result<Self, GeographyError> {
        let wrong = |reason| GeographyError { file: file.to_owned(), reason };
        let reader = Reader::from_source(octets).and_then(|reader| reader.verify().map(|()| reader));
        let damaged = |error| wrong(format!("it is not a MaxMind DB file, or damaged: {}", one_line(&error)));
        Ok(Self { file: file.to_owned(), reader: reader.map_err(damaged)? })
    }

    /// Kind of the data base, as it says itself.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// The record of an address, by its position in the file; `None` = there is none.
    fn record(&self, address: IpAddr) -> Option<(usize, maxminddb::LookupResult<'_, Vec<u8>>)> {
        // An IPv6 address in a data base of IPv4 is an error, and as unknown as others.
        let found = self.reader.lookup(address).ok()?;
        Some((found.offset()?, found))
    }

    /// Where an address is.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Place {
        self.record(address).map_or_else(Place::default, |(_, record)| place(&record))
    }
}

fn place(record: &maxminddb::LookupResult<'_, Vec<u8>>) -> Place {
    let text = |path: [&str; 2]| -> Arc<str> {
        record.decode_path::<&str>(&path.map(PathElement::Key)).ok().flatten().unwrap_or_default().into()
    };
    let degrees = |path: [&str; 2]| {
        let degrees = record.decode_path::<f64>(&path.map(PathElement::Key)).ok().flatten();
        degrees.filter(|degrees| degrees.is_finite())
    };
    Place {
        country: text(["country", "iso_code"]),
        postal_code: text(["postal", "code"]),
        latitude: degrees(["location", "latitude"]),
        longitude: degrees(["location", "longitude"]),
    }
}

fn one_line(error: &maxminddb::MaxMindDbError) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(", ")
}

impl fmt::Debug for Geography {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Geography")
            .field("file", &self.file)
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

/// Data bases are the same if they are of the same file and build.
impl PartialEq for Geography {
    fn eq(&self, other: &Self) -> bool {
        let build = |of: &Self| of.reader.metadata().build_epoch;
        self.file == other.file && build(self) == build(other)
    }
}

/// Where addresses are, as one thread remembers it.
#[derive(Debug, Default)]
pub struct Places {
    geography: Option<Arc<Geography>>,
    hasher: RandomState,
    /// The last address of each hash.
    by_address: Vec<Option<(IpAddr, Arc<Place>)>>,
    /// By position of the record in the file: many addresses have one.
    by_record: HashMap<usize, Arc<Place>, RandomState>,
    nowhere: Arc<Place>,
}

impl Places {
    /// They are those of this data base from now on.
    pub fn set(&mut self, geography: Option<&Arc<Geography>>) {
        if self.geography.as_ref().map(Arc::as_ptr) != geography.map(Arc::as_ptr) {
            self.geography = geography.cloned();
            self.by_address.clear();
            self.by_record.clear();
        }
    }

    /// Where an address is.
    pub fn find(&mut self, address: IpAddr) -> Arc<Place> {
        let Some(geography) = &self.geography else { return Arc::clone(&self.nowhere) };
        self.by_address.resize(ADDRESSES, None);
        let number = self.hasher.hash_one(address) as usize % ADDRESSES;
        let Some(entry) = self.by_address.get_mut(number) else { return Arc::clone(&self.nowhere) };
        if let Some((_, place)) = entry.as_ref().filter(|(remembered, _)| *remembered == address) {
            return Arc::clone(place);
        }
        let found = match geography.record(address) {
            None => Arc::clone(&self.nowhere),
            Some((position, record)) => {
                if self.by_record.len() >= PLACES {
                    self.by_record.clear();
                }
                let known = self.by_record.entry(position).or_insert_with(|| place(&record).into());
                Arc::clone(known)
            }
        };
        *entry = Some((address, Arc::clone(&found)));
        found
    }
}

#[cfg(test)]
mod tests;
