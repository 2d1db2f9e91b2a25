//! `memory`: an aggregate whose rows are kept for who asks.

use crate::pmacct::configuration::Plugin;
use crate::pmacct::remark::Verdict;

use super::{Translation, aggregate};

/// Packets are in pmacct's table at once; here they are after a purge, as often as the kernel's tables are drained.
const REFRESH: &str = "1s";

/// Rows at most. pmacct's default has room for some thousands.
const MAX_ENTRIES: i64 = 1 << 20;

pub(super) fn translate(work: &mut Translation<'_>, plugin: &Plugin) {
    let table = aggregate::begin(work, plugin, "imt");
    work.document.set(table, "refresh", REFRESH, None);
    aggregate::format(work, plugin, table, "imt");
    let memory = work.document.subtable(table, "memory", None);
    work.document.set(memory, "max_entries", MAX_ENTRIES, None);
    if let Some(setting) = work.of_plugin(plugin, "imt_path") {
        let text = format!("`pathflow rows {}` shows the rows; the client `pmacct` cannot ask", plugin.name);
        work.remark(&setting, Verdict::Differs, text);
    }
    for key in ["imt_buckets", "imt_mem_pools_number", "imt_mem_pools_size"] {
        if let Some(setting) = work.of_plugin(plugin, key) {
            let text = "not needed: the table grows up to max_entries of [aggregate.memory]";
            work.remark(&setting, Verdict::NotNeeded, text);
        }
    }
}
