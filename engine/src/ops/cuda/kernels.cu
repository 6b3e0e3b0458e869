// SPDX-License-Identifier: MIT OR Apache-2.0
// What lies between the convolutions of a network on a CUDA device. Activations are channels-last,
// (B, H, W, C), C a multiple of 8; each thread handles eight channels of a pixel. Sums are f32.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

constexpr uint32_t V = 8;

template <typename T> struct alignas(sizeof(T) * V) Pack { T v[V]; };

template <typename T> __device__ inline void load(const T *from, float *to) {
  const Pack<T> pack = *reinterpret_cast<const Pack<T> *>(from);
  for (uint32_t k = 0; k < V; k++) to[k] = float(pack.v[k]);
}

template <typename T> __device__ inline void store(const float *from, T *to) {
  Pack<T> pack;
  for (uint32_t k = 0; k < V; k++) pack.v[k] = T(from[k]);
  *reinterpret_cast<Pack<T> *>(to) = pack;
}

__device__ inline uint32_t index() { return blockIdx.x * blockDim.x + threadIdx.x; }

#include "frames.cuh"

__device__ inline float sigmoid(float z) { return 1.f / (1.f + expf(-z)); }

// (B, planes, h·u, w·u) f32 -> (B, h, w, C): u×u squares become channels; the rest is 0.
template <typename T>
__device__ void stem(const float *x, T *y, uint32_t n, uint32_t planes, uint32_t h, uint32_t w, uint32_t u, uint32_t c) {
  const uint32_t i = index();
  if (i >= n) return;
  const uint32_t first = i % (c / V) * V, pixel = i / (c / V);
  const uint32_t ox = pixel % w, oy = pixel / w % h;
  const size_t b = pixel / w / h;
  float v[V];
  for (uint32_t k = 0; k < V; k++) {
    const uint32_t ch = first + k, plane = ch / (u * u), dy = ch / u % u, dx = ch % u;
    v[k] = plane < planes ? x[((b * planes + plane) * h * u + oy * u + dy) * w * u + ox * u + dx] : 0.f;
  }
  store(v, y + size_t(i) * V);
}

// y = x·gain + offset, then SiLU if asked. gain (may be null: 1) and offset: f32, one row of C for
// each `item` values packs, `step` floats apart (0: the same row for all).
template <typename T>
__device__ void modulate(const T *x, T *y, const float *gain, const float *offset, uint32_t n, uint32_t c, uint32_t item, uint32_t step, uint32_t silu) {
  const uint32_t i = index();
  if (i >= n) return;
  const size_t at = size_t(i / item) * step + i % (c / V) * V;
  float v[V];
  load(x + size_t(i) * V, v);
  for (uint32_t k = 0; k < V; k++) {
    const float z = v[k] * (gain ? gain[at + k] : 1.f) + offset[at + k];
    v[k] = silu ? z * sigmoid(z) : z;
  }
  store(v, y + size_t(i) * V);
}

// Way back of `modulate` with SiLU: dz = dy·silu'(z), dx = dz·gain.
template <typename T>
__device__ void modulate_back(const T *dy, const T *x, const float *gain, const float *offset, T *dz, T *dx, uint32_t n, uint32_t c, uint32_t item, uint32_t step) {
  const uint32_t i = index();
  if (i >= n) return;
  const size_t at = size_t(i / item) * step + i % (c / V) * V;
  float g[V], v[V], d[V];
  load(x + size_t(i) * V, v);
  load(dy + size_t(i) * V, g);
  for (uint32_t k = 0; k < V; k++) {
    const float z = v[k] * gain[at + k] + offset[at + k], s = sigmoid(z);
    g[k] *= s * (1.f + z * (1.f - s));
    d[k] = g[k] * gain[at + k];
  }
  store(g, dz + size_t(i) * V);
  store(d, dx + size_t(i) * V);
}

// x += y + bias; y may be null.
template <typename T>
__device__ void settle(T *x, const T *y, const float *bias, uint32_t n, uint32_t c) {
  const uint32_t i = index();
  if (i >= n) return;
  const uint32_t first = i % (c / V) * V;
  float v[V], a[V];
  load(x + size_t(i) * V, v);
  if (y) load(y + size_t(i) * V, a);
  for (uint32_t k = 0; k < V; k++) v[k] += (y ? a[k] : 0.f) + bias[first + k];
  store(v, x + size_t(i) * V);
}

// x (B, 2h, 2w, C) += y (B, h, w, 4·C), whose channels are (row, column, C) of a 2×2 square, + bias.
template <typename T>
__device__ void rise(T *x, const T *y, const float *bias, uint32_t n, uint32_t c, uint32_t w2) {
  const uint32_t i = index();
  if (i >= n) return;
  const uint32_t first = i % (c / V) * V, pixel = i / (c / V), px = pixel % w2;
  const size_t row = pixel / w2; // batch items have an even number of rows
  const size_t from = ((row / 2 * (w2 / 2) + px / 2) * 4 + (row % 2) * 2 + px % 2) * c + first;
  float v[V], a[V];
  load(x + size_t(i) * V, v);
  load(y + from, a);
  for (uint32_t k = 0; k < V; k++) v[k] += a[k] + bias[first + k];
  store(v, x + size_t(i) * V);
}

// (B, h, w, C) -> (B, 3, h·u, w·u) f32, bias added; a thread makes one value.
template <typename T>
__device__ void head(const T *y, float *out, const float *bias, uint32_t n, uint32_t h, uint32_t w, uint32_t u, uint32_t c) {
  const uint32_t i = index();
  if (i >= n) return;
  const uint32_t x = i % (w * u), row = i / (w * u) % (h * u), plane = i / (w * u) / (h * u) % 3;
  const size_t b = i / (w * u) / (h * u) / 3;
  const uint32_t ch = (plane * u + row % u) * u + x % u;
  out[i] = float(y[((b * h + row / u) * w + x / u) * c + ch]) + bias[ch];
}

// Sums over pixels: out (B, chunks, 2, C) = [Σ a, Σ a·b] of each chunk of `chunk` pixels. Without b:
// of v = a − (first pixel of the item), [Σ v, Σ v²]. Blocks are 32 channels × 8 pixels.
template <typename T>
__device__ void sums(const T *a, const T *b, float *out, uint32_t pixels, uint32_t c, uint32_t chunk) {
  __shared__ float first[8][32], second[8][32];
  const uint32_t ch = blockIdx.y * 32 + threadIdx.x, y = threadIdx.y;
  const size_t item = size_t(blockIdx.z) * pixels * c;
  float s = 0.f, p = 0.f;
  if (ch < c) {
    const float origin = b ? 0.f : float(a[item + ch]);
    const uint32_t begin = blockIdx.x * chunk, rest = pixels - begin, end = begin + (rest < chunk ? rest : chunk);
    for (uint32_t i = begin + y; i < end; i += 8) {
      const size_t at = item + size_t(i) * c + ch;
      const float v = float(a[at]) - origin;
      s += v;
      p += v * (b ? float(b[at]) : v);
    }
  }
  first[y][threadIdx.x] = s;
  second[y][threadIdx.x] = p;
  __syncthreads();
  if (y == 0 && ch < c) {
    for (uint32_t k = 1; k < 8; k++) s += first[k][threadIdx.x], p += second[k][threadIdx.x];
    float *to = out + (size_t(blockIdx.z) * gridDim.x + blockIdx.x) * 2 * c;
    to[ch] = s;
    to[c + ch] = p;
  }
}

// From `sums` without b to the row of `modulate` that is the group norm with weight and bias, and then
// ·(1 + s) + t where embed (may be null) is (B, 2, C): s, t. A block is one group of one item.
template <typename T>
__device__ void moments(const float *sums, const T *x, const float *weight, const float *bias, const float *embed, float *gain, float *offset, uint32_t pixels, uint32_t c, uint32_t chunks, float eps) {
  __shared__ float means[256], spreads[256];
  const uint32_t width = c / gridDim.x, b = blockIdx.y, from = blockIdx.x * width;
  for (uint32_t k = threadIdx.x; k < width; k += blockDim.x) {
    float s = 0.f, p = 0.f;
    for (uint32_t i = 0; i < chunks; i++) {
      const float *part = sums + (size_t(b) * chunks + i) * 2 * c + from + k;
      s += part[0];
      p += part[c];
    }
    const float m = s / pixels;
    means[k] = float(x[size_t(b) * pixels * c + from + k]) + m;
    spreads[k] = fmaxf(p / pixels - m * m, 0.f);
  }
  __syncthreads();
  float mean = 0.f, variance = 0.f;
  for (uint32_t k = 0; k < width; k++) mean += means[k];
  mean /= width;
  for (uint32_t k = 0; k < width; k++) variance += spreads[k] + (means[k] - mean) * (means[k] - mean);
  const float inverse = rsqrtf(variance / width + eps);
  for (uint32_t k = threadIdx.x; k < width; k += blockDim.x) {
    const uint32_t ch = from + k;
    const float *at = embed + size_t(b) * 2 * c;
    const float one = embed ? 1.f + at[ch] : 1.f, more = embed ? at[c + ch] : 0.f;
    const float g = inverse * weight[ch] * one;
    gain[size_t(b) * c + ch] = g;
    offset[size_t(b) * c + ch] = bias[ch] * one + more - mean * g;
  }
}

// (B, 2h, 2w, C) -> (B, h, w, C): the mean of each 2×2 square.
template <typename T> __device__ void halve(const T *x, T *y, uint32_t n, uint32_t c, uint32_t w) {
  const uint32_t i = index();
  if (i >= n) return;
  const uint32_t first = i % (c / V) * V, pixel = i / (c / V);
  const size_t row = pixel / w, at = (row * 2 * 2 * w + pixel % w * 2) * c + first;
  float v[V], sum[V];
  load(x + at, sum);
  const size_t others[3] = {at + c, at + 2 * size_t(w) * c, at + 2 * size_t(w) * c + c};
  for (uint32_t j = 0; j < 3; j++) {
    load(x + others[j], v);
    for (uint32_t k = 0; k < V; k++) sum[k] += v[k];
  }
  for (uint32_t k = 0; k < V; k++) sum[k] *= 0.25f;
  store(sum, y + size_t(i) * V);
}

// (B, h, w, C) -> (B, 2h, 2w, C): each pixel four times; `w` is the result's width.
template <typename T> __device__ void repeat(const T *x, T *y, uint32_t n, uint32_t c, uint32_t w) {
  const uint32_t i = index();
  if (i >= n) return;
  const uint32_t first = i % (c / V) * V, pixel = i / (c / V);
  const size_t at = (size_t(pixel / w / 2) * (w / 2) + pixel % w / 2) * c + first;
  float v[V];
  load(x + at, v);
  store(v, y + size_t(i) * V);
}

#define KERNELS(T, N)                                                                                          \
  extern "C" __global__ void stem_##N(const float *x, T *y, uint32_t n, uint32_t planes, uint32_t h, uint32_t w, uint32_t u, uint32_t c) { stem<T>(x, y, n, planes, h, w, u, c); } \
  extern "C" __global__ void modulate_##N(const T *x, T *y, const float *gain, const float *offset, uint32_t n, uint32_t c, uint32_t item, uint32_t step, uint32_t silu) { modulate<T>(x, y, gain, offset, n, c, item, step, silu); } \
  extern "C" __global__ void modulate_back_##N(const T *dy, const T *x, const float *gain, const float *offset, T *dz, T *dx, uint32_t n, uint32_t c, uint32_t item, uint32_t step) { modulate_back<T>(dy, x, gain, offset, dz, dx, n, c, item, step); } \
  extern "C" __global__ void settle_##N(T *x, const T *y, const float *bias, uint32_t n, uint32_t c) { settle<T>(x, y, bias, n, c); } \
  extern "C" __global__ void rise_##N(T *x, const T *y, const float *bias, uint32_t n, uint32_t c, uint32_t w2) { rise<T>(x, y, bias, n, c, w2); } \
  extern "C" __global__ void head_##N(const T *y, float *out, const float *bias, uint32_t n, uint32_t h, uint32_t w, uint32_t u, uint32_t c) { head<T>(y, out, bias, n, h, w, u, c); } \
  extern "C" __global__ void sums_##N(const T *a, const T *b, float *out, uint32_t pixels, uint32_t c, uint32_t chunk) { sums<T>(a, b, out, pixels, c, chunk); } \
  extern "C" __global__ void moments_##N(const float *s, const T *x, const float *weight, const float *bias, const float *embed, float *gain, float *offset, uint32_t pixels, uint32_t c, uint32_t chunks, float eps) { moments<T>(s, x, weight, bias, embed, gain, offset, pixels, c, chunks, eps); } \
  extern "C" __global__ void halve_##N(const T *x, T *y, uint32_t n, uint32_t c, uint32_t w) { halve<T>(x, y, n, c, w); } \
  extern "C" __global__ void repeat_##N(const T *x, T *y, uint32_t n, uint32_t c, uint32_t w) { repeat<T>(x, y, n, c, w); }

KERNELS(float, f32)
KERNELS(__half, f16)
KERNELS(__nv_bfloat16, bf16)
