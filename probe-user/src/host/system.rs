//! The machine that pathflow runs on.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::{fs, io};

use rustix::fs::{Access, access, statfs};
use rustix::process::{Resource, getrlimit};

use super::{BpfFeature, FileSystem, Host, Link, Program, links};
use crate::capture::support::probes;
use crate::clock::Clock;
use crate::ethtool::{self, Channels, Features, Setting};
use crate::xdp_features::{self, XdpFeatures};

/// The machine itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Host for System {
    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(path).map(|text| text.trim().to_owned())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read_link(&self, path: &str) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn file_system(&self, path: &str) -> io::Result<FileSystem> {
        let magic = statfs(path)?.f_type as u64;
        Ok(FileSystem { magic, writable: access(path, Access::WRITE_OK).is_ok() })
    }

    fn locked_memory_limit(&self) -> Option<u64> {
        getrlimit(Resource::Memlock).current
    }

    fn listen(&self, address: SocketAddr) -> io::Result<()> {
        TcpListener::bind(address).map(drop)
    }

    fn tick_nanoseconds(&self) -> u64 {
        Clock::tick_nanoseconds()
    }

    fn bpf(&self, feature: BpfFeature) -> io::Result<bool> {
        probes::supports(feature)
    }

    fn load_program(&self) -> Result<String, String> {
        probes::load_program()
    }

    fn program(&self, id: u32) -> Option<Program> {
        probes::program(id)
    }

    fn links(&self) -> io::Result<Vec<Link>> {
        links::links()
    }

    fn features(&self, interface: &str) -> io::Result<Features> {
        ethtool::features(interface)
    }

    fn channels(&self, interface: &str) -> io::Result<Channels> {
        ethtool::channels(interface)
    }

    fn receive_ring(&self, interface: &str) -> io::Result<Setting> {
        ethtool::receive_ring(interface)
    }

    fn xdp_features(&self, interface_index: u32) -> io::Result<Option<XdpFeatures>> {
        xdp_features::xdp_features(interface_index)
    }
}
