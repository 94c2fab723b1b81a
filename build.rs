//! Has the linker lay the functions that run in ordinary service side by side.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    const ORDER: &str = "deploy/order.ld";
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    // mold and wild read no such scripts.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let reads_scripts = !flags.contains("mold") && !flags.contains("wild");
    // By way of a C compiler, which links on these systems; deploy/build-static has its own way.
    if reads_scripts
        && is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        // A copy: cargo follows its own folder when that moves, or serves another checkout.
        let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("order.ld");
        fs::copy(ORDER, &copy)?;
        println!("cargo::rustc-link-arg-bin=bearerd=-Wl,-T,{}", copy.display());
    }
    Ok(())
}
