//! How applications of flows are found: `[capture.classify]`.

use crate::pmacct::remark::Verdict;

use super::{Setting, Translation};

/// Keys of pmacct by their settings here, where one says the same as the other.
const NUMBERS: [(&str, &str); 1] = [("classifier_max_flows", "max_flows")];
/// Packets after which pmacct gives up, by protocol.
const GIVE_UP: [&str; 3] =
    ["classifier_giveup_proto_tcp", "classifier_giveup_proto_udp", "classifier_giveup_proto_other"];

pub(super) fn translate(work: &mut Translation<'_>) {
    let mut given_up: Vec<(Setting, i64)> = Vec::new();
    for key in GIVE_UP {
        given_up.extend(work.global_number(key));
    }
    let most = given_up.iter().map(|(_, packets)| *packets).max();
    if let Some(packets) = most {
        for (setting, _) in given_up.iter().filter(|(_, own)| *own != packets) {
            let text = format!("there is one number for all protocols: {packets}");
            work.remark(setting, Verdict::Differs, text);
        }
        if let Some((setting, _)) = given_up.iter().find(|(_, own)| *own == packets) {
            set(work, setting, "packets", packets.clamp(1, 255));
        }
    }
    for (key, name) in NUMBERS {
        if let Some((setting, number)) = work.global_number(key) {
            set(work, &setting, name, number.clamp(16, 1 << 26));
        }
    }
    if let Some((setting, seconds)) = work.global_number("classifier_idle_max_time") {
        let capture = work.document.table("capture");
        let table = work.document.subtable(capture, "classify", None);
        let seconds = seconds.clamp(1, 86_400);
        work.document.set(table, "idle_timeout", format!("{seconds}s"), Some(&setting.origin));
    }
    if let Some((setting, true)) = work.flag("classifier_proto_guess") {
        let capture = work.document.table("capture");
        let table = work.document.subtable(capture, "classify", None);
        work.document.set(table, "guess", true, Some(&setting.origin));
    }
}

fn set(work: &mut Translation<'_>, setting: &Setting, name: &str, number: i64) {
    let capture = work.document.table("capture");
    let table = work.document.subtable(capture, "classify", None);
    work.document.set(table, name, number, Some(&setting.origin));
}
