//! The metrics page, as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// One scrape: values by metric name, each with its labels.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    samples: BTreeMap<String, Vec<(Labels, f64)>>,
    /// Names of all metrics, without what counters have at their end.
    families: BTreeSet<String>,
}

pub(crate) type Labels = BTreeMap<String, String>;

impl Metrics {
    /// Reads the page. To be called by a thread that is in the daemon's namespace.
    pub(crate) fn scrape(address: SocketAddr) -> Self {
        Self::parse(&get(address, "/metrics"))
    }

    fn parse(page: &str) -> Self {
        assert!(page.trim_end().ends_with("# EOF"), "page is cut off: {page}");
        let mut samples: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let labels = labels
                .map(|label| label.split_once('=').unwrap())
                .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
                .collect();
            samples.entry(name.to_owned()).or_default().push((labels, value.parse().unwrap()));
        }
        let name = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        Self { samples, families: page.lines().filter_map(name).collect() }
    }

    /// Whether there is a metric of this name, with or without a series.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.families.contains(name.strip_suffix("_total").unwrap_or(name))
    }

    /// Every value of a metric, with its labels; a panic if there is no such metric.
    pub(crate) fn family(&self, name: &str) -> &[(Labels, f64)] {
        self.samples.get(name).unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// Sum of a metric over the series that have all of `labels`.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |series: &Labels, (name, value): &(&str, &str)| {
            series.get(*name).is_some_and(|found| found == value)
        };
        let series = self.family(name).iter();
        let sum: f64 =
            series.filter(|(series, _)| labels.iter().all(|label| has(series, label))).map(|(_, v)| v).sum();
        sum as u64
    }

    /// Sum of a metric over all its series.
    pub(crate) fn total(&self, name: &str) -> u64 {
        self.sum(name, &[])
    }

    /// The values of one label of a metric.
    pub(crate) fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<String> =
            self.family(name).iter().filter_map(|(labels, _)| labels.get(label).cloned()).collect();
        values.sort();
        values.dedup();
        values
    }

    /// Every counter, by its name with labels.
    pub(crate) fn counters(&self) -> BTreeMap<String, f64> {
        let counters = self.samples.iter().filter(|(name, _)| name.ends_with("_total"));
        counters
            .flat_map(|(name, series)| {
                series.iter().map(move |(labels, value)| (format!("{name}{labels:?}"), *value))
            })
            .collect()
    }
}

/// Body of a page, which must be there.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}
