//! The configurations of the documents that pathflow comes from: what they become, and what is said of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Overrides;

/// Where the documents have their maps.
const PLACES: [&str; 4] = ["/etc/pmacct/", "/opt/pmacct-1.7.2/", "/home/maoke/pmacct_work/maps/", "/path/to/"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pmacct")
}

/// A copy of a document's files, in which paths lead to the copies.
struct Copy(PathBuf);

impl Copy {
    fn new(document: &str, test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pathflow-import-{}-{test}-{document}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let copy = Self(path);
        for entry in fs::read_dir(folder().join(document)).unwrap() {
            let path = entry.unwrap().path();
            let text = PLACES.iter().fold(fs::read_to_string(&path).unwrap(), |text, place| {
                text.replace(place, &format!("{}/", copy.0.display()))
            });
            fs::write(copy.0.join(path.file_name().unwrap()), text).unwrap();
        }
        copy
    }

    fn import(&self, name: &str) -> Imported {
        import(&self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn here(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "/path/to/")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn documents() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for document in fs::read_dir(folder()).unwrap() {
        let document = document.unwrap();
        for file in fs::read_dir(document.path()).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let is_configuration = name.ends_with(".conf") && name != "librdkafka.conf";
            if is_configuration {
                all.push((document.file_name().into_string().unwrap(), name));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn every_document_becomes_what_was_written_down_for_it() {
    let documents = documents();
    assert_eq!(documents.len(), 33, "{documents:?}");
    let mut faults = Vec::new();
    for (document, name) in documents {
        let copy = Copy::new(&document, "golden");
        let actual = match import(&copy.0.join(&name)) {
            Ok(imported) => copy.here(&imported.toml()),
            Err(error) => copy.here(&error.to_string()),
        };
        let expected = folder().join(&document).join(name.replace(".conf", ".toml"));
        if fs::read_to_string(&expected).ok().as_deref() != Some(&actual) {
            faults.push(format!("=== {}\n{actual}", expected.display()));
        }
    }
    if let Some(file) = std::env::var_os("PATHFLOW_IMPORT_RESULTS") {
        fs::write(file, faults.concat()).unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.concat());
}

#[test]
fn what_is_printed_is_a_right_configuration_and_the_same_that_runs() {
    for (document, name) in documents() {
        let copy = Copy::new(&document, "check");
        let imported = copy.import(&name);
        let file = copy.0.join("pathflow.toml");
        fs::write(&file, imported.toml()).unwrap();
        let read = config::read(&file).unwrap_or_else(|error| panic!("{document}/{name}: {error}"));
        assert_eq!(read, imported.raw, "{document}/{name}");
        // Names of hosts are not looked up here.
        if !imported.toml().contains("fqdn") {
            config::Config::resolve(read, Overrides::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
