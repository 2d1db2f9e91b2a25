//! Interfaces without Ethernet, of which a run before has counted packets.

use super::*;

/// Of packets that begin with an IP header, its octets are no MAC addresses, also if their interface is gone.
#[test]
fn an_interface_without_mac_addresses_is_gone_at_the_start() {
    let pinned = Pinned::new();
    let router = pinned.router();
    ip(router, "tuntap add dev tun0 mode tun");
    ip(router, "link set tun0 up");
    let start = || {
        let builder = ProbeBuilder::configured(router).json();
        super::pinned(builder, "wait_for_interfaces = true\ninterfaces = [\"veth-in\", \"tun0\"]\n")
    };
    kill(start());
    // UDP from 203.0.113.5 to 198.51.100.1 of 100 octets, each a packet of its own for the interface.
    let header =
        [0x45, 0, 0, 100, 0, 1, 0, 0, 64, 17, 0, 0, 203, 0, 113, 5, 198, 51, 100, 1, 0, 9, 0, 9, 0, 80, 0, 0];
    let packet = [&header[..], &[0; 72]].concat();
    let directory = TempDir::new();
    let file = directory.file("packets");
    fs::write(&file, packet.repeat(20)).unwrap();
    let mut command = router.command("socat");
    let device = "TUN,tun-name=tun0,tun-type=tun,iff-no-pi";
    output(command.args(["-u", "-b", "100", &format!("OPEN:{}", file.display()), device]));
    send(&pinned.0, 30);
    ip(router, "link delete tun0");
    let ended = start().terminate();
    ended.report.assert_complete();
    let of = |name: &str| -> Vec<Value> {
        let flows = json::flows(&ended.output).into_iter();
        flows
            .filter(|flow| {
                [&flow["egress_interface_name"], &flow["ingress_interface_name"]].contains(&&name.into())
            })
            .collect()
    };
    let (tunnel, ethernet) = (of("tun0"), of(CAPTURED));
    assert_eq!(json::sum(&tunnel, "packet_delta_count"), 20, "{}", ended.report.text());
    let addresses =
        |flow: &Value| [&flow["source_mac_address"], &flow["destination_mac_address"]].map(Value::is_string);
    assert!(tunnel.iter().all(|flow| addresses(flow) == [false, false]), "{tunnel:?}");
    assert!(ethernet.iter().any(|flow| addresses(flow) == [true, false]), "{ethernet:?}");
}
