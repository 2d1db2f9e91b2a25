//! Against a registry that is a page of Rust: what is asked, what becomes of answers, and of messages meanwhile. The real
//! one is in `tests/netns/kafka_avro.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pathflow_exporter::kafka::KafkaSettings;

use super::settings::RegistryUrl;
use super::*;
use crate::aggregate::encode::{EncodeSettings, FormatTable};
use crate::aggregate::{KafkaFormat, KafkaTable, OutputSettingsError};

/// A request, as it came.
#[derive(Clone, Debug)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A registry by the documentation of Confluent's: one answer to every request.
struct Stub {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    fn new(status: u16, body: &str) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), status, body)
    }

    fn at(address: SocketAddr, status: u16, body: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let answer = Arc::new(Mutex::new((status, body.to_owned())));
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let stub = Self { address: listener.local_addr().unwrap(), answer, requests };
        let (answer, requests) = (Arc::clone(&stub.answer), Arc::clone(&stub.requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                requests.lock().unwrap().push(read_request(&stream));
                let (status, body) = answer.lock().unwrap().clone();
                // The client may have gone.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        stub
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Request { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pathflow-avro-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that is not there takes nothing, and messages wait in memory.
fn table(registry: &str) -> KafkaTable {
    KafkaTable {
        brokers: vec!["127.0.0.1:1".to_owned()],
        topic: "acct".to_owned(),
        format: KafkaFormat::Avro,
        schema_registry: registry.to_owned(),
        durability: crate::kafka::DurabilityName::Memory,
        spool: String::new(),
        ..KafkaTable::default()
    }
}

fn checked(table: &KafkaTable) -> Result<KafkaOutputSettings, OutputSettingsError> {
    let encode = EncodeSettings::new(&FormatTable::default(), true);
    KafkaOutputSettings::new("acct", table, &encode, &[Primitive::SrcHost])
}

fn opened(settings: &KafkaOutputSettings) -> AvroContent {
    AvroContent::open("acct", settings.avro.as_ref().unwrap(), settings, &[Primitive::SrcHost]).unwrap()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within half a minute");
}

const ROW: Tally = Tally { records: 1, packets: 2, octets: 3 };

fn send(content: &mut AvroContent, kafka: &mut Kafka) -> Result<(), &'static str> {
    let mut payload = Vec::new();
    content.begin(&mut payload, Record::Row);
    payload.extend_from_slice(b"datum");
    let message = Message { topic: "acct", partition: None, key: None, payload: &payload, tally: ROW };
    content.send(kafka, &message, &mut Patience::new())
}

fn account(content: &AvroContent) -> OutputAccount {
    let mut account = OutputAccount::default();
    content.enter(&mut account);
    account
}

#[test]
fn a_schema_is_posted_to_its_subject() {
    let stub = Stub::new(200, r#"{"id": 258}"#);
    let url = stub.url().replace("http://", "http://user:p%40ss@") + "/apis/";
    let settings = checked(&KafkaTable { markers: true, ..table(&url) }).unwrap();
    let mut content = opened(&settings);
    let registered = content.registered.as_mut().unwrap();
    wait_for("an id", || {
        registered.take_news();
        registered.ids.is_some()
    });
    assert_eq!(registered.prefix(Record::Row), [0, 0, 0, 1, 2]);
    let requests = stub.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    let line = |subject: &str| format!("POST /apis/subjects/{subject}/versions HTTP/1.1");
    assert_eq!(lines, [line("acct-value"), line("acct-acct_init"), line("acct-acct_close")]);
    let Request { headers, body, .. } = &requests[0];
    assert_eq!(headers["content-type"], "application/vnd.schemaregistry.v1+json");
    // base64 of "user:p@ss".
    assert_eq!(headers["authorization"], "Basic dXNlcjpwQHNz");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["schema"], content.encoder.schema(Record::Row).to_string());
}

#[test]
fn rows_wait_for_the_registry_and_then_go_in_order() {
    let stub = Stub::new(500, r#"{"error_code": 50001, "message": "Error in the backend data store"}"#);
    let settings = checked(&table(&stub.url())).unwrap();
    let mut content = opened(&settings);
    let mut kafka = Kafka::start(settings.client.clone()).unwrap();
    wait_for("a failure", || account(&content).errors == [(REGISTRY, 1)]);
    for _ in 0..3 {
        send(&mut content, &mut kafka).unwrap();
        content.poll(&mut kafka);
    }
    assert_eq!(account(&content).waiting, Tally { records: 3, packets: 6, octets: 9 });
    assert_eq!(kafka.account().accepted.records, 0);
    *stub.answer.lock().unwrap() = (200, r#"{"id": 7}"#.to_owned());
    wait_for("the rows", || {
        content.poll(&mut kafka);
        kafka.account().accepted.records == 3
    });
    assert_eq!(account(&content).waiting, Tally::ZERO);
    send(&mut content, &mut kafka).unwrap();
    assert_eq!(kafka.account().accepted.records, 4);
}

#[test]
fn what_has_no_room_to_wait_is_counted_and_so_is_what_waits_at_the_end() {
    let stub = Stub::new(409, r#"{"error_code": 409, "message": "incompatible"}"#);
    let settings = checked(&KafkaTable { queue_octets: 1 << 20, ..table(&stub.url()) }).unwrap();
    let mut content = opened(&settings);
    let mut kafka = Kafka::start(settings.client.clone()).unwrap();
    let mut taken = 0;
    while send(&mut content, &mut kafka).is_ok() {
        taken += 1;
    }
    assert!((2000..20_000).contains(&taken), "{taken}");
    assert_eq!(send(&mut content, &mut kafka), Err(NOT_REGISTERED));
    assert_eq!(account(&content).waiting.records, taken);
    content.close(&mut kafka, Instant::now());
    let account = account(&content);
    assert_eq!(account.waiting, Tally::ZERO);
    let all = Tally { records: taken, packets: 2 * taken, octets: 3 * taken };
    assert_eq!(account.lost, [(NOT_REGISTERED, all)]);
}

/// At the end the registry is asked at once, however long the pause is by then.
#[test]
fn rows_that_wait_at_the_end_go_if_the_registry_is_back() {
    let stub = Stub::new(503, "");
    let settings = checked(&table(&stub.url())).unwrap();
    let mut content = opened(&settings);
    let mut kafka = Kafka::start(settings.client.clone()).unwrap();
    send(&mut content, &mut kafka).unwrap();
    wait_for("a pause of four seconds", || account(&content).errors == [(REGISTRY, 3)]);
    *stub.answer.lock().unwrap() = (200, r#"{"id": 1}"#.to_owned());
    // Half of the time is for the registry.
    content.close(&mut kafka, Instant::now() + Duration::from_secs(6));
    assert_eq!(account(&content).lost, []);
    assert_eq!(kafka.account().accepted.records, 1);
}

#[test]
fn ids_of_earlier_runs_are_used_until_the_registry_answers() {
    let folder = Folder::new("known");
    let durable = |registry: &str| {
        let mut settings = checked(&table(registry)).unwrap();
        let spool = pathflow_exporter::kafka::SpoolSettings::new(folder.0.clone());
        settings.client = KafkaSettings { spool: Some(spool), ..settings.client };
        settings
    };
    let stub = Stub::new(200, r#"{"id": 11}"#);
    let (address, url) = (stub.address, stub.url());
    let mut content = opened(&durable(&url));
    let registered = content.registered.as_mut().unwrap();
    wait_for("an id", || {
        registered.take_news();
        registered.ids.is_some()
    });
    *stub.answer.lock().unwrap() = (503, String::new());
    let again = opened(&durable(&url));
    assert!(!again.registered.as_ref().unwrap().has_to_wait());
    assert_eq!(again.registered.unwrap().prefix(Record::Row), [0, 0, 0, 0, 11]);
    // Of another registry nothing is known, nor of another subject.
    let elsewhere = durable(&format!("http://{address}/elsewhere"));
    assert!(opened(&elsewhere).registered.unwrap().has_to_wait());
    let other = checked(&KafkaTable { schema_subject: "other".to_owned(), ..table(&url) }).unwrap();
    let other = KafkaOutputSettings { client: elsewhere.client.clone(), ..other };
    assert!(opened(&other).registered.unwrap().has_to_wait());
    // A file that is no list is as none.
    fs::write(folder.0.join("schema-ids.json"), "[{").unwrap();
    assert!(opened(&durable(&url)).registered.unwrap().has_to_wait());
}

#[test]
fn what_a_registry_says_is_repeated_in_one_line() {
    for (status, body, expected) in [
        (
            409,
            "{\"error_code\":409,\"message\":\"Schema being registered\\nis incompatible\"}",
            "acct-value: refused with status 409: Schema being registered is incompatible",
        ),
        (404, "<html>not here</html>", "acct-value: refused with status 404: <html>not here</html>"),
        (200, "<html>hello</html>", "acct-value: this is no answer of a schema registry: <html>hello</html>"),
        (200, r#"{"version": 1}"#, r#"acct-value: this is no answer of a schema registry: {"version": 1}"#),
    ] {
        let stub = Stub::new(status, body);
        let settings = checked(&table(&stub.url())).unwrap();
        let content = opened(&settings);
        let registry = registry::Registry::new(settings.avro.as_ref().unwrap().registry.as_ref().unwrap());
        let error = registry.register(&content.registered.unwrap().wanted[0]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn settings_that_cannot_work_are_refused_by_key() {
    let refused = |change: &dyn Fn(&mut KafkaTable), expected: [&str; 2]| {
        let mut table = table("http://registry.example.org:8081/apis/ccompat/v7/");
        change(&mut table);
        let error = checked(&table).unwrap_err();
        assert!(error.key == expected[0] && error.reason.contains(expected[1]), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    };
    assert!(checked(&table("http://registry.example.org:8081/apis/ccompat/v7/")).is_ok());
    refused(&|table| table.format = KafkaFormat::Json, ["schema_registry", "format = \"avro\" only"]);
    refused(&|table| table.message_octets = 1000, ["message_octets", "a message of its own"]);
    refused(&|table| table.schema_subject = "a/b".to_owned(), ["schema_subject", "letters"]);
    refused(&|table| table.schema_registry = "ftp://canary@host".to_owned(), ["schema_registry", "http://"]);
    refused(&|table| table.schema_registry = "http://canary@".to_owned(), ["schema_registry", ""]);
    refused(&|table| table.schema_registry = "registry:8081".to_owned(), ["schema_registry", ""]);
    let without = |table: &mut KafkaTable| table.schema_registry = String::new();
    refused(
        &|table| {
            without(table);
            table.markers = true;
        },
        ["markers", "schema_registry"],
    );
    refused(
        &|table| {
            without(table);
            table.schema_subject = "subject".to_owned();
        },
        ["schema_subject", "only with schema_registry"],
    );
    refused(
        &|table| {
            table.schema_registry = "https://registry".to_owned();
            table.schema_registry_ca_file = "/dev/null".to_owned();
        },
        ["schema_registry_ca_file", "no certificate"],
    );
    refused(&|table| table.topic = "acct-$src_host".to_owned(), ["schema_subject", "no variables"]);
    let url = RegistryUrl::parse("https://user:canary@[2001:db8::1]:8081/path/").unwrap();
    assert_eq!((url.to_string(), format!("{url:?}")), {
        let shown = "https://[2001:db8::1]:8081/path".to_owned();
        (shown.clone(), shown)
    });
    assert_eq!(url.versions_of("a"), "https://[2001:db8::1]:8081/path/subjects/a/versions");
}

#[test]
fn the_schema_is_in_its_file_before_the_first_row() {
    let folder = Folder::new("file");
    let path = folder.0.join("new/acct.avsc");
    let settings = checked(&KafkaTable { schema_file: path.display().to_string(), ..table("") }).unwrap();
    let mut content = opened(&settings);
    assert_eq!(fs::read_to_string(&path).unwrap(), content.encoder.schema(Record::Row).pretty());
    // Without a registry nothing is before the datum, and nothing waits.
    let mut payload = Vec::new();
    content.begin(&mut payload, Record::Row);
    assert_eq!(payload, b"");
    let mut kafka = Kafka::start(settings.client.clone()).unwrap();
    send(&mut content, &mut kafka).unwrap();
    assert_eq!(kafka.account().accepted.records, 1);
    fs::remove_dir_all(folder.0.join("new")).unwrap();
    fs::write(folder.0.join("new"), "").unwrap();
    let error = AvroContent::open("acct", settings.avro.as_ref().unwrap(), &settings, &[Primitive::SrcHost])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("aggregate acct: kafka.schema_file: ") && !error.contains('\n'), "{error}");
}
