//! Apache Kafka, the broker that the exporter is tested against. It is in no Debian package, and comes from Maven
//! Central.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

const VERSION: &str = "3.9.1";

/// Variable that Java takes options from, and what suits brokers that live for seconds: a third less work at the start.
pub(crate) const JAVA_OPTIONS: (&str, &str) =
    ("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC");

/// Where the archives are once they have been fetched: a class path for Java.
///
/// # Errors
/// Why they cannot be had here.
pub(crate) fn libraries() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("kafka");
    let libraries = folder.join("libs");
    if libraries.join(format!("kafka_2.13-{VERSION}.jar")).is_file()
        && libraries.join(format!("kafka-tools-{VERSION}.jar")).is_file()
    {
        return Ok(libraries);
    }
    for program in ["java", "mvn"] {
        if !process::succeeds(Command::new(program).arg("-version")) {
            bail!("there is no {program} on this machine");
        }
    }
    println!("Fetching Apache Kafka {VERSION} (about half a minute).");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let project = folder.join("pom.xml");
    fs::write(&project, project_of(&["kafka_2.13", "kafka-tools"]))
        .with_context(|| project.display().to_string())?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
        .args(["-DincludeScope=runtime", "-DoutputDirectory=libs"])
        .current_dir(&folder);
    process::run(&mut maven).context("Apache Kafka cannot be fetched")?;
    Ok(libraries)
}

/// A Maven project that is nothing but its dependencies.
fn project_of(artifacts: &[&str]) -> String {
    let dependency = |artifact: &&str| {
        format!(
            "<dependency><groupId>org.apache.kafka</groupId><artifactId>{artifact}</artifactId>\
             <version>{VERSION}</version></dependency>"
        )
    };
    let dependencies: String = artifacts.iter().map(dependency).collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>pathflow</groupId><artifactId>broker</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>\n"
    )
}
