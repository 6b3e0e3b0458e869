// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which instructions this processor has: found once, then handed to every kernel.

use std::sync::OnceLock;

/// An instruction set that the f32 kernels were written for. All of them add in the same order
/// with fused multiply-adds, so they give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// AVX2 with FMA: 8 floats.
    Avx2,
    /// AVX-512 F, BW, DQ, VL: 16 floats.
    Avx512,
}

/// What the processor offers.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// The widest f32 instruction set.
    pub isa: Isa,
    /// The fastest bfloat16 products, if there are any.
    pub bf16: Option<Bf16>,
    /// The fastest products of bytes.
    pub int8: Int8,
}

/// Instructions that multiply bfloat16 and add in f32. They may round differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bf16 {
    /// AVX512_BF16: pairs of products, 16 sums at once.
    Avx512,
    /// AMX tiles, with leave from the kernel to use them.
    Amx,
}

/// Instructions that multiply bytes and add in 32-bit integers. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Int8 {
    /// Plain Rust: slower than f32.
    Portable,
    /// AVX-VNNI: fours of products, 8 sums at once.
    AvxVnni,
    /// AVX512_VNNI: 16 sums at once.
    Avx512Vnni,
    /// AMX tiles, with leave from the kernel to use them.
    Amx,
}

impl Int8 {
    /// All that this processor runs, the plainest first.
    pub fn every() -> Vec<Int8> {
        let all = [Int8::Portable, Int8::AvxVnni, Int8::Avx512Vnni, Int8::Amx];
        all.into_iter().filter(|i| i.available()).collect()
    }

    /// True if this processor has them.
    pub fn available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Isa::detect() >= Isa::Avx2 && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => Isa::detect() == Isa::Avx512 && is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx(AMX_INT8),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

impl Bf16 {
    /// True if this processor has them.
    pub fn available(self) -> bool {
        match self {
            Self::Avx512 => avx512_bf16(),
            Self::Amx => amx(AMX_BF16),
        }
    }
}

impl Cpu {
    /// Asks the processor once and remembers.
    pub fn detect() -> Self {
        static CPU: OnceLock<Cpu> = OnceLock::new();
        *CPU.get_or_init(|| Self {
            isa: Isa::detect(),
            bf16: [Bf16::Amx, Bf16::Avx512].into_iter().find(|b| b.available()),
            int8: Int8::every().last().copied().unwrap_or(Int8::Portable),
        })
    }

    /// Name for benches and statistics, such as `avx512+amx+vnni`.
    pub fn name(self) -> String {
        let isa = match self.isa {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        };
        let bf16 = match self.bf16 {
            Some(Bf16::Amx) => "+amx",
            Some(Bf16::Avx512) => "+bf16",
            None => "",
        };
        let int8 = if self.int8 == Int8::Portable { "" } else { "+vnni" };
        format!("{isa}{bf16}{int8}")
    }
}

impl Isa {
    /// Every instruction set that this processor runs, the plainest first.
    pub fn every() -> Vec<Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|i| *i <= Isa::detect()).collect()
    }

    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

fn avx512_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Isa::detect() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Bits of CPUID leaf 7, EDX.
const AMX_BF16: u32 = 1 << 22;
const AMX_INT8: u32 = 1 << 25;

/// AMX needs three yeses: the processor's (CPUID leaf 7: the products, bit 24 tiles), the system's
/// (XCR0 bits 17 and 18) and, on Linux, a permission asked for per process (arch_prctl). Its results are finished with
/// AVX512_BF16, which every such processor has.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx(products: u32) -> bool {
    use std::arch::{asm, x86_64 as x86};
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    const SYS_ARCH_PRCTL: i64 = 158;

    if !avx512_bf16() || x86::__cpuid(0).eax < 7 {
        return false;
    }
    let edx = x86::__cpuid_count(7, 0).edx;
    let osxsave = x86::__cpuid(1).ecx & (1 << 27) != 0;
    if edx & products == 0 || edx & (1 << 24) == 0 || !osxsave {
        return false;
    }
    let (xcr0, answer): (u32, i64);
    // SAFETY: `xgetbv` is allowed because OSXSAVE is set; it only reads XCR0.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") xcr0, out("edx") _, options(nomem, nostack)) };
    if xcr0 & (3 << 17) != 3 << 17 {
        return false;
    }
    // SAFETY: the system call takes two integers, touches no memory of ours, and clobbers only rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => answer, in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA, out("rcx") _, out("r11") _, options(nostack));
    }
    answer == 0
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn amx(_: u32) -> bool {
    false
}
