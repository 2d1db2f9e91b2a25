//! Which member may depend on which: dependencies point one way, and aya stays at the kernel's side.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

/// One rule for each member.
const RULES: [Rule; 7] = [
    Rule { member: "pathflow-common", ours: &[], near_kernel: true },
    Rule { member: "pathflow-ebpf", ours: &["pathflow-common"], near_kernel: true },
    Rule { member: "pathflow-bgp", ours: &[], near_kernel: false },
    Rule { member: "pathflow-exporter", ours: &[], near_kernel: false },
    Rule {
        member: "pathflow",
        ours: &["pathflow-common", "pathflow-bgp", "pathflow-exporter", "pathflow"],
        near_kernel: true,
    },
    Rule {
        member: "pathflow-perf",
        ours: &["pathflow-common", "pathflow-bgp", "pathflow-exporter", "pathflow"],
        near_kernel: true,
    },
    Rule { member: "xtask", ours: &[], near_kernel: false },
];

/// The contract is compiled for the kernel: whatever it needs, the verifier would have to accept.
const CONTRACT: &str = "pathflow-common";

/// The test target that needs root, and so must not run with a plain `cargo test`.
const NETNS: &str = "netns";

struct Rule {
    member: &'static str,
    /// Members it may depend on.
    ours: &'static [&'static str],
    /// Whether it may depend on aya.
    near_kernel: bool,
}

/// A member of the workspace, as far as the rules look at it.
pub(super) struct Member {
    name: String,
    /// Its manifest: path relative to the root, and text for line numbers.
    manifest: String,
    manifest_text: String,
    dependencies: Vec<Dependency>,
    /// Test targets that a plain `cargo test` runs.
    tests: Vec<String>,
}

struct Dependency {
    name: String,
    /// Neither optional nor only for tests or build scripts.
    always: bool,
}

/// Reads the members from what cargo says of them.
pub(super) fn members(metadata: &Metadata, root: &Path) -> Result<Vec<Member>> {
    let packages = metadata.workspace_packages().into_iter();
    packages
        .map(|package| {
            let path = package.manifest_path.as_std_path();
            let dependencies = package.dependencies.iter().map(|dependency| Dependency {
                name: dependency.name.clone(),
                always: dependency.kind == DependencyKind::Normal && !dependency.optional,
            });
            let tests = package.targets.iter().filter(|target| target.is_test() && target.test);
            Ok(Member {
                name: package.name.to_string(),
                manifest: path.strip_prefix(root).unwrap_or(path).display().to_string(),
                manifest_text: fs::read_to_string(path).with_context(|| path.display().to_string())?,
                dependencies: dependencies.collect(),
                tests: tests.map(|target| target.name.clone()).collect(),
            })
        })
        .collect()
}

/// Checks every member against its rule.
pub(super) fn check(members: &[Member]) -> Vec<Finding> {
    members.iter().flat_map(|member| check_member(member, members)).collect()
}

fn check_member(member: &Member, members: &[Member]) -> Vec<Finding> {
    let Some(rule) = RULES.iter().find(|rule| rule.member == member.name) else {
        return vec![member.finding("name", format!("{} has no dependency rule in tidy", member.name))];
    };
    let mut findings = Vec::new();
    for Dependency { name, always } in &member.dependencies {
        let is_ours = members.iter().any(|member| member.name == *name);
        let is_aya = name == "aya" || name.starts_with("aya-");
        let broken = is_ours && !rule.ours.contains(&name.as_str()) || is_aya && !rule.near_kernel;
        if broken || member.name == CONTRACT && *always {
            findings.push(member.finding(name, format!("{} may not depend on {name}", member.name)));
        }
    }
    if member.tests.iter().any(|test| test == NETNS) {
        let message =
            format!("test target {NETNS} needs root: set `test = false`, `cargo xtask test` runs it");
        findings.push(member.finding(NETNS, message));
    }
    findings
}

impl Member {
    /// A finding at the first line of the manifest that names `word`.
    fn finding(&self, word: &str, message: String) -> Finding {
        let names = |line: &str| {
            let line = line.trim_start();
            line.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '=', '.']))
                || line.contains(&format!("\"{word}\""))
                || line.starts_with('[') && line.ends_with(&format!(".{word}]"))
        };
        let line = self.manifest_text.lines().position(names).map_or(1, |index| index + 1);
        Finding::new(&self.manifest, line, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: &[&str]) -> Member {
        let lines = dependencies.join(" = {}\n");
        Member {
            name: name.to_owned(),
            manifest: format!("{name}/Cargo.toml"),
            manifest_text: format!("[package]\nname = \"{name}\"\n[dependencies]\n{lines} = {{}}\n"),
            dependencies: dependencies
                .iter()
                .map(|name| Dependency { name: (*name).to_owned(), always: true })
                .collect(),
            tests: Vec::new(),
        }
    }

    /// The seven members, with one of them replaced.
    fn found(changed: Member) -> Vec<Finding> {
        let mut members: Vec<Member> = RULES.iter().map(|rule| member(rule.member, rule.ours)).collect();
        members.retain(|member| member.name != changed.name);
        members.push(changed);
        check(&members)
    }

    #[test]
    fn every_allowed_dependency_passes() {
        for rule in &RULES {
            assert_eq!(found(member(rule.member, rule.ours)), []);
        }
        assert_eq!(found(member("pathflow", &["aya", "anyhow"])), []);
    }

    #[test]
    fn a_dependency_in_the_wrong_direction_is_found_at_its_line() {
        for (name, dependency) in [
            ("pathflow-bgp", "pathflow-exporter"),
            ("pathflow-exporter", "pathflow-common"),
            ("pathflow-ebpf", "pathflow"),
            ("pathflow", "pathflow-perf"),
            ("xtask", "pathflow-common"),
            ("pathflow-common", "pathflow-bgp"),
        ] {
            let findings = found(member(name, &[dependency]));
            assert_eq!(findings.len(), 1, "{name}");
            assert_eq!(findings[0].line, 4);
            assert!(findings[0].message.contains(dependency));
        }
    }

    #[test]
    fn aya_away_from_the_kernel_is_found() {
        assert_eq!(found(member("pathflow-exporter", &["aya"])).len(), 1);
        assert_eq!(found(member("pathflow-bgp", &["aya-log"])).len(), 1);
    }

    #[test]
    fn the_contract_has_only_optional_and_test_dependencies() {
        assert_eq!(found(member("pathflow-common", &["libc"])).len(), 1);
        let mut optional = member("pathflow-common", &["aya", "proptest"]);
        optional.dependencies.iter_mut().for_each(|dependency| dependency.always = false);
        assert_eq!(found(optional), []);
    }

    #[test]
    fn a_member_without_a_rule_is_found() {
        assert_eq!(found(member("pathflow-new", &[])).len(), 1);
    }

    #[test]
    fn namespace_tests_in_a_plain_cargo_test_are_found() {
        let mut pathflow = member("pathflow", &[]);
        pathflow.tests.push(NETNS.to_owned());
        assert_eq!(found(pathflow).len(), 1);
    }
}
