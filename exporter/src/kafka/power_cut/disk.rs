//! A file system as it may be after a power cut: all that was synced, and of the rest anything.
//!
//! Of a file, each write since its last sync may be there, be missing, or be there in some of its sectors. Names change in
//! order, as journals of file systems have it, but a name is sure only when its folder was synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::trace::Call;

/// A generator of numbers that are always the same.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, octets: Vec<u8> },
    Truncate(usize),
    Allocate(usize),
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Naming {
    Folder(PathBuf),
    Name(PathBuf, usize),
    Remove(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
}

impl Naming {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) | Self::Name(path, _) | Self::Remove(path) | Self::Rename { to: path, .. } => {
                path.parent()
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Names {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, usize>,
}

impl Names {
    fn apply(&mut self, naming: &Naming) {
        match naming {
            Naming::Folder(path) => {
                self.folders.insert(path.clone());
            }
            Naming::Name(path, file) => {
                self.files.insert(path.clone(), *file);
            }
            Naming::Remove(path) => {
                self.files.remove(path);
            }
            Naming::Rename { from, to } => {
                if let Some(file) = self.files.remove(from) {
                    self.files.insert(to.clone(), file);
                }
            }
        }
    }
}

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    /// As if the process had been killed.
    Kept,
    /// Some of it is there, by this seed.
    Some(u64),
}

/// The file system below a folder, which is there in any case.
#[derive(Debug, Default)]
pub(super) struct Disk {
    root: PathBuf,
    files: Vec<File>,
    now: Names,
    synced: Names,
    since: Vec<Naming>,
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), ..Self::default() }
    }

    pub(super) fn apply(&mut self, call: &Call) {
        match call {
            Call::Said(_) => {}
            Call::MakeFolder(path) => self.name(Naming::Folder(path.clone())),
            Call::Open { file, creates, truncates } => {
                if *creates && !self.now.files.contains_key(file) {
                    self.files.push(File::default());
                    self.name(Naming::Name(file.clone(), self.files.len() - 1));
                }
                if *truncates {
                    self.change(file, Change::Truncate(0));
                }
            }
            Call::Write { file, at, octets } => {
                self.change(file, Change::Write { at: *at, octets: octets.clone() });
            }
            Call::Truncate { file, length } => self.change(file, Change::Truncate(*length)),
            Call::Allocate { file, length } => self.change(file, Change::Allocate(*length)),
            Call::Unlink(path) => self.name(Naming::Remove(path.clone())),
            Call::Rename { from, to } => self.name(Naming::Rename { from: from.clone(), to: to.clone() }),
            Call::Sync(path) => self.sync(path),
        }
    }

    fn name(&mut self, naming: Naming) {
        self.now.apply(&naming);
        self.since.push(naming);
    }

    fn change(&mut self, file: &Path, change: Change) {
        let file = self.now.files.get(file).and_then(|file| self.files.get_mut(*file));
        file.expect("a file that was opened").since.push(change);
    }

    fn sync(&mut self, path: &Path) {
        if let Some(file) = self.now.files.get(path).and_then(|file| self.files.get_mut(*file)) {
            let File { synced, since } = file;
            since.drain(..).for_each(|change| make(synced, &change, &mut |_| true, 4096));
            return;
        }
        let Self { synced, since, .. } = self;
        since.retain(|naming| {
            let is_meant = naming.folder() == Some(path);
            if is_meant {
                synced.apply(naming);
            }
            !is_meant
        });
    }

    /// Writes what may be there after a power cut now to `folder`, in place of the root.
    pub(super) fn write_to(&self, folder: &Path, fate: Fate) {
        let mut numbers = Numbers::new(if let Fate::Some(seed) = fate { seed } else { 0 });
        let mut names = self.synced.clone();
        let named = match fate {
            Fate::Lost => 0,
            Fate::Kept => self.since.len(),
            Fate::Some(_) => numbers.below(self.since.len() as u64 + 1) as usize,
        };
        self.since.iter().take(named).for_each(|naming| names.apply(naming));
        let place = |path: &Path| folder.join(path.strip_prefix(&self.root).expect("below the root"));
        for path in &names.folders {
            fs::create_dir_all(place(path)).expect("a folder");
        }
        // Little, half or most of it; whole or in sectors.
        let share = 1 + numbers.below(9);
        let sector = [512, 4096, usize::MAX][numbers.below(3) as usize];
        for (path, file) in &names.files {
            if path.parent().is_some_and(|parent| parent != self.root && !names.folders.contains(parent)) {
                continue;
            }
            let file = &self.files[*file];
            let mut octets = file.synced.clone();
            for change in &file.since {
                let mut is_kept = |_| match fate {
                    Fate::Lost => false,
                    Fate::Kept => true,
                    Fate::Some(_) => numbers.below(10) < share,
                };
                make(&mut octets, change, &mut is_kept, sector);
            }
            fs::write(place(path), octets).expect("a file");
        }
    }
}

/// Makes those sectors of a change that `is_kept` says.
fn make(file: &mut Vec<u8>, change: &Change, is_kept: &mut dyn FnMut(usize) -> bool, sector: usize) {
    match change {
        Change::Truncate(length) => {
            if is_kept(0) {
                file.resize(*length, 0);
            }
        }
        Change::Allocate(length) => {
            if is_kept(0) && file.len() < *length {
                file.resize(*length, 0);
            }
        }
        Change::Write { at, octets } => {
            let mut from = *at;
            let end = at + octets.len();
            while from < end {
                let to = (from / sector + 1).saturating_mul(sector).min(end);
                if is_kept(from / sector) {
                    if file.len() < to {
                        file.resize(to, 0);
                    }
                    file[from..to].copy_from_slice(&octets[from - at..to - at]);
                }
                from = to;
            }
        }
    }
}
