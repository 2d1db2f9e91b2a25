//! TLS: who is let in, and who is refused, with one clear reason.

use std::net::TcpListener;
use std::time::Instant;

use pathflow_exporter::{LossReason, TlsFiles, TlsSettings};
use rustls::version::{TLS12, TLS13};

use super::peer::{
    Certificates, Exporter, NAMES, PATIENCE, accept_some_tls, accept_tls, messages, numbered, octets,
};

#[test]
fn every_record_arrives_by_either_version_with_and_without_our_certificate() {
    let certificates = Certificates::new("tls");
    for version in [&TLS12, &TLS13] {
        for (asks, name) in [(false, NAMES[0]), (true, NAMES[1])] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let collector = accept_tls(&listener, &certificates, version, asks);
            let files = if asks { certificates.identified() } else { certificates.anonymous() };
            let mut exporter = Exporter::tls(listener.local_addr().unwrap(), &files, name);
            exporter.export(&numbered(0..20_000));
            assert_eq!(exporter.faults(), [""; 0]);
            let account = exporter.close();
            let seen = collector.join().unwrap();
            assert_eq!(seen.error, None, "ends by close_notify");
            assert_eq!(octets(&messages(&seen.stream)), (0..20_000).collect::<Vec<u64>>());
            assert_eq!(account.delivered, account.accepted);
        }
    }
}

#[test]
fn a_collector_that_restarts_gets_templates_first_and_nothing_is_lost_or_sent_twice() {
    let certificates = Certificates::new("tls-restart");
    let files = certificates.anonymous();
    for version in [&TLS12, &TLS13] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut exporter = Exporter::tls(listener.local_addr().unwrap(), &files, NAMES[0]);
        let first = accept_some_tls(&listener, &certificates, version, false, 500_000);
        exporter.until("connected", |exporter| exporter.process.is_ready());
        let second = accept_tls(&listener, &certificates, version, false);
        let deadline = Instant::now() + PATIENCE;
        let mut accepted = 0;
        while exporter.faults().is_empty() {
            assert!(Instant::now() < deadline, "it takes everything");
            exporter.export(&numbered(accepted..accepted + 500));
            accepted += 500;
        }
        exporter.export(&numbered(accepted..accepted + 500));
        assert_eq!(exporter.faults(), ["the collector closed the connection"]);
        let account = exporter.close();
        let mut received = octets(&messages(&first.join().unwrap().stream));
        received.extend(octets(&messages(&second.join().unwrap().stream)));
        assert!(received.is_sorted_by(|a, b| a < b), "out of order, or twice");
        assert_eq!(account.delivered.records, received.len() as u64);
        assert_eq!(account.accepted, account.delivered + account.lost(LossReason::ConnectionLost));
    }
}

/// What the exporter says when it tries, and that it sends nothing.
fn refusal(certificates: &Certificates, files: &TlsFiles, name: &str, asks: bool) -> Vec<String> {
    let mut said = Vec::new();
    for version in [&TLS12, &TLS13] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = accept_tls(&listener, certificates, version, asks);
        let mut exporter = Exporter::tls(listener.local_addr().unwrap(), files, name);
        exporter.process.export(exporter.now, &numbered(0..10));
        exporter.until("refused", |exporter| !exporter.events.is_empty());
        let seen = collector.join().unwrap();
        assert!(seen.stream.is_empty() && seen.error.is_some());
        assert_eq!(exporter.process.account().pending.records, 10, "records wait");
        assert_eq!(exporter.events.len(), 1);
        said.extend(exporter.faults());
    }
    assert_eq!(said.len(), 2);
    said
}

#[test]
fn a_collector_of_another_authority_is_refused() {
    let (certificates, others) = (Certificates::new("ours"), Certificates::new("theirs"));
    for reason in refusal(&certificates, &others.anonymous(), NAMES[0], false) {
        assert_eq!(reason, "invalid peer certificate: UnknownIssuer");
    }
}

#[test]
fn a_collector_of_another_name_is_refused() {
    let certificates = Certificates::new("name");
    for name in ["other.test", "127.0.0.2"] {
        for reason in refusal(&certificates, &certificates.anonymous(), name, false) {
            assert!(
                reason.starts_with("invalid peer certificate: certificate not valid for name")
                    && reason.contains(name)
                    && reason.contains("collector.test"),
                "{reason}"
            );
        }
    }
}

#[test]
fn a_collector_that_wants_our_certificate_gets_nothing_without_it() {
    let certificates = Certificates::new("anonymous");
    let reasons = refusal(&certificates, &certificates.anonymous(), NAMES[0], true);
    for reason in reasons {
        assert!(reason.starts_with("received fatal alert: "), "{reason}");
    }
}

#[test]
fn files_that_are_wrong_are_named_with_the_reason() {
    let certificates = Certificates::new("files");
    let good = certificates.identified();
    let missing = certificates.file("missing.pem");
    let collectors_key = certificates.file("collector.key");
    for (files, expected) in [
        (TlsFiles { ca: missing.clone(), ..good.clone() }, "missing.pem: No such file or directory"),
        (TlsFiles { ca: collectors_key.clone(), ..good.clone() }, "collector.key: there is no PEM cert"),
        (TlsFiles { certificate: Some(missing.clone()), ..good.clone() }, "missing.pem: No such file"),
        (TlsFiles { key: Some(missing), ..good.clone() }, "missing.pem: No such file or directory"),
        (TlsFiles { key: Some(good.ca.clone()), ..good.clone() }, "ca.pem: there is no PEM private key"),
        (
            TlsFiles { key: Some(collectors_key), ..good.clone() },
            "collector.key: it is not the key of the certificate in ",
        ),
        (TlsFiles { key: None, ..good.clone() }, "certificate and key are given both or not at all"),
    ] {
        let error = TlsSettings::load(&files, NAMES[0]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = TlsSettings::load(&good, "not a name").unwrap_err().to_string();
    assert_eq!(error, "\"not a name\" is neither a host name nor an IP address");
}
