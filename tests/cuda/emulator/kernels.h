// SPDX-License-Identifier: MIT OR Apache-2.0
// What a kernel sees of a device, and all kernels by name: ours from their own source, and those of the tensor
// library that the tests need, written anew.
#pragma once
#include "streams.h"

// ---- What a kernel sees

struct Index { uint32_t x = 0, y = 0, z = 0; };
static Index threadIdx, blockIdx, blockDim, gridDim;
static ucontext_t block_context;
static std::vector<ucontext_t> fibres;
static size_t fibre_now;
static bool in_fibre;

static void __syncthreads() {
  if (!in_fibre) { fprintf(stderr, "emulator: a kernel synchronises that is not listed to\n"); abort(); }
  const Index mine = threadIdx;
  swapcontext(&fibres[fibre_now], &block_context);
  threadIdx = mine;
}
static float rsqrtf(float x) { return 1.f / sqrtf(x); }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fdiv_rn(float a, float b) { return a / b; }
static uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
using std::isfinite;

#define __global__
#define __device__ static
#define __shared__ static
#include KERNELS_FILE

// ---- Kernels by name

struct Kernel { std::function<Work(void **)> bind; bool syncs; };
static std::map<std::string, Kernel> kernels;

template <typename... A, size_t... I> static Work bound(void (*f)(A...), void **p, std::index_sequence<I...>) {
  const std::tuple<A...> values(*static_cast<A *>(p[I])...);
  return [f, values] { std::apply(f, values); };
}
template <typename... A> static Kernel of(void (*f)(A...), bool syncs = false) {
  return {[f](void **p) { return bound(f, p, std::index_sequence_for<A...>()); }, syncs};
}

template <typename F> static void elements(size_t n, F f) { // once for each launch, not for each thread
  if (threadIdx.x == 0 && blockIdx.x == 0) for (size_t i = 0; i < n; i++) f(i);
}
// Index of element i of a strided tensor; info: dims, then strides (null: contiguous).
static size_t strided(size_t i, size_t nd, const size_t *dims, const size_t *strides) {
  size_t at = 0;
  for (size_t d = nd; d-- > 0;) at += i % dims[d] * strides[d], i /= dims[d];
  return at;
}
template <typename A, typename B, float (*F)(float)>
static void unary(size_t n, size_t nd, const size_t *info, const A *x, B *y) {
  elements(n, [&](size_t i) { y[i] = B(F(float(x[info ? strided(i, nd, info, info + nd) : i]))); });
}
template <typename T, float (*F)(float, float)>
static void binary(size_t n, size_t nd, const size_t *info, const T *a, const T *b, T *y) {
  elements(n, [&](size_t i) {
    const size_t p = info ? strided(i, nd, info, info + nd) : i, q = info ? strided(i, nd, info, info + 2 * nd) : i;
    y[i] = T(F(float(a[p]), float(b[q])));
  });
}
template <typename T> static void affine(size_t n, size_t nd, const size_t *info, const T *x, T *y, T mul, T add) {
  elements(n, [&](size_t i) { y[i] = T(float(x ? x[info ? strided(i, nd, info, info + nd) : i] : y[i]) * float(mul) + float(add)); });
}
template <typename T> static void power(size_t n, size_t nd, const size_t *info, T e, const T *x, T *y) {
  elements(n, [&](size_t i) { y[i] = T(powf(float(x[info ? strided(i, nd, info, info + nd) : i]), float(e))); });
}
template <typename T> static void copy2d(const T *x, T *y, uint32_t d1, uint32_t d2, uint32_t s, uint32_t t) {
  elements(size_t(d1) * d2, [&](size_t i) { y[i / d2 * t + i % d2] = x[i / d2 * s + i % d2]; });
}
template <typename T> static void sum(size_t n, size_t count, size_t nd, const size_t *info, const T *x, T *y) {
  elements(n / count, [&](size_t o) {
    double s = 0;
    for (size_t i = 0; i < count; i++) s += float(x[strided(o * count + i, nd, info, info + nd)]);
    y[o] = T(float(s));
  });
}
template <typename T> static void most(size_t n, size_t count, size_t nd, const size_t *info, const T *x, T *y) {
  elements(n / count, [&](size_t o) {
    float m = -INFINITY;
    for (size_t i = 0; i < count; i++) m = fmaxf(m, float(x[strided(o * count + i, nd, info, info + nd)]));
    y[o] = T(m);
  });
}
template <typename T> static void sum_of_few(size_t n, size_t count, size_t nd, const size_t *info, const T *x, T *y) {
  sum(n * count, count, nd, info, x, y); // given the number of sums, not of summands
}
template <typename T> static void constant(size_t n, size_t nd, const size_t *info, T v, T *y) {
  elements(n, [&](size_t i) { y[info ? strided(i, nd, info, info + nd) : i] = v; });
}
template <typename T> static void softmax(const T *x, T *y, int n) { // a block is a row
  if (threadIdx.y != 0) return;
  x += size_t(blockIdx.x) * n, y += size_t(blockIdx.x) * n;
  float most = -INFINITY, sum = 0;
  for (int i = 0; i < n; i++) most = fmaxf(most, float(x[i]));
  for (int i = 0; i < n; i++) sum += expf(float(x[i]) - most);
  for (int i = 0; i < n; i++) y[i] = T(expf(float(x[i]) - most) / sum);
}
static float same(float x) { return x; }
static float square(float x) { return x * x; }
static float negative(float x) { return -x; }
static float inverse(float x) { return 1.f / x; }
static float root(float x) { return sqrtf(x); }
static float exponential(float x) { return expf(x); }
static float silu(float x) { return x / (1.f + expf(-x)); }
static float plus(float a, float b) { return a + b; }
static float minus(float a, float b) { return a - b; }
static float times(float a, float b) { return a * b; }
static float over(float a, float b) { return a / b; }
static float larger(float a, float b) { return a > b ? a : b; }
static float smaller(float a, float b) { return a < b ? a : b; }

template <typename T> static void of_candle(const std::string &n) {
  kernels["ucopy_" + n] = of(unary<T, T, same>);
  kernels["usqr_" + n] = of(unary<T, T, square>);
  kernels["uneg_" + n] = of(unary<T, T, negative>);
  kernels["urecip_" + n] = of(unary<T, T, inverse>);
  kernels["usqrt_" + n] = of(unary<T, T, root>);
  kernels["uexp_" + n] = of(unary<T, T, exponential>);
  kernels["usilu_" + n] = of(unary<T, T, silu>);
  kernels["cast_" + n + "_f32"] = of(unary<T, float, same>);
  kernels["cast_" + n + "_f64"] = of(unary<T, double, same>);
  kernels["cast_f32_" + n] = of(unary<float, T, same>);
  kernels["badd_" + n] = of(binary<T, plus>);
  kernels["bsub_" + n] = of(binary<T, minus>);
  kernels["bmul_" + n] = of(binary<T, times>);
  kernels["bdiv_" + n] = of(binary<T, over>);
  kernels["bmaximum_" + n] = of(binary<T, larger>);
  kernels["bminimum_" + n] = of(binary<T, smaller>);
  kernels["affine_" + n] = of(affine<T>);
  kernels["upowf_" + n] = of(power<T>);
  kernels["softmax_" + n] = of(softmax<T>);
  kernels["copy2d_" + n] = of(copy2d<T>);
  kernels["fast_sum_" + n] = of(sum<T>);
  kernels["fast_max_" + n] = of(most<T>);
  kernels["fast_sum_small_" + n] = of(sum_of_few<T>);
  kernels["const_set_" + n] = of(constant<T>);
}
#define OURS(N)                                                                                               \
  kernels["stem_" #N] = of(stem_##N), kernels["modulate_" #N] = of(modulate_##N);                             \
  kernels["modulate_back_" #N] = of(modulate_back_##N), kernels["settle_" #N] = of(settle_##N);               \
  kernels["rise_" #N] = of(rise_##N), kernels["head_" #N] = of(head_##N);                                     \
  kernels["sums_" #N] = of(sums_##N, true), kernels["moments_" #N] = of(moments_##N, true);                   \
  kernels["halve_" #N] = of(halve_##N), kernels["repeat_" #N] = of(repeat_##N);

static const bool listed = [] {
  OURS(f32) OURS(f16) OURS(bf16)
  kernels["frame_to_rgb"] = of(frames::frame_to_rgb), kernels["add_difference"] = of(frames::add_difference);
  of_candle<float>("f32"), of_candle<__half>("f16"), of_candle<__nv_bfloat16>("bf16");
  return true;
}();

static const Work *running;

// A block's threads run one after the other; those of kernels that synchronise are fibres, each run as
// far as its next __syncthreads in turn.
static void run_block(const Work &kernel, bool syncs) {
  running = &kernel;
  const uint32_t n = blockDim.x * blockDim.y * blockDim.z;
  auto thread = [](uint32_t i) { threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y}; };
  if (!syncs) {
    for (uint32_t i = 0; i < n; i++) thread(i), kernel();
    return;
  }
  constexpr size_t STACK = 64 << 10;
  static std::vector<char> stacks;
  stacks.resize(n * STACK), fibres.assign(n, {});
  std::vector<bool> begun(n, false), done(n, false);
  in_fibre = true;
  for (bool any = true; any;) {
    any = false;
    for (uint32_t i = 0; i < n; i++) {
      if (done[i]) continue;
      fibre_now = i;
      if (!begun[i]) {
        begun[i] = true, thread(i);
        getcontext(&fibres[i]);
        fibres[i].uc_stack.ss_sp = &stacks[i * STACK], fibres[i].uc_stack.ss_size = STACK;
        static std::vector<bool> *ends;
        ends = &done;
        fibres[i].uc_link = &block_context;
        makecontext(&fibres[i], +[]() { (*running)(); (*ends)[fibre_now] = true; }, 0);
      }
      swapcontext(&block_context, &fibres[i]);
      any = true;
    }
  }
  in_fibre = false;
}
