#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| perch_fuzz::sdk_frame(data));
