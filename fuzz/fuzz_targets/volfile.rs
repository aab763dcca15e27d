//! Volfile text from a server that is not trusted.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Err(error) = rgfs::volfile::parse(input) {
        assert!(!error.to_string().is_empty());
    }
});
