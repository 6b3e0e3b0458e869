// SPDX-License-Identifier: MIT OR Apache-2.0
// Half precision as the kernels use it, for a host compiler.
#pragma once
struct __half {
  _Float16 v;
  __half() = default;
  explicit __half(float f) : v((_Float16)f) {}
  operator float() const { return (float)v; }
};
