//! goflow2, a collector in Go that shares no code with the others, reads every format.
//!
//! `cargo xtask test` builds it where there is Go, and names its place in `PATHFLOW_GOFLOW2`.

#![forbid(unsafe_code)]

#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests against other collectors")]
#[path = "../interop/support.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::env;
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use pathflow_exporter::sflow::{Agent, AgentSettings, FlowSample, HeaderProtocol, SampledInterface};
    use pathflow_exporter::{ExportSettings, FlowRecord, Format, Transport, Udp, UdpSettings};
    use serde_json::Value;

    use crate::support::{
        Collector, NOW, TempDir, address, as_in_netflow_v5, context, flows, free_port, udp_process,
    };

    /// A running goflow2 that writes JSON.
    struct Goflow2 {
        collector: Collector,
        printed: PathBuf,
        _directory: TempDir,
    }

    impl Goflow2 {
        fn start(name: &str, scheme: &str) -> Self {
            let program = env::var_os("PATHFLOW_GOFLOW2").expect("PATHFLOW_GOFLOW2: the goflow2 program");
            let directory = TempDir::new(&format!("goflow2-{name}"));
            let (printed, port) = (directory.file("flows.json"), free_port());
            let mut command = Command::new(program);
            // Two workers write a line and its end each on their own, so that two lines can become one.
            let listen = format!("{scheme}://127.0.0.1:{port}?workers=1");
            command.args(["-listen", &listen, "-addr", "127.0.0.1:0"]);
            command.args(["-format", "json", "-transport", "file", "-transport.file"]).arg(&printed);
            let collector = Collector::start(&mut command, port, directory.file("log"));
            Self { collector, printed, _directory: directory }
        }

        fn address(&self) -> SocketAddr {
            self.collector.address()
        }

        /// The first so many records, and no more within a moment.
        fn records(&self, count: usize) -> Vec<Value> {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                let text = std::fs::read_to_string(&self.printed).unwrap_or_default();
                // A line that is being written is not read yet.
                let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                let records: Vec<Value> =
                    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                if records.len() >= count {
                    return records;
                }
                let log = self.collector.log();
                assert!(Instant::now() < deadline, "goflow2 printed only {text:?}: {log}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn assert_record(read: &Value, record: &FlowRecord, format: Format) {
        let is = |key: &str, value: Value| assert_eq!(read[key], value, "{key} of {read:#}");
        is("src_addr", record.source_address.to_string().into());
        is("dst_addr", record.destination_address.to_string().into());
        is("bytes", record.octet_delta_count.into());
        is("packets", record.packet_delta_count.into());
        is("src_port", record.source_port.into());
        is("dst_port", record.destination_port.into());
        is("in_if", record.ingress_interface.into());
        is("out_if", record.egress_interface.into());
        is("ip_tos", record.ip_class_of_service.into());
        is("tcp_flags", record.tcp_control_bits.into());
        is("src_as", record.bgp_source_as_number.into());
        is("dst_as", record.bgp_destination_as_number.into());
        is("time_flow_start_ns", (record.flow_start_milliseconds * 1_000_000).into());
        is("time_flow_end_ns", (record.flow_end_milliseconds * 1_000_000).into());
        if format != Format::NetflowV5 {
            is("src_vlan", record.vlan_id.into());
        }
        if let Some(next_hop) = record.ip_next_hop {
            is("next_hop", next_hop.to_string().into());
        }
    }

    #[test]
    fn goflow2_reads_every_record_of_every_format() {
        for (format, kind) in
            [(Format::Ipfix, "IPFIX"), (Format::NetflowV9, "NETFLOW_V9"), (Format::NetflowV5, "NETFLOW_V5")]
        {
            let goflow2 = Goflow2::start(format.as_str(), "netflow");
            let mut records = flows();
            if format == Format::NetflowV5 {
                // What it cannot carry has tests of its own.
                records = records.iter().filter_map(as_in_netflow_v5).collect();
                records.retain(|record| u32::try_from(record.octet_delta_count).is_ok());
            }
            let settings = ExportSettings { format, ..ExportSettings::default() };
            let mut process = udp_process(&settings, goflow2.address());
            process.set_context(Arc::new(context()));
            process.export(NOW, &records);
            process.close(NOW);
            let read = goflow2.records(records.len());
            assert_eq!(read.len(), records.len());
            for record in &records {
                let same = |read: &&Value| {
                    let address = record.source_address.to_string();
                    read["src_addr"] == address
                        && read["packets"] == record.packet_delta_count
                        && read["src_port"] == record.source_port
                        && read["dst_port"] == record.destination_port
                };
                let found = read.iter().find(same).unwrap_or_else(|| panic!("no {record:?} in {read:#?}"));
                assert_eq!(found["type"], kind);
                assert_record(found, record, format);
            }
        }
    }

    #[test]
    fn goflow2_reads_sflow_samples() {
        let goflow2 = Goflow2::start("sflow", "sflow");
        let udp = Udp::connect(&UdpSettings::new(goflow2.address())).unwrap();
        let settings = AgentSettings::new(address("192.0.2.254"));
        let mut agent = Agent::new(settings, Transport::Udp(udp)).unwrap();
        let header = [
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 1, 44, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2,
            1, 198, 51, 100, 2, 0x30, 0x39, 1, 187, 1, 24, 0, 0, 1, 2, 3, 4,
        ];
        for sample_pool in [100, 200] {
            agent.flow_sample(
                NOW,
                &FlowSample {
                    source: 7,
                    sampling_rate: 100,
                    sample_pool,
                    drops: 0,
                    input: SampledInterface::Index(7),
                    output: SampledInterface::Index(9),
                    protocol: HeaderProtocol::Ethernet,
                    frame_length: 314,
                    header: &header,
                    switch: None,
                    router: None,
                    gateway: None,
                },
            );
        }
        agent.close(NOW);
        let read = goflow2.records(2);
        assert_eq!(read.len(), 2);
        for record in read {
            let is = |key: &str, value: Value| assert_eq!(record[key], value, "{key} of {record:#}");
            is("type", "SFLOW_5".into());
            is("sampler_address", "192.0.2.254".into());
            is("sampling_rate", 100.into());
            is("src_addr", "192.0.2.1".into());
            is("dst_addr", "198.51.100.2".into());
            is("src_port", 12_345.into());
            is("dst_port", 443.into());
            is("in_if", 7.into());
            is("out_if", 9.into());
            // sFlow counts the frame check sequence.
            is("bytes", 318.into());
            is("packets", 1.into());
        }
    }
}
