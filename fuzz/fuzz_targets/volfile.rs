//! Volfile text: what can be read prints as a text that reads back the same, and errors can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgfs::volfile::parse;

fuzz_target!(|input: &[u8]| {
    match parse(input) {
        Err(error) => assert!(error.to_string().len() < 4096),
        Ok(graph) => {
            let text = graph.to_text();
            let again = parse(text.as_bytes()).expect("what was printed can be read");
            assert_eq!(again.to_text(), text);
            let _ = graph.to_string();
        }
    }
});
