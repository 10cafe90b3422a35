//! Damage to a node's segment files.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, metadata, read_dir};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::content::mix;

/// At most so much is cut from a file.
const CUT_MAX: u64 = 64 * 1024;

/// What was damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Damage {
    /// Bits that are flipped, or bytes that are gone.
    pub count: u64,
    /// In so many files.
    pub files: usize,
    /// Bytes that there were before, in all files.
    pub of_bytes: u64,
}

/// Flips this many bits at places that follow from the seed, no two of them in one byte.
///
/// # Errors
/// If files cannot be read or written, or do not keep what was written.
pub(super) fn flip_bits(folder: &Path, flips: u32, seed: u64) -> std::io::Result<Damage> {
    let files = files(folder)?;
    let of_bytes: u64 = files.iter().map(|(_, length)| length).sum();
    if of_bytes == 0 {
        return Ok(Damage::default());
    }
    let mut draw = mix(seed);
    let mut done = BTreeSet::new();
    let mut struck = BTreeSet::new();
    for _ in 0..flips {
        draw = mix(draw);
        let mut place = draw % of_bytes;
        if !done.insert(place) {
            continue;
        }
        for (path, length) in &files {
            if place >= *length {
                place -= length;
                continue;
            }
            flip(path, place, 1 << (draw >> 61))?;
            struck.insert(path);
            break;
        }
    }
    Ok(Damage { count: done.len() as u64, files: struck.len(), of_bytes })
}

fn flip(path: &Path, place: u64, bit: u8) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut before = [0];
    file.read_exact_at(&mut before, place)?;
    file.write_all_at(&[before[0] ^ bit], place)?;
    file.sync_data()?;
    let mut after = [0];
    file.read_exact_at(&mut after, place)?;
    match after[0] ^ before[0] == bit {
        true => Ok(()),
        false => Err(std::io::Error::other("a flipped bit is as it was")),
    }
}

/// Cuts the ends off files, by lengths that follow from the seed: of every second one, and of the
/// longest.
///
/// # Errors
/// If files cannot be written.
pub(super) fn truncate(folder: &Path, seed: u64) -> std::io::Result<Damage> {
    let files = files(folder)?;
    let of_bytes: u64 = files.iter().map(|(_, length)| length).sum();
    let longest = files.iter().map(|(_, length)| *length).max().unwrap_or_default();
    let mut draw = mix(seed);
    let mut damage = Damage { of_bytes, ..Damage::default() };
    for (path, length) in files {
        draw = mix(draw);
        if draw.is_multiple_of(2) && length < longest {
            continue;
        }
        let cut = (draw >> 8) % length.min(CUT_MAX) + 1;
        let file = File::options().write(true).open(path)?;
        file.set_len(length - cut)?;
        file.sync_all()?;
        damage.count += length - file.metadata()?.len();
        damage.files += 1;
    }
    Ok(damage)
}

/// How many bytes all files under a folder have, and how many there are of them.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn measure(folder: &Path) -> std::io::Result<(u64, usize)> {
    let files = files(folder)?;
    Ok((files.iter().map(|(_, length)| length).sum(), files.len()))
}

/// All files under a folder that are not empty, in order, with their lengths.
fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in read_dir(folder)? {
            let path = entry?.path();
            let about = metadata(&path)?;
            if about.is_dir() {
                folders.push(path);
            } else if about.len() > 0 {
                found.push((path, about.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{flip_bits, measure, truncate};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        for name in ["a", "b", "inner/c", "inner/d"] {
            fs::write(folder.path().join(name), [0; 1_000]).unwrap();
        }
        fs::write(folder.path().join("empty"), []).unwrap();
        folder
    }

    fn bytes(folder: &tempfile::TempDir) -> Vec<u8> {
        let names = ["a", "b", "inner/c", "inner/d", "empty"];
        names.iter().flat_map(|name| fs::read(folder.path().join(name)).unwrap()).collect()
    }

    #[test]
    fn bits_flip_where_the_seed_says() {
        let (one, other) = (folder(), folder());

        let damage = flip_bits(one.path(), 5, 3).unwrap();
        flip_bits(other.path(), 5, 3).unwrap();

        let flipped: u32 = bytes(&one).iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(u64::from(flipped), damage.count);
        assert_eq!((damage.count, damage.of_bytes), (5, 4_000));
        assert_eq!(bytes(&one), bytes(&other));
    }

    #[test]
    fn files_lose_their_ends() {
        let folder = folder();

        let damage = truncate(folder.path(), 3).unwrap();

        assert!(damage.count > 0 && damage.files > 0);
        assert_eq!(bytes(&folder).len() as u64, 4_000 - damage.count);
        assert_eq!(measure(folder.path()).unwrap(), (4_000 - damage.count, 4));
    }

    #[test]
    fn an_empty_folder_has_nothing_to_damage() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(flip_bits(folder.path(), 5, 3).unwrap().count, 0);
        assert_eq!(truncate(folder.path(), 3).unwrap().count, 0);
    }
}
