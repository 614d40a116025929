#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntpd_tests::fuzz::run("pool_query", bytes));
