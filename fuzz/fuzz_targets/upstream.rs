#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bearerd::proxy::fuzz::upstream(data));
