//! Damage to a node's segment files.

use std::fs::{File, OpenOptions, metadata, read_dir};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::content::mix;

/// At most so much is cut from a file.
const CUT_MAX: u64 = 64 * 1024;

/// Flips this many bits at places that follow from the seed. How many were flipped.
///
/// # Errors
/// If files cannot be read or written.
pub(super) fn flip_bits(folder: &Path, flips: u32, seed: u64) -> std::io::Result<u32> {
    let files = files(folder)?;
    let total: u64 = files.iter().map(|(_, length)| length).sum();
    if total == 0 {
        return Ok(0);
    }
    let mut draw = mix(seed);
    for _ in 0..flips {
        draw = mix(draw);
        let mut place = draw % total;
        for (path, length) in &files {
            if place >= *length {
                place -= length;
                continue;
            }
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, place)?;
            byte[0] ^= 1 << (draw >> 61);
            file.write_all_at(&byte, place)?;
            break;
        }
    }
    Ok(flips)
}

/// Cuts the end off every second file, by lengths that follow from the seed. How much in all.
///
/// # Errors
/// If files cannot be written.
pub(super) fn truncate(folder: &Path, seed: u64) -> std::io::Result<u64> {
    let mut draw = mix(seed);
    let mut lost = 0;
    for (path, length) in files(folder)? {
        draw = mix(draw);
        if draw.is_multiple_of(2) {
            continue;
        }
        let cut = (draw >> 8) % length.min(CUT_MAX) + 1;
        File::options().write(true).open(path)?.set_len(length - cut)?;
        lost += cut;
    }
    Ok(lost)
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

    use super::{flip_bits, truncate};

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

        flip_bits(one.path(), 5, 3).unwrap();
        flip_bits(other.path(), 5, 3).unwrap();

        let flipped: u32 = bytes(&one).iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(flipped, 5);
        assert_eq!(bytes(&one), bytes(&other));
    }

    #[test]
    fn files_lose_their_ends() {
        let folder = folder();

        let lost = truncate(folder.path(), 3).unwrap();

        assert!(lost > 0);
        assert_eq!(bytes(&folder).len() as u64, 4_000 - lost);
    }

    #[test]
    fn an_empty_folder_has_nothing_to_damage() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(flip_bits(folder.path(), 5, 3).unwrap(), 0);
        assert_eq!(truncate(folder.path(), 3).unwrap(), 0);
    }
}
