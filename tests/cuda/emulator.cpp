// SPDX-License-Identifier: MIT OR Apache-2.0
// A CUDA device on the CPU, for machines without one: a driver, cuBLAS and cuDNN that compute, slowly
// and plainly, what the engine asks of them, and count it. Our own kernels are compiled from their own
// source; of the tensor library's, those that the tests need are written anew. New memory holds NaN and
// ends in a guard, so that what is read before it is written, or written past its end, does not pass.
// Streams are as late as they may be: nothing runs before somebody waits for it; or, after emulator_seed, as
// early or late as chance has it. So what relies on an order that no event makes does not pass either.
//
// Set by environment: EMULATOR_DEVICES, EMULATOR_DRIVER (13000), EMULATOR_FREE_MIB.
#include "emulator/libraries.h"
