// SPDX-License-Identifier: MIT OR Apache-2.0
// A CUDA device on the CPU, for machines without one: a driver, cuBLAS and cuDNN that compute, slowly
// and plainly, what the engine asks of them, and count it. Our own kernels are compiled from their own
// source; of the tensor library's, those that the tests need are written anew. New memory holds NaN and
// ends in a guard, so that what is read before it is written, or written past its end, does not pass.
//
// Set by environment: EMULATOR_DEVICES, EMULATOR_DRIVER (13000), EMULATOR_FREE_MIB.
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

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

#define __global__
#define __device__ static
#define __shared__ static
#include KERNELS_FILE

// ---- Counters

enum { LAUNCHES, ALLOCATIONS, UPLOADS, DOWNLOADS, SYNCS, HEURISTICS, LIVE_BYTES, COUNTERS };
static uint64_t counters[COUNTERS];
extern "C" uint64_t emulator_counter(uint32_t which) { return which < COUNTERS ? counters[which] : 0; }

static long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}

// ---- Kernels by name

struct Kernel { std::function<void(void **)> run; bool syncs; };
static std::map<std::string, Kernel> kernels;

template <typename... A, size_t... I> static void spread(void (*f)(A...), void **p, std::index_sequence<I...>) {
  f(*static_cast<A *>(p[I])...);
}
template <typename... A> static Kernel of(void (*f)(A...), bool syncs = false) {
  return {[f](void **p) { spread(f, p, std::index_sequence_for<A...>()); }, syncs};
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
  of_candle<float>("f32"), of_candle<__half>("f16"), of_candle<__nv_bfloat16>("bf16");
  return true;
}();

static const Kernel *running;
static void **arguments;

// A block's threads run one after the other; those of kernels that synchronise are fibres, each run as
// far as its next __syncthreads in turn.
static void run_block(const Kernel &kernel, void **p) {
  running = &kernel, arguments = p;
  const uint32_t n = blockDim.x * blockDim.y * blockDim.z;
  auto thread = [](uint32_t i) { threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y}; };
  if (!kernel.syncs) {
    for (uint32_t i = 0; i < n; i++) thread(i), kernel.run(p);
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
        makecontext(&fibres[i], +[]() { running->run(arguments); (*ends)[fibre_now] = true; }, 0);
      }
      swapcontext(&block_context, &fibres[i]);
      any = true;
    }
  }
  in_fibre = false;
}

// ---- The driver

typedef int Status;
#define API extern "C" Status
static const Status OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_FOUND = 500;
constexpr size_t GUARD = 256;
struct Piece { size_t length; char *raw; };
static std::map<uint64_t, Piece> pieces;

static uint64_t free_bytes() { return uint64_t(setting("EMULATOR_FREE_MIB", 1 << 14)) << 20; }

API cuInit(unsigned) { return setting("EMULATOR_DEVICES", 1) < 0 ? NO_DEVICE : 0; }
API cuGetExportTable(const void **table, const void *) { *table = nullptr; return NOT_FOUND; }
API cuDriverGetVersion(int *v) { *v = int(setting("EMULATOR_DRIVER", 13000)); return 0; }
API cuDeviceGetCount(int *n) { *n = int(setting("EMULATOR_DEVICES", 1)); return 0; }
API cuDeviceGet(int *d, int ordinal) { *d = ordinal; return ordinal < setting("EMULATOR_DEVICES", 1) ? 0 : INVALID_DEVICE; }
API cuDeviceGetName(char *name, int length, int) { snprintf(name, length, "emulated"); return 0; }
API cuDeviceTotalMem_v2(size_t *n, int) { *n = size_t(16) << 30; return 0; }
API cuMemGetInfo_v2(size_t *free, size_t *total) { *free = free_bytes(), *total = size_t(16) << 30; return 0; }
API cuDeviceGetAttribute(int *v, int a, int) { *v = a == 75 ? 9 : a == 76 ? 0 : 1; return 0; } // capability 9.0
API cuDevicePrimaryCtxRetain(void **c, int) { *c = (void *)0x10; return 0; }
API cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API cuCtxDestroy_v2(void *) { return 0; }
API cuCtxGetCurrent(void **c) { *c = (void *)0x10; return 0; }
API cuCtxSetCurrent(void *) { return 0; }
API cuCtxSynchronize() { counters[SYNCS]++; return 0; }
API cuEventCreate(void **e, unsigned) { *e = (void *)0x20; return 0; }
API cuEventDestroy_v2(void *) { return 0; }
API cuEventRecord(void *, void *) { return 0; }
API cuEventSynchronize(void *) { counters[SYNCS]++; return 0; }
API cuStreamWaitEvent(void *, void *, unsigned) { return 0; }
API cuStreamCreate(void **s, unsigned) { *s = (void *)0x30; return 0; }
API cuStreamDestroy_v2(void *) { return 0; }
API cuStreamSynchronize(void *) { counters[SYNCS]++; return 0; }
API cuStreamIsCapturing(void *, int *c) { *c = 0; return 0; }
API cuGetErrorString(int, const char **s) { *s = "emulated error"; return 0; }
API cuGetErrorName(int e, const char **s) { *s = e == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0; }
API cuDeviceGetDefaultMemPool(void **p, int) { *p = (void *)0x50; return 0; }
API cuMemPoolSetAttribute(void *, int, void *) { return 0; }

API cuMemAllocAsync(uint64_t *p, size_t n, void *) {
  if (counters[LIVE_BYTES] + n > free_bytes()) return OUT_OF_MEMORY;
  const size_t room = (n + 255) / 256 * 256 + GUARD;
  char *raw = static_cast<char *>(aligned_alloc(256, room));
  memset(raw, 0xff, room);
  *p = uint64_t(raw);
  pieces[*p] = {n, raw};
  counters[ALLOCATIONS]++, counters[LIVE_BYTES] += n;
  return 0;
}
API cuMemFreeAsync(uint64_t p, void *) {
  auto found = pieces.find(p);
  if (found == pieces.end()) { fprintf(stderr, "emulator: freed what was not allocated\n"); abort(); }
  for (size_t i = 0; i < GUARD; i++)
    if (found->second.raw[found->second.length + i] != char(0xff)) { fprintf(stderr, "emulator: written past the end of %zu bytes\n", found->second.length); abort(); }
  counters[LIVE_BYTES] -= found->second.length;
  free(found->second.raw);
  pieces.erase(found);
  return 0;
}
API cuMemAlloc_v2(uint64_t *p, size_t n) { return cuMemAllocAsync(p, n, nullptr); }
API cuMemFree_v2(uint64_t p) { return cuMemFreeAsync(p, nullptr); }
API cuMemHostAlloc(void **p, size_t n, unsigned) { *p = malloc(n); return 0; }
API cuMemFreeHost(void *p) { free(p); return 0; }
API cuMemcpyHtoDAsync_v2(uint64_t d, const void *h, size_t n, void *) { counters[UPLOADS]++; memcpy((void *)d, h, n); return 0; }
API cuMemcpyDtoHAsync_v2(void *h, uint64_t d, size_t n, void *) { counters[DOWNLOADS]++; memcpy(h, (void *)d, n); return 0; }
API cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, void *) { counters[LAUNCHES]++; memmove((void *)d, (void *)s, n); return 0; }
API cuMemsetD8Async(uint64_t p, unsigned char v, size_t n, void *) { counters[LAUNCHES]++; memset((void *)p, v, n); return 0; }
API cuModuleLoadData(void **m, const void *) { *m = (void *)0x40; return 0; }
API cuModuleLoadDataEx(void **m, const void *, unsigned, void *, void *) { *m = (void *)0x40; return 0; }
API cuModuleUnload(void *) { return 0; }
API cuModuleGetFunction(void **f, void *, const char *name) {
  auto found = kernels.find(name);
  if (found == kernels.end()) { fprintf(stderr, "emulator: no kernel %s\n", name); return NOT_FOUND; }
  *f = &found->second;
  return 0;
}
API cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *, void **p, void **) {
  counters[LAUNCHES]++;
  gridDim = {gx, gy, gz}, blockDim = {bx, by, bz};
  for (uint32_t z = 0; z < gz; z++)
    for (uint32_t y = 0; y < gy; y++)
      for (uint32_t x = 0; x < gx; x++) blockIdx = {x, y, z}, run_block(*static_cast<Kernel *>(f), p);
  return 0;
}

// ---- cuBLAS and cuRAND

enum { R_32F = 0, R_16F = 2, R_16BF = 14 };
static float get(const void *p, int type, size_t i) {
  if (type == R_32F) return static_cast<const float *>(p)[i];
  return type == R_16F ? float(static_cast<const __half *>(p)[i]) : float(static_cast<const __nv_bfloat16 *>(p)[i]);
}
static void put(void *p, int type, size_t i, float v) {
  if (type == R_32F) static_cast<float *>(p)[i] = v;
  else if (type == R_16F) static_cast<__half *>(p)[i] = __half(v);
  else static_cast<__nv_bfloat16 *>(p)[i] = __nv_bfloat16(v);
}
API cublasCreate_v2(void **h) { *h = (void *)1; return 0; }
API cublasDestroy_v2(void *) { return 0; }
API cublasSetStream_v2(void *, void *) { return 0; }
API cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, long long sa, const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc, long long sc, int count, int, int) {
  counters[LAUNCHES]++;
  const float al = *static_cast<const float *>(alpha), be = *static_cast<const float *>(beta);
  for (int i = 0; i < count; i++)
    for (int col = 0; col < n; col++)
      for (int row = 0; row < m; row++) {
        float sum = 0;
        for (int j = 0; j < k; j++)
          sum += get(a, at, i * sa + (ta ? size_t(row) * lda + j : size_t(j) * lda + row)) * get(b, bt, i * sb + (tb ? size_t(j) * ldb + col : size_t(col) * ldb + j));
        const size_t to = i * sc + size_t(col) * ldc + row;
        put(c, ct, to, al * sum + (be != 0 ? be * get(c, ct, to) : 0));
      }
  return 0;
}
API curandCreateGenerator(void **g, int) { *g = (void *)1; return 0; }
API curandDestroyGenerator(void *) { return 0; }
API curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
API curandSetStream(void *, void *) { return 0; }

// ---- cuDNN: channels-last convolutions, f32 sums

struct Maps { int n, c, h, w, sn, sc, sh, sw, type; };
struct Weights { int k, c, h, w, type; };
struct Shape { int py, px, sy, sx; };
static int of_cudnn(int t) { return t == 0 ? R_32F : t == 2 ? R_16F : t == 9 ? R_16BF : -1; }
extern "C" size_t cudnnGetVersion() { return 91900; }
API cudnnCreate(void **h) { *h = (void *)1; return 0; }
API cudnnDestroy(void *) { return 0; }
API cudnnSetStream(void *, void *) { return 0; }
API cudnnCreateTensorDescriptor(void **d) { *d = new Maps(); return 0; }
API cudnnDestroyTensorDescriptor(void *d) { delete static_cast<Maps *>(d); return 0; }
API cudnnCreateFilterDescriptor(void **d) { *d = new Weights(); return 0; }
API cudnnDestroyFilterDescriptor(void *d) { delete static_cast<Weights *>(d); return 0; }
API cudnnCreateConvolutionDescriptor(void **d) { *d = new Shape(); return 0; }
API cudnnDestroyConvolutionDescriptor(void *d) { delete static_cast<Shape *>(d); return 0; }
API cudnnSetTensor4dDescriptorEx(Maps *d, int t, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
  *d = {n, c, h, w, sn, sc, sh, sw, of_cudnn(t)};
  return d->type < 0;
}
API cudnnSetFilter4dDescriptor(Weights *d, int t, int format, int k, int c, int h, int w) {
  *d = {k, c, h, w, of_cudnn(t)};
  return format != 1 || d->type < 0; // NHWC only
}
API cudnnSetConvolution2dDescriptor(Shape *d, int py, int px, int sy, int sx, int, int, int mode, int) {
  *d = {py, px, sy, sx};
  return mode != 1; // cross-correlation only
}
API cudnnSetConvolutionMathType(void *, int) { return 0; }
#define SIZE(N) API N(void *, void *, void *, void *, void *, int algo, size_t *n) { counters[HEURISTICS]++; *n = 4096; return algo != 1; }
SIZE(cudnnGetConvolutionForwardWorkspaceSize) SIZE(cudnnGetConvolutionBackwardDataWorkspaceSize) SIZE(cudnnGetConvolutionBackwardFilterWorkspaceSize)
#define RATE(N) API N(void *, void *, void *, void *, void *, int, int *n, void *) { counters[HEURISTICS]++; *n = 0; return 0; }
RATE(cudnnGetConvolutionForwardAlgorithm_v7) RATE(cudnnGetConvolutionBackwardDataAlgorithm_v7) RATE(cudnnGetConvolutionBackwardFilterAlgorithm_v7)

// Calls f(x index, w index, y index) for every product of the convolution.
template <typename F> static void products(const Maps &x, const Weights &w, const Shape &s, const Maps &y, F f) {
  for (int n = 0; n < y.n; n++) for (int oy = 0; oy < y.h; oy++) for (int ox = 0; ox < y.w; ox++)
    for (int ky = 0; ky < w.h; ky++) for (int kx = 0; kx < w.w; kx++) {
      const int iy = oy * s.sy + ky - s.py, ix = ox * s.sx + kx - s.px;
      if (iy < 0 || ix < 0 || iy >= x.h || ix >= x.w) continue;
      for (int k = 0; k < w.k; k++) for (int c = 0; c < w.c; c++)
        f(size_t(n) * x.sn + size_t(iy) * x.sh + ix * x.sw + c * x.sc, ((size_t(k) * w.h + ky) * w.w + kx) * w.c + c, size_t(n) * y.sn + size_t(oy) * y.sh + ox * y.sw + k * y.sc);
    }
}
static Status settle(const std::vector<float> &sums, void *to, int type) {
  counters[LAUNCHES]++;
  for (size_t i = 0; i < sums.size(); i++) put(to, type, i, sums[i]);
  return 0;
}
API cudnnConvolutionForward(void *, const void *, Maps *x, const void *xp, Weights *w, const void *wp, Shape *s, int, void *, size_t, const void *, Maps *y, void *yp) {
  if (x->c != w->c || y->c != w->k || x->type != w->type) return 3;
  std::vector<float> sums(size_t(y->n) * y->c * y->h * y->w);
  products(*x, *w, *s, *y, [&](size_t i, size_t j, size_t o) { sums[o] += get(xp, x->type, i) * get(wp, w->type, j); });
  return settle(sums, yp, y->type);
}
API cudnnConvolutionBackwardData(void *, const void *, Weights *w, const void *wp, Maps *y, const void *yp, Shape *s, int, void *, size_t, const void *, Maps *x, void *xp) {
  std::vector<float> sums(size_t(x->n) * x->c * x->h * x->w);
  products(*x, *w, *s, *y, [&](size_t i, size_t j, size_t o) { sums[i] += get(yp, y->type, o) * get(wp, w->type, j); });
  return settle(sums, xp, x->type);
}
API cudnnConvolutionBackwardFilter(void *, const void *, Maps *x, const void *xp, Maps *y, const void *yp, Shape *s, int, void *, size_t, const void *, Weights *w, void *wp) {
  std::vector<float> sums(size_t(w->k) * w->c * w->h * w->w);
  products(*x, *w, *s, *y, [&](size_t i, size_t j, size_t o) { sums[j] += get(yp, y->type, o) * get(xp, x->type, i); });
  return settle(sums, wp, w->type);
}

// ---- Linked, never called

#define UNUSED(N) API N() { fprintf(stderr, "emulator: " #N " was called\n"); abort(); }
UNUSED(cuMemcpyPeerAsync) UNUSED(cuModuleLoad) UNUSED(cublasDgemmStridedBatched) UNUSED(cudnnSetTensor4dDescriptor)
