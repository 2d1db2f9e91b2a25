//! `print`: an aggregate to files or standard output.

use crate::pmacct::ImportError;
use crate::pmacct::configuration::Plugin;
use crate::pmacct::document::TableId;
use crate::pmacct::remark::Verdict;

use super::{Translation, aggregate};

pub(super) fn translate(work: &mut Translation<'_>, plugin: &Plugin) -> Result<(), ImportError> {
    let table = aggregate::begin(work, plugin, "print")?;
    aggregate::format(work, plugin, table, "print");
    let file = work.of_plugin(plugin, "print_output_file");
    let name = if file.is_some() { "file" } else { "stdout" };
    let output = work.document.subtable(table, name, file.as_ref().map(|setting| &setting.origin));
    if let Some(setting) = &file {
        work.document.set(output, "path", setting.value.as_str(), Some(&setting.origin));
    }
    format(work, plugin, output);
    if let Some(setting) = work.of_plugin(plugin, "print_output_separator") {
        work.document.set(output, "separator", setting.value.as_str(), Some(&setting.origin));
    }
    let only_files = [("print_output_file_append", "append"), ("print_write_empty_file", "write_empty")];
    for (key, name) in only_files {
        if let Some((setting, true)) = work.plugin_flag(plugin, key) {
            match &file {
                Some(_) => work.document.set(output, name, true, Some(&setting.origin)),
                None => {
                    work.remark(&setting, Verdict::NotNeeded, "not needed: there is no print_output_file");
                }
            }
        }
    }
    if let Some((setting, true)) = work.plugin_flag(plugin, "print_markers") {
        work.document.set(output, "markers", true, Some(&setting.origin));
    }
    if let (Some(setting), Some(_)) = (work.of_plugin(plugin, "print_latest_file"), &file) {
        work.document.set(output, "latest", setting.value.as_str(), Some(&setting.origin));
    }
    if file.is_some() {
        owner(work, plugin, output);
    }
    if let Some(setting) = work.of_plugin(plugin, "print_trigger_exec") {
        if file.is_some() {
            // pmacct gives it no arguments.
            work.document.set(output, "exec", vec![setting.value.clone()], Some(&setting.origin));
        } else {
            let text = "it is left out: a program is run for files, and there is no print_output_file";
            work.remark(&setting, Verdict::NotHonoured, text);
        }
    }
    for key in ["print_output_lock_file", "print_output_custom_lib", "print_output_custom_cfg_file"] {
        work.refuse_of(plugin, key, "it is left out");
    }
    Ok(())
}

/// Whom files belong to, and who may read them.
fn owner(work: &mut Translation<'_>, plugin: &Plugin, output: TableId) {
    for (key, name) in [("files_uid", "owner"), ("files_gid", "group"), ("files_umask", "umask")] {
        if let Some(setting) = work.of_plugin(plugin, key) {
            work.document.set(output, name, setting.value.as_str(), Some(&setting.origin));
        }
    }
}

fn format(work: &mut Translation<'_>, plugin: &Plugin, output: TableId) {
    let Some(setting) = work.of_plugin(plugin, "print_output") else {
        // pmacct's default is not the one here.
        work.document.set(output, "format", "formatted", None);
        return;
    };
    let format = match setting.value.to_lowercase().as_str() {
        "formatted" => "formatted",
        "csv" => "csv",
        "json" => "json",
        "event_csv" => "event-csv",
        "event_formatted" => "event-formatted",
        _ => {
            let text =
                "there are formatted, csv, json, event_csv and event_formatted; rows are written as JSON";
            work.remark(&setting, Verdict::NotHonoured, text);
            "json"
        }
    };
    work.document.set(output, "format", format, Some(&setting.origin));
}
