// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks in bytes: for models that were calibrated, with their own hash; others are told how.

use i2sb::preset::{INT8_FILE, Preset};

use crate::errors::refused;
use crate::rig::{bus, bytes, flat, playing, pull, stats};

#[test]
fn a_model_that_was_not_calibrated_says_how_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    let (text, _) = refused(&format!("device=cpu precision=int8 model={}", preset.display()));
    assert!(text.contains("int8") && text.contains("i2sb calibrate"), "{text}");
}

#[test]
fn a_calibrated_model_restores_in_bytes_and_its_hash_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = crate::preset::write(folder.path());
    let preset = Preset::open(&path).unwrap();
    // Level 0 and 1: what stem, blocks and steps between leave, and what lies inside each block.
    let ranges = [16, 16, 16, 32, 32, 32, 16, 16].map(|channels| vec![[-2.0, 2.0]; channels]);
    preset.write_ranges(&path.join(INT8_FILE), &[ranges.to_vec()]).unwrap();
    let restored = |precision: &str| {
        let (mut h, info) = playing(&format!("device=cpu precision={precision} model={}", path.display()));
        let bus = bus(&h);
        h.push(flat(&info, 90, 0)).unwrap();
        let frame = bytes(&pull(&mut h));
        let stats = stats(&h);
        assert_eq!(stats.get::<String>("precision").unwrap(), precision);
        assert!(bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]).is_none());
        (frame, stats.get::<String>("hash").unwrap())
    };
    let ((exact, hash), (bytes, marked)) = (restored("f32"), restored("int8"));
    assert!(marked.starts_with(&hash) && marked.contains("+int8*"), "{marked}");
    let gap = exact.iter().zip(&bytes).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(exact != bytes && gap < 32, "{gap}");
}
