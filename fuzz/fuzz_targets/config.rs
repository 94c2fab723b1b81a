#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bearerd::config::fuzz::text(data));
