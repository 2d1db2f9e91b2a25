//! nfdump's `sfcapd` and pmacct's `sfacctd` receive over loopback.

use std::time::{Duration, Instant};

use pathflow_exporter::sflow::{FlowSample, SampledInterface};
use serde_json::Value;

use super::{Sample, agent, counters, frame, full_sample, settings};
use crate::nfdump::{sequence_errors, wait_until_read};
use crate::support::{Collector, NOW, TempDir, free_port, output, program};

const SAMPLES: u16 = 300;

/// Samples of flows with source ports from 1, all of packets of 1,000 octets on the wire.
fn samples() -> Vec<Sample> {
    let sample = |number: u16| Sample {
        flow: FlowSample {
            sampling_rate: 100,
            sample_pool: 100 * u64::from(number),
            output: SampledInterface::Index(9),
            frame_length: 1000,
            ..full_sample().flow
        },
        header: frame([192, 0, 2, 1], number, 1000, 128),
        ..full_sample()
    };
    (1..=SAMPLES).map(sample).collect()
}

/// Sends all samples, with counters between them.
fn send(collector: std::net::SocketAddr) {
    let mut agent = agent(collector, settings());
    for batch in samples().chunks(50) {
        for sample in batch {
            sample.export(&mut agent);
        }
        agent.counter_sample(NOW, &counters());
        agent.flush(NOW);
    }
    agent.close(NOW);
    assert_eq!(agent.account().delivered.flow_samples, u64::from(SAMPLES));
}

fn assert_values(flow: &Value, expected: &[(&str, Value)]) {
    for (key, value) in expected {
        assert_eq!(&flow[key], value, "{key} of {flow:#}");
    }
}

#[test]
fn sfcapd() {
    let directory = TempDir::new("sfcapd");
    let flows = directory.file("flows");
    std::fs::create_dir(&flows).unwrap();
    let port = free_port();
    let mut sfcapd = program("sfcapd", "nfdump-sflow");
    sfcapd.args(["-p", &port.to_string(), "-b", "127.0.0.1", "-B", "4000000", "-w"]).arg(&flows);
    let collector = Collector::start(&mut sfcapd, port, directory.file("log"));
    send(collector.address());
    wait_until_read(port);
    let log = collector.stop();
    let mut nfdump = program("nfdump", "nfdump");
    nfdump.args(["-q", "-N", "-o", "json", "-R"]).arg(&flows);
    let text = output(&mut nfdump);
    let list = format!("[{}]", text.trim().trim_start_matches('[').trim_end_matches(']'));
    let flows: Vec<Value> = serde_json::from_str(&list).unwrap();
    assert_eq!(flows.len(), usize::from(SAMPLES));
    assert_eq!(sequence_errors(&log), 0, "{log}");
    assert!(log.contains("agentSubId: 3, MeanSkipCount: 100"), "{log}");
    for (number, flow) in (1..).zip(&flows) {
        assert_values(
            flow,
            &[
                ("src_port", number.into()),
                ("dst_port", 443.into()),
                ("proto", 17.into()),
                ("src4_addr", "192.0.2.1".into()),
                ("dst4_addr", "198.51.100.2".into()),
                // Multiplied by the sampling rate; octets are those of frames with their check sequence.
                ("in_packets", 100.into()),
                ("in_bytes", 100_400.into()),
                ("sampled", 1.into()),
                ("input_snmp", 7.into()),
                ("output_snmp", 9.into()),
                ("src_mask", 24.into()),
                ("dst_mask", 22.into()),
                ("src_vlan", 301.into()),
                ("dst_vlan", 302.into()),
                ("src_as", 64_500.into()),
                ("dst_as", 64_512.into()),
                ("bgp4_next_hop", "203.0.113.1".into()),
                ("ip4_next_hop", "198.51.100.254".into()),
                ("in_src_mac", "02:00:00:00:00:02".into()),
                ("out_dst_mac", "02:00:00:00:00:01".into()),
            ],
        );
    }
}

#[test]
fn sfacctd() {
    let directory = TempDir::new("sfacctd");
    let port = free_port();
    let printed = directory.file("flows.json");
    let configuration = directory.file("sfacctd.conf");
    std::fs::write(
        &configuration,
        format!(
            "daemonize: false\n\
             sfacctd_ip: 127.0.0.1\n\
             sfacctd_port: {port}\n\
             sfacctd_as: sflow\n\
             sfacctd_net: sflow\n\
             sfacctd_renormalize: true\n\
             plugins: print[test]\n\
             print_output[test]: json\n\
             print_refresh_time[test]: 1\n\
             print_output_file[test]: {}\n\
             print_output_file_append[test]: true\n\
             aggregate[test]: peer_src_ip,src_host,dst_host,src_port,dst_port,proto,vlan,in_iface,out_iface,src_as,\
             dst_as,src_mask,dst_mask,as_path,std_comm,local_pref,peer_src_as,peer_dst_as,peer_dst_ip,sampling_rate\n",
            printed.display()
        ),
    )
    .unwrap();
    let mut sfacctd = program("sfacctd", "pmacct");
    sfacctd.arg("-f").arg(&configuration);
    let collector = Collector::start(&mut sfacctd, port, directory.file("log"));
    // What arrives before its plugin is ready is lost, and it has no better way to say that it is.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !collector.log().contains("Purging cache") {
        assert!(Instant::now() < deadline, "sfacctd does not start: {}", collector.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    send(collector.address());
    let flows: Vec<Value> = loop {
        let text = std::fs::read_to_string(&printed).unwrap_or_default();
        if text.lines().count() >= usize::from(SAMPLES) {
            break text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(Instant::now() < deadline, "sfacctd printed only {text:?}: {}", collector.log());
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut ports: Vec<u64> = flows.iter().map(|flow| flow["port_src"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    assert_eq!(ports, (1..=u64::from(SAMPLES)).collect::<Vec<_>>());
    for flow in &flows {
        assert_values(
            flow,
            &[
                ("peer_ip_src", "192.0.2.254".into()),
                ("ip_src", "192.0.2.1".into()),
                ("ip_dst", "198.51.100.2".into()),
                ("port_dst", 443.into()),
                ("ip_proto", "udp".into()),
                ("packets", 100.into()),
                ("bytes", 100_400.into()),
                ("sampling_rate", 1.into()),
                ("iface_in", 7.into()),
                ("iface_out", 9.into()),
                ("vlan", 301.into()),
                ("mask_src", 24.into()),
                ("mask_dst", 22.into()),
                ("as_src", 64_500.into()),
                ("as_dst", 64_512.into()),
                ("as_path", "64502_4200000001_64510_64511_64512".into()),
                ("comms", "64496:100_no-export".into()),
                ("local_pref", 150.into()),
                ("peer_as_src", 64_501.into()),
                ("peer_as_dst", 64_502.into()),
                ("peer_ip_dst", "203.0.113.1".into()),
            ],
        );
    }
}
