//! The seeds of the fuzz targets, for unit tests.

use std::path::Path;

/// Runs a fuzz target with each of its seeds.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(seeds).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 10, "{count} seeds of {target}");
}
