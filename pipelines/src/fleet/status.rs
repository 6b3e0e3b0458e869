// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a job is, in lines for people or as a list for scripts.

use anyhow::Result;

use super::chunk::{self, State};
use super::plan::Plan;

/// Prints it.
pub fn print(plan: &Plan, only_missing: bool) -> Result<()> {
    let (mut done, mut in_work, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut frames, mut seconds) = (0, 0.0);
    for number in 0..plan.chunks() {
        match chunk::state(plan, number)? {
            State::Done(record) => {
                done.push(number);
                frames += record.digests.len();
                seconds += record.seconds;
            }
            State::InWork => in_work.push(number),
            State::Missing => missing.push(number),
        }
    }
    if only_missing {
        let mut left = [in_work, missing].concat();
        left.sort_unstable();
        for chunk in left {
            println!("{chunk}");
        }
        return Ok(());
    }
    println!("{} chunks of {} frames", plan.chunks(), plan.settings.wish.chunk_frames);
    for (name, list) in [("done", &done), ("in work", &in_work), ("missing", &missing)] {
        println!("{name:8} {:6}  {}", list.len(), ranges(list));
    }
    if frames > 0 {
        let left = (plan.settings.frames as usize - frames) as f64 * seconds / frames as f64;
        println!(
            "{:.2} frames a second for each worker; {:.1} worker hours left",
            frames as f64 / seconds,
            left / 3600.0
        );
    }
    Ok(())
}

/// Rising numbers as `0-3,5`.
fn ranges(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |&(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }
}
