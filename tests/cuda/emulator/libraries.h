// SPDX-License-Identifier: MIT OR Apache-2.0
// cuBLAS, cuRAND and cuDNN, as far as they are asked.
#pragma once
#include "driver.h"

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
struct Handle { void *stream = nullptr; }; // of cuBLAS and cuDNN
API cublasCreate_v2(void **h) { *h = new Handle(); return 0; }
API cublasDestroy_v2(void *h) { delete static_cast<Handle *>(h); return 0; }
API cublasSetStream_v2(Handle *h, void *stream) { h->stream = stream; return 0; }
API cublasGemmStridedBatchedEx(Handle *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, long long sa, const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc, long long sc, int count, int, int) {
  ALONE;
  const float al = *static_cast<const float *>(alpha), be = *static_cast<const float *>(beta);
  return launched(h->stream, [=] {
    for (int i = 0; i < count; i++)
      for (int col = 0; col < n; col++)
        for (int row = 0; row < m; row++) {
          float sum = 0;
          for (int j = 0; j < k; j++)
            sum += get(a, at, i * sa + (ta ? size_t(row) * lda + j : size_t(j) * lda + row)) * get(b, bt, i * sb + (tb ? size_t(j) * ldb + col : size_t(col) * ldb + j));
          const size_t to = i * sc + size_t(col) * ldc + row;
          put(c, ct, to, al * sum + (be != 0 ? be * get(c, ct, to) : 0));
        }
  });
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
API cudnnCreate(void **h) { *h = new Handle(); return 0; }
API cudnnDestroy(void *h) { delete static_cast<Handle *>(h); return 0; }
API cudnnSetStream(Handle *h, void *stream) { h->stream = stream; return 0; }
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
// Larger maps want more of it, and whoever runs spoils it.
API cudnnGetConvolutionForwardWorkspaceSize(void *, void *, void *, void *, Maps *y, int algo, size_t *n) { counters[HEURISTICS]++; *n = 64 * size_t(y->h) * y->w; return algo != 1; }
#define SIZE(N) API N(void *, void *, void *, void *, void *, int algo, size_t *n) { counters[HEURISTICS]++; *n = 4096; return algo != 1; }
SIZE(cudnnGetConvolutionBackwardDataWorkspaceSize) SIZE(cudnnGetConvolutionBackwardFilterWorkspaceSize)
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
static void settle(const std::vector<float> &sums, void *to, int type) {
  for (size_t i = 0; i < sums.size(); i++) put(to, type, i, sums[i]);
}
// Descriptors are read when a call is made, not when it runs.
API cudnnConvolutionForward(Handle *h, const void *, Maps *xd, const void *xp, Weights *wd, const void *wp, Shape *sd, int, void *space, size_t room, const void *, Maps *yd, void *yp) {
  ALONE;
  const Maps x = *xd, y = *yd; const Weights w = *wd; const Shape s = *sd;
  if (x.c != w.c || y.c != w.k || x.type != w.type) return 3;
  return launched(h->stream, [=] {
    spoil(uint64_t(space), room);
    std::vector<float> sums(size_t(y.n) * y.c * y.h * y.w);
    products(x, w, s, y, [&](size_t i, size_t j, size_t o) { sums[o] += get(xp, x.type, i) * get(wp, w.type, j); });
    settle(sums, yp, y.type);
  });
}
API cudnnConvolutionBackwardData(Handle *h, const void *, Weights *wd, const void *wp, Maps *yd, const void *yp, Shape *sd, int, void *, size_t, const void *, Maps *xd, void *xp) {
  ALONE;
  const Maps x = *xd, y = *yd; const Weights w = *wd; const Shape s = *sd;
  return launched(h->stream, [=] {
    std::vector<float> sums(size_t(x.n) * x.c * x.h * x.w);
    products(x, w, s, y, [&](size_t i, size_t j, size_t o) { sums[i] += get(yp, y.type, o) * get(wp, w.type, j); });
    settle(sums, xp, x.type);
  });
}
API cudnnConvolutionBackwardFilter(Handle *h, const void *, Maps *xd, const void *xp, Maps *yd, const void *yp, Shape *sd, int, void *, size_t, const void *, Weights *wd, void *wp) {
  ALONE;
  const Maps x = *xd, y = *yd; const Weights w = *wd; const Shape s = *sd;
  return launched(h->stream, [=] {
    std::vector<float> sums(size_t(w.k) * w.c * w.h * w.w);
    products(x, w, s, y, [&](size_t i, size_t j, size_t o) { sums[j] += get(yp, y.type, o) * get(xp, x.type, i); });
    settle(sums, wp, w.type);
  });
}

// ---- Linked, never called

#define UNUSED(N) API N() { fprintf(stderr, "emulator: " #N " was called\n"); abort(); }
UNUSED(cuMemcpyPeerAsync) UNUSED(cuModuleLoad) UNUSED(cublasDgemmStridedBatched) UNUSED(cudnnSetTensor4dDescriptor)
