//! Interfaces, filter and direction: `[capture]`.

use std::path::Path;

use crate::interfaces::{Direction, InterfacesMap};
use crate::pmacct::ImportError;
use crate::pmacct::configuration::Daemon;
use crate::pmacct::remark::Verdict;

use super::Translation;

const BOTH: &str = "packets that come in and packets that go out count, as in pmacctd without a direction; those that \
                    are forwarded from one captured interface to another count twice (direction = \"ingress\" on all \
                    interfaces counts each once)";
const PHYSICAL: &str = "physical";

pub(super) fn translate(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let capture = work.document.table("capture");
    match work.daemon {
        Daemon::Collector(daemon) => {
            work.refuse("pcap_interface", "the daemon captures nothing there, and it does not count here");
            let text = format!(
                "{daemon} is given flows by routers, and pathflow counts on the router itself: it captures what \
                 comes in at all physical interfaces; name those you want in capture.interfaces"
            );
            work.whole(text);
            work.document.set(capture, "interfaces", vec![PHYSICAL], None);
        }
        Daemon::Pmbgpd => {
            work.whole(
                "pmbgpd captures nothing; pathflow run needs an interface: name one in capture.interfaces, and what \
                 it should do with the flows",
            );
        }
        Daemon::Pmacctd => interfaces(work)?,
    }
    if let Some((setting, true)) = work.flag("pcap_interface_wait") {
        work.document.set(capture, "wait_for_interfaces", true, Some(&setting.origin));
    }
    if let Some(setting) = work.global("pcap_direction") {
        match setting.value.to_lowercase().as_str() {
            "in" => work.document.set(capture, "direction", "ingress", Some(&setting.origin)),
            "out" => work.document.set(capture, "direction", "egress", Some(&setting.origin)),
            _ => work.remark(&setting, Verdict::NotHonoured, "it is neither in nor out"),
        }
    }
    if let Some(setting) = work.global("pcap_filter") {
        work.document.set(capture, "filter", setting.value.as_str(), Some(&setting.origin));
    }
    if let Some(setting) = work.global("pcap_ifindex")
        && !["none", "sys", "map"].contains(&setting.value.as_str())
    {
        let text = "interfaces have the kernel's numbers, or those of pcap_interfaces_map";
        work.remark(&setting, Verdict::NotHonoured, text);
    }
    if let Some((setting, true)) = work.flag("promisc") {
        let text = "interfaces are not made promiscuous: packets for other stations do not count (a port that gets \
                    copies is for [[capture.interface]] with mode = \"mirror\")";
        work.remark(&setting, Verdict::Differs, text);
    }
    work.refuse("pcap_protocol", "what comes in is counted if it is IP; pcap_filter may say more");
    for key in ["pcap_savefile", "pcap_savefile_wait", "pcap_savefile_delay", "pcap_savefile_replay"] {
        work.refuse(key, "`pathflow replay CAPTURE` reads captures, once and at once");
    }
    Ok(())
}

fn interfaces(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let capture = work.document.table("capture");
    let map = work.global("pcap_interfaces_map");
    let interface = work.global("pcap_interface");
    if let Some(setting) = map {
        if let Some(other) = interface {
            work.remark(&other, Verdict::NotHonoured, "pcap_interfaces_map counts instead");
        }
        let rows = InterfacesMap::read(Path::new(&setting.value))
            .map_err(|error| work.line_fault(&setting, &error.to_string()))?;
        let is_both = |name| rows.get(name).is_some_and(|row| row.direction == Some(Direction::Both));
        if rows.names().any(is_both) {
            work.remark(&setting, Verdict::Differs, format!("interfaces without a direction: {BOTH}"));
        }
        work.document.set(capture, "interfaces_map", setting.value.as_str(), Some(&setting.origin));
        return Ok(());
    }
    let Some(setting) = interface else {
        work.whole(
            "no interface is named: pmacctd would take the first one, pathflow captures what comes in at all physical \
             ones; name those you want in capture.interfaces",
        );
        work.document.set(capture, "interfaces", vec![PHYSICAL], None);
        return Ok(());
    };
    let (name, queue) =
        setting.value.split_once('@').map_or((setting.value.as_str(), ""), |(name, queue)| (name, queue));
    if !queue.is_empty() {
        work.remark(&setting, Verdict::Differs, "all queues of the interface are counted, without PF_RING");
    }
    let name = if name == "any" {
        work.remark(&setting, Verdict::Differs, "\"any\" means all physical interfaces here");
        PHYSICAL
    } else {
        name
    };
    work.document.set(capture, "interfaces", vec![name], Some(&setting.origin));
    if work.configuration.global("pcap_direction").is_none() {
        work.remark(&setting, Verdict::Differs, BOTH);
        work.document.set(capture, "direction", "both", Some(&setting.origin));
    }
    Ok(())
}
