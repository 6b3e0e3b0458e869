// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens a CUDA device for the engine's way of working, and says in words why it cannot.

use candle_core::{
    Device,
    cuda_backend::cudarc::driver::{CudaContext, result, sys},
};

/// Oldest driver that takes this build, as CUDA counts: 13.0 is driver 580.
const DRIVER_NEEDED: i32 = 13_000;
/// Free memory without which nothing useful runs, in MiB: libraries, kernels and a small network.
const MEMORY_NEEDED: usize = 768;
/// Compute capability that the kernels were compiled for, times ten.
const CAPABILITY: Option<&str> = option_env!("CUDA_COMPUTE_CAP");

/// Opens device `number` with one stream for all threads, whose memory stays with the process.
///
/// # Errors
/// What is missing, how much there is, and how much is needed.
pub(super) fn open(number: usize) -> Result<Device, String> {
    check(number)?;
    let device = Device::new_cuda_with_stream(number).map_err(|error| first_line(&error))?;
    let cuda = device.as_cuda_device().map_err(|error| first_line(&error))?;
    // SAFETY: `new_cuda_with_stream` made the only stream that this device's tensors are used on, and
    // all copies to and from them go through it; so order alone keeps each use before the next.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(cuda.cuda_stream().context()).map_err(|error| first_line(&error))?;
    Ok(device)
}

/// How many devices there are; 0 where there is no usable driver.
pub(super) fn count() -> usize {
    let counted = result::init().and_then(|()| result::device::get_count());
    counted.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

fn check(number: usize) -> Result<(), String> {
    result::init().map_err(|error| format!("the driver does not start: {}", first_line(&error)))?;
    let mut version = 0;
    // SAFETY: the pointer is to a number that lives here.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    if asked.result().is_err() || version < DRIVER_NEEDED {
        let said = |v: i32| format!("{}.{}", v / 1000, v % 1000 / 10);
        let (found, needed) = (said(version), said(DRIVER_NEEDED));
        return Err(format!("the driver is too old: it knows CUDA {found}, {needed} (driver 580) is needed"));
    }
    let there = count();
    if number >= there {
        return Err(match there {
            0 => "this machine has no CUDA device".into(),
            1 => "this machine has one CUDA device, cuda:0".into(),
            _ => format!("this machine has {there} CUDA devices, cuda:0 to cuda:{}", there - 1),
        });
    }
    let context = CudaContext::new(number).map_err(|error| first_line(&error))?;
    let (major, minor) = context.compute_capability().map_err(|error| first_line(&error))?;
    if let Some(needed) = CAPABILITY.and_then(|text| text.parse::<i32>().ok())
        && major * 10 + minor != needed
    {
        let name = context.name().unwrap_or_default();
        return Err(format!(
            "{name} has compute capability {major}.{minor}; this build is for {}.{}",
            needed / 10,
            needed % 10
        ));
    }
    let (free, total) = context.mem_get_info().map_err(|error| first_line(&error))?;
    let (free, total) = (free >> 20, total >> 20);
    if free < MEMORY_NEEDED {
        return Err(format!("{free} MiB of {total} MiB are free, at least {MEMORY_NEEDED} are needed"));
    }
    Ok(())
}

/// Without this the driver takes freed memory back at every synchronisation, and gives it anew.
fn keep_memory(context: &CudaContext) -> Result<(), result::DriverError> {
    context.bind_to_thread()?;
    let mut pool = std::ptr::null_mut();
    let mut keep = u64::MAX;
    // SAFETY: the device of a living context; the attribute is a 64-bit number, which lives here.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()).result()?;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast()).result()
    }
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::device::DeviceName;

    /// Run by the test below, in a process of its own, over an emulated device with other properties.
    #[test]
    #[ignore = "a part of the_reason_is_told"]
    fn report() {
        let number = std::env::var("DEVICE").unwrap_or_default().parse().unwrap_or(0);
        match DeviceName::Cuda(number).open() {
            Ok(_) => println!("REPORT: opened"),
            Err(error) => println!("REPORT: {error}"),
        }
    }

    #[test]
    fn the_reason_is_told() {
        if super::super::emulated::counter(0).is_none() {
            return println!("SKIPPED: only the emulated device can be made to lack something");
        }
        let cases = [
            (("DEVICE", "0"), "REPORT: opened"),
            (("EMULATOR_DEVICES", "-1"), "device cuda:0: the driver does not start"),
            (
                ("EMULATOR_DRIVER", "12080"),
                "driver is too old: it knows CUDA 12.8, 13.0 (driver 580) is needed",
            ),
            (("EMULATOR_DEVICES", "0"), "no CUDA device"),
            (("DEVICE", "7"), "device cuda:7: this machine has one CUDA device, cuda:0"),
            (("EMULATOR_FREE_MIB", "100"), "100 MiB of 16384 MiB are free, at least 768 are needed"),
        ];
        for ((name, value), wanted) in cases {
            let test = Command::new(std::env::current_exe().unwrap())
                .args(["device::cuda::tests::report", "--exact", "--ignored", "--nocapture"])
                .env(name, value)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&test.stdout).into_owned();
            assert!(text.contains(wanted), "{name}={value}: {text}");
        }
    }
}
