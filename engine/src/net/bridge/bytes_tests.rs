// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes against f32, and against themselves on every instruction set.

use super::{run::Pictures, tests::*, *};
use crate::{
    memory::written,
    ops::{Int8, Isa},
};

/// The ranges that the network's values have on a picture.
fn ranges(p: &[f32], x: &[f32], (h, w): (usize, usize), level: f32) -> Vec<Vec<[f32; 2]>> {
    let layout = Layout::new(&config()).unwrap();
    let tensors: std::collections::BTreeMap<String, Tensor> = layout
        .entries()
        .iter()
        .map(|e| {
            let values = p[e.offset..][..e.len()].to_vec();
            (e.name.clone(), Tensor::from_vec(values, e.shape.clone(), &Device::Cpu).unwrap())
        })
        .collect();
    let shown = Calibration::new(&config(), &tensors).unwrap();
    let x = Tensor::from_slice(x, (1, 3, h, w), &Device::Cpu).unwrap();
    let out = shown.forward(&x, &[level], &Cancel::default()).unwrap();
    // What is watched is the network itself.
    let exact =
        run(&net(p, &Device::Cpu, Precision::F32), &x.flatten_all().unwrap().to_vec1().unwrap(), h, w, level);
    assert_eq!(out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), exact);
    shown.ranges()
}

#[test]
fn bytes_agree_with_f32_where_values_are_in_their_ranges() {
    let layout = Layout::new(&config()).unwrap();
    let p = params(&layout, 5);
    for (h, w) in [(8, 8), (16, 40), (64, 8), (104, 72)] {
        let x = picture(3 * h * w, 7);
        let ranges = ranges(&p, &x, (h, w), 321.5);
        let bytes = BridgeNet::in_bytes(Layout::new(&config()).unwrap(), p.clone(), &ranges).unwrap();
        let (exact, got) = (net(&p, &Device::Cpu, Precision::F32), run(&bytes, &x, h, w, 321.5));
        let exact = run(&exact, &x, h, w, 321.5);
        let square = |v: &[f32]| v.iter().map(|v| f64::from(v * v)).sum::<f64>();
        let gap: Vec<f32> = exact.iter().zip(&got).map(|(a, b)| a - b).collect();
        let gap = (square(&gap) / square(&exact)).sqrt();
        assert!(gap > 0.0 && gap < 0.04, "{h}x{w}: {gap} of the root mean square");
    }
}

#[test]
fn every_instruction_set_gives_the_same_picture() {
    let layout = Arc::new(Layout::new(&config()).unwrap());
    let p = params(&layout, 6);
    let (h, w) = (24, 56);
    let x = picture(3 * h * w, 8);
    let ranges = ranges(&p, &x, (h, w), 17.0);
    let mut results = vec![];
    for isa in Isa::every() {
        for int8 in Int8::every() {
            let cpu = Cpu { isa, bf16: None, int8 };
            let runner = bytes::Runner::new(layout.clone(), p.clone(), &ranges, cpu);
            // SAFETY: where the runner returns no error, it has written every pixel.
            let out = unsafe {
                written(3 * h * w, |out| {
                    let pictures = Pictures { x: &x, out, h, w, weight: None };
                    runner.forward(pictures, 17.0, &Cancel::default())
                })
            };
            let out = out.unwrap();
            results.push((format!("{isa:?} {int8:?}"), out));
        }
    }
    for (name, out) in &results {
        assert!(out.iter().zip(&results[0].1).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
    }
}

#[test]
fn a_pixel_that_is_no_number_spoils_what_it_reaches_and_no_more() {
    let layout = Layout::new(&config()).unwrap();
    let p = params(&layout, 7);
    let (h, w) = (64, 64);
    let mut x = picture(3 * h * w, 9);
    let ranges = ranges(&p, &x, (h, w), 1.0);
    let bytes = BridgeNet::in_bytes(layout, p, &ranges).unwrap();
    let whole = run(&bytes, &x, h, w, 1.0);
    x[5 * w + 5] = f32::NAN;
    let out = run(&bytes, &x, h, w, 1.0);
    assert!(out[5 * w + 5].is_nan());
    let reach = bytes.halo().unwrap() + 5;
    for (at, (a, b)) in out.iter().zip(&whole).enumerate() {
        let (y, x) = (at / w % h, at % w);
        assert!(y.max(x) <= reach || a.to_bits() == b.to_bits(), "{y} {x}");
    }
}
