// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests that go through the whole table.

use super::*;
use proptest::prelude::*;

fn noisy(width: usize, height: usize, seed: u64) -> Vec<f32> {
    let mut rng = Stream::new(seed, 1);
    (0..3 * width * height).map(|_| rng.next_f32() * 2.0 - 1.0).collect()
}

#[test]
fn examples_start_with_their_names() {
    for entry in DEGRADATIONS {
        assert_eq!(entry.example.split(':').next(), Some(entry.name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn equal_seeds_are_equal_and_shapes_stay(
        width in 1usize..40, height in 1usize..40, seed in any::<u64>(), row in 0..DEGRADATIONS.len(),
    ) {
        let entry = &DEGRADATIONS[row];
        let degradation = parse(entry.example).unwrap();
        let x0 = noisy(width, height, seed);
        let once = degradation.degrade(&x0, width, height, &mut Stream::new(seed, 2)).unwrap();
        let again = degradation.degrade(&x0, width, height, &mut Stream::new(seed, 2)).unwrap();
        prop_assert_eq!(once.x1.len(), x0.len());
        prop_assert!(once.x1.iter().all(|v| v.is_finite()), "{}", entry.name);
        prop_assert_eq!(once, again);
    }

    #[test]
    fn specifications_never_panic(spec in "[a-z0-9:.+|-]{0,24}") {
        let _ = parse(&spec);
    }
}

#[test]
fn wrong_specifications_say_what_is_known() {
    for (spec, words) in [
        ("", "one of none, jpeg"),
        ("jpg:10", "one of none, jpeg"),
        ("jpeg", "QUALITY"),
        ("jpeg:0", "1 to 100"),
        ("jpeg:101", "1 to 100"),
        ("jpeg:50-20", "low-high"),
        ("jpeg:10:411", "444|422|420|any"),
        ("jpeg:10:420:420", "jpeg:QUALITY"),
        ("jpeg:ten", "number"),
        ("none:1", "none"),
        ("blur-gauss:nan", "number"),
        ("blur-gauss:1e9", "0 to"),
        ("jpeg:10+pairs:x", "first place"),
        ("pairs", "FOLDER"),
        ("none+", "one of none"),
        ("none|", "one of none"),
        ("none|pairs:x", "without alternatives"),
    ] {
        let err = parse(spec).err().unwrap_or_else(|| panic!("{spec} was taken")).to_string();
        assert!(err.contains(words), "{spec}: {err}");
    }
}

#[test]
fn chains_run_from_left_to_right() {
    let x0 = noisy(20, 12, 5);
    let chain = parse("blur-gauss:2+jpeg:20").unwrap();
    let (blur, jpeg) = (parse("blur-gauss:2").unwrap(), parse("jpeg:20").unwrap());
    let rng = &mut Stream::new(0, 0);
    let by_hand = jpeg.apply(&blur.apply(&x0, 20, 12, rng).unwrap(), 20, 12, rng).unwrap();
    assert_eq!(chain.apply(&x0, 20, 12, &mut Stream::new(0, 0)).unwrap(), by_hand);
    let holes = parse("jpeg:50+inpaint-center").unwrap();
    assert_eq!(holes.degrade(&x0, 20, 12, rng).unwrap().mask.unwrap().iter().sum::<f32>(), 60.0);
}

#[test]
fn each_alternative_has_its_turn() {
    let x0 = noisy(20, 12, 5);
    let either = parse("none|jpeg:20").unwrap();
    let spoiled = parse("jpeg:20").unwrap().apply(&x0, 20, 12, &mut Stream::new(0, 0)).unwrap();
    let mut seen = [0, 0];
    for i in 0..64 {
        let x1 = either.apply(&x0, 20, 12, &mut Stream::new(1, i)).unwrap();
        assert!(x1 == x0 || x1 == spoiled);
        seen[usize::from(x1 == spoiled)] += 1;
    }
    assert!(seen.iter().all(|n| *n > 16), "{seen:?}");
}

#[test]
fn a_wrong_length_is_an_error() {
    for entry in DEGRADATIONS {
        let degradation = parse(entry.example).unwrap();
        assert!(degradation.apply(&[0.0; 11], 2, 2, &mut Stream::new(0, 0)).is_err(), "{}", entry.name);
    }
}
