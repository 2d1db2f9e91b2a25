//! Routes that BIRD has, in samples: the gateway record of sFlow.

use std::net::{IpAddr, UdpSocket};

use sflow_parser::models::core::{Address, FlowData, FlowSample};
use sflow_parser::models::record_flows::{AsPathType, ExtendedGateway, ExtendedRouter};

use super::bgp::{CONFIGURATION, settings, wait_for_routes};
use super::sflow::flow_samples;
use super::support::PATIENCE;
use super::support::bird::Bird;
use super::support::nfacctd::Nfacctd;
use super::support::probe::ProbeBuilder;
use super::support::routed::{CLIENT, LEFT, RIGHT, Routed, SERVER};
use super::support::temp_dir::TempDir;

/// Where the test's datagrams go; no part of anything else in them.
const PORT: u16 = 0xfade;

fn address(text: &str) -> Address {
    match text.parse().unwrap() {
        IpAddr::V4(address) => Address::IPv4(address),
        IpAddr::V6(address) => Address::IPv6(address),
    }
}

fn gateway(sample: &FlowSample) -> Option<ExtendedGateway> {
    sample.flow_records.iter().find_map(|record| match &record.flow_data {
        FlowData::ExtendedGateway(gateway) => Some(gateway.clone()),
        _ => None,
    })
}

fn router(sample: &FlowSample) -> Option<ExtendedRouter> {
    sample.flow_records.iter().find_map(|record| match &record.flow_data {
        FlowData::ExtendedRouter(router) => Some(router.clone()),
        _ => None,
    })
}

#[test]
fn samples_have_the_routes_of_their_packets() {
    let routed = Routed::new();
    // Of a network behind the server the kernel has only the default route.
    let behind = "192.0.2.9";
    routed.router.ip(&format!("route add default via {}", SERVER[0]));
    let more = format!("route 192.0.2.0/24 via {};\n  route 203.0.113.0/24", SERVER[0]);
    let bird = Bird::start(&routed.router, &CONFIGURATION.replacen("route 203.0.113.0/24", &more, 1));
    let directory = TempDir::new();
    let sfacctd = Nfacctd::start_sflow(
        &routed.router,
        "127.0.0.1:6344".parse().unwrap(),
        "sfacctd_as: sflow\nsfacctd_net: sflow\n\
         aggregate[test]: src_host,dst_host,dst_port,src_as,dst_as,peer_src_as,peer_dst_as,as_path,std_comm,\
         local_pref,peer_dst_ip,src_mask,dst_mask\n",
    );
    let socket = routed.router.run(|| UdpSocket::bind("127.0.0.1:6343").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let sflow = "[capture]\ndirection = \"both\"\nheader_sampling_interval = 1\n\
                 [sflow]\ncollectors = [\"127.0.0.1\", \"127.0.0.1:6344\"]\n[export]\nstdout = \"none\"\n";
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", &format!("{LEFT},{RIGHT}"))
        .configuration(&(settings(&directory, "") + sflow))
        .start();
    bird.wait_until_established();
    wait_for_routes(&probe, 7);

    // Who is not there says so, with the datagram in what he says.
    let listen = |address: &str| UdpSocket::bind((address, PORT)).unwrap();
    let _servers = routed.server.run(|| SERVER.map(listen));
    let _clients = routed.client.run(|| CLIENT.map(listen));
    for (source, destination, next_hop, lengths) in [
        (CLIENT[0], SERVER[0], SERVER[0], (24, 24)),
        (CLIENT[1], SERVER[1], SERVER[1], (64, 64)),
        (CLIENT[0], behind, SERVER[0], (24, 24)),
    ] {
        Routed::send(&routed.client, (destination, PORT), 100, 1);
        // Coming in at one interface, going out at the other.
        for sample in flow_samples(&socket, PORT, 2) {
            let gateway = gateway(&sample).unwrap_or_else(|| panic!("{source} {destination}: {sample:#?}"));
            // What follows from the configuration of BIRD.
            assert_eq!(gateway.next_hop, address(next_hop), "{destination}");
            assert_eq!((gateway.as_number, gateway.src_as, gateway.src_peer_as), (397_143, 397_143, 0));
            let path: Vec<_> =
                gateway.dst_as_path.iter().map(|segment| (segment.path_type, &*segment.path)).collect();
            assert_eq!(path, [(AsPathType::AsSequence, &[6939, 3356, 60_729][..])]);
            // 6939:100 and NO_EXPORT.
            assert_eq!(gateway.communities, [0x1b1b_0064, 0xffff_ff01]);
            assert_eq!(gateway.local_pref, 150);
            let router = router(&sample).unwrap();
            assert_eq!((router.src_mask_len, router.dst_mask_len), lengths, "{destination}");
        }
    }
    for destination in CLIENT {
        Routed::send(&routed.server, (destination, PORT), 100, 1);
        for sample in flow_samples(&socket, PORT, 2) {
            let gateway = gateway(&sample).unwrap_or_else(|| panic!("{destination}: {sample:#?}"));
            assert_eq!((gateway.as_number, gateway.src_as, gateway.src_peer_as), (397_143, 60_729, 6939));
            assert!(gateway.dst_as_path.is_empty() && gateway.communities.is_empty(), "{gateway:#?}");
        }
    }
    probe.terminate().report.assert_balanced();

    // Each packet was sampled twice. BIRD and its neighbours may have said something as well.
    let flows = sfacctd.printed(10);
    let there: Vec<_> =
        flows.iter().filter(|flow| flow["port_dst"] == PORT && flow["as_src"] == 397_143).collect();
    assert_eq!(there.iter().map(|flow| flow["packets"].as_u64().unwrap()).sum::<u64>(), 6, "{flows:#?}");
    for flow in there {
        assert_eq!((&flow["as_dst"], &flow["peer_as_dst"]), (&60_729.into(), &6939.into()), "{flow:#}");
        assert_eq!(flow["as_path"], "6939_3356_60729", "{flow:#}");
        assert_eq!(flow["comms"], "6939:100_no-export", "{flow:#}");
        assert_eq!(flow["local_pref"], 150, "{flow:#}");
        assert!(SERVER.iter().any(|server| flow["peer_ip_dst"] == *server), "{flow:#}");
    }
    let back = flows.iter().filter(|flow| flow["port_dst"] == PORT && flow["as_src"] == 60_729);
    for flow in back {
        assert_eq!((&flow["peer_as_src"], &flow["as_dst"]), (&6939.into(), &0.into()), "{flow:#}");
    }
}
