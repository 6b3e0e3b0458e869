// SPDX-License-Identifier: MIT OR Apache-2.0
// Frames in their own raw format to planes of R'G'B' and back: engine/src/pixel/ once more, with its bits. Products
// and sums are rounded one by one, as there; left to itself the compiler would join them.
#include <stdint.h>

namespace frames {

struct Samples { // a component
  uint64_t offset;
  uint32_t stride, columns, rows, first, step, shift, mask;
  float gain, lift, scale; // luma, R, G, B to [-1, 1]: v·gain + lift; chroma to ±0.5: (v − lift)·gain
};
struct Frame {
  Samples part[3];
  uint32_t width, height, count, chroma, word, big, sub_x, sub_y;
  float site_x, site_y, red_cr, green_cb, green_cr, blue_cb, kr, kg, kb, to_cb, to_cr;
};
struct Seen { uint32_t colour, broken, infinite; }; // each 1 or left alone

__device__ inline float mul(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float add(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float sub(float a, float b) { return __fadd_rn(a, -b); }
__device__ inline float limited(float v) { return fminf(fmaxf(v, -1.f), 1.f); }

__device__ inline uint32_t word_at(const Frame &f, const uint8_t *at) {
  uint32_t v = 0;
  for (uint32_t i = 0; i < f.word; i++) v |= uint32_t(at[f.big ? f.word - 1 - i : i]) << 8 * i;
  return v;
}
__device__ inline size_t place(const Samples &p, uint32_t x, uint32_t y) {
  return p.offset + size_t(y) * p.stride + p.first + size_t(x) * p.step;
}
__device__ inline float sample(const Frame &f, const uint8_t *bytes, uint32_t c, uint32_t x, uint32_t y) {
  const Samples &p = f.part[c];
  return float(word_at(f, bytes + place(p, x, y)) >> p.shift & p.mask);
}
// Adds to a sample, rounds to the nearest, limits to the depth; all other bits of its word stay.
__device__ inline void change(const Frame &f, uint8_t *bytes, uint32_t c, uint32_t x, uint32_t y, float d) {
  const Samples &p = f.part[c];
  uint8_t *at = bytes + place(p, x, y);
  const uint32_t old = word_at(f, at);
  const float sum = fminf(fmaxf(add(float(old >> p.shift & p.mask), d), 0.f), float(p.mask));
  const uint32_t now = (old & ~(p.mask << p.shift)) | uint32_t(rintf(sum)) << p.shift;
  for (uint32_t i = 0; i < f.word; i++) at[f.big ? f.word - 1 - i : i] = uint8_t(now >> 8 * i);
}

// ---- To planes

// The two samples around a position at full resolution, and how far it is from the first to the second.
__device__ inline void around(uint32_t at, uint32_t count, uint32_t sub_, float site, uint32_t &a, uint32_t &b, float &part) {
  const float p = fmaxf(__fdiv_rn(sub(float(at), site), float(1u << sub_)), 0.f);
  a = min(uint32_t(p), count - 1), b = min(a + 1, count - 1), part = sub(p, float(uint32_t(p)));
}
__device__ inline float chroma(const Frame &f, const uint8_t *bytes, uint32_t c, uint32_t x, uint32_t y) {
  const Samples &p = f.part[c];
  uint32_t above, below;
  float down;
  around(y, p.rows, f.sub_y, f.site_y, above, below, down);
  auto column = [&](uint32_t cx) {
    const float a = mul(sub(sample(f, bytes, c, cx, above), p.lift), p.gain);
    const float b = mul(sub(sample(f, bytes, c, cx, below), p.lift), p.gain);
    return add(a, mul(down, sub(b, a)));
  };
  const uint32_t last = p.columns - 1;
  if (f.sub_x == 0) return column(x);
  if (f.sub_x == 1 && f.site_x == 0.f) {
    const uint32_t i = x / 2;
    return x % 2 == 0 || i == last ? column(i) : mul(0.5f, add(column(i), column(i + 1)));
  }
  if (f.sub_x == 1) {
    const uint32_t i = (x - 1) / 2;
    if (x == 0) return column(0);
    if (i >= last) return column(last);
    const float near = x % 2 ? 0.75f : 0.25f;
    return add(mul(near, column(i)), mul(1.f - near, column(i + 1)));
  }
  uint32_t left, right;
  float part;
  around(x, p.columns, f.sub_x, f.site_x, left, right, part);
  const float a = column(left);
  return add(a, mul(part, sub(column(right), a)));
}

// Planes (3, ph, pw) in [-1, 1], the last row and column repeated; a thread makes a pixel.
extern "C" __global__ void frame_to_rgb(Frame f, const uint8_t *bytes, float *rgb, Seen *seen, uint32_t ph, uint32_t pw) {
  const uint32_t i = index();
  if (i >= ph * pw) return;
  const uint32_t x = min(i % pw, f.width - 1), y = min(i / pw, f.height - 1);
  auto unit = [&](uint32_t c) { return add(mul(sample(f, bytes, c, x, y), f.part[c].gain), f.part[c].lift); };
  float r, g, b;
  if (f.count == 1) r = g = b = limited(unit(0));
  else if (!f.chroma) r = limited(unit(0)), g = limited(unit(1)), b = limited(unit(2));
  else {
    const float luma = unit(0), cb = chroma(f, bytes, 1, x, y), cr = chroma(f, bytes, 2, x, y);
    r = limited(add(luma, mul(f.red_cr, cr)));
    g = limited(add(add(luma, mul(f.green_cb, cb)), mul(f.green_cr, cr)));
    b = limited(add(luma, mul(f.blue_cb, cb)));
  }
  if (r != g || r != b) seen->colour = 1;
  const size_t plane = size_t(ph) * pw;
  rgb[i] = r, rgb[plane + i] = g, rgb[2 * plane + i] = b;
}

// ---- Back

struct Change { float r, g, b; };

// Half of what was restored, times strength; nothing where it cannot be.
__device__ inline float half_of(float before, float after, float gain, Seen *seen) {
  const float d = sub(after, before);
  if (!isfinite(after)) seen->infinite = 1;
  if (fabsf(d) <= 4.f) return mul(gain, d);
  seen->broken = 1;
  return 0.f;
}
__device__ inline Change change_of(const float *rgb, const float *out, size_t plane, size_t at, float gain, Seen *seen) {
  float r = out[at], g = out[plane + at], b = out[2 * plane + at];
  if (!seen->colour) {
    r = add(r, __fdiv_rn(add(sub(g, r), sub(b, r)), 3.f));
    g = b = r;
  }
  return {half_of(rgb[at], r, gain, seen), half_of(rgb[plane + at], g, gain, seen), half_of(rgb[2 * plane + at], b, gain, seen)};
}
__device__ inline float luma_of(const Frame &f, Change c) { return add(add(mul(f.kr, c.r), mul(f.kg, c.g)), mul(f.kb, c.b)); }

// How much row y counts for chroma row `row`.
__device__ inline float share(uint32_t y, uint32_t row, uint32_t sub_y, float site) {
  const uint32_t odd = y & ((1u << sub_y) - 1);
  if (sub_y == 0) return 1.f;
  if (sub_y > 1) return __fdiv_rn(1.f, float(1u << sub_y));
  if (site == 0.f) return odd ? 0.25f : 0.5f;
  return odd ? site : sub(1.f, site);
}

// bytes += change, in the format's own samples. A thread has one chroma sample and the pixels of its group.
extern "C" __global__ void add_difference(Frame f, uint8_t *bytes, const float *rgb, const float *out, Seen *seen, float gain, uint32_t ph, uint32_t pw) {
  const uint32_t columns = ((f.width - 1) >> f.sub_x) + 1, rows = ((f.height - 1) >> f.sub_y) + 1, i = index();
  if (i >= columns * rows) return;
  const uint32_t cx = i % columns, cy = i / columns;
  const size_t plane = size_t(ph) * pw;
  auto changed = [&](uint32_t x, uint32_t y) { return change_of(rgb, out, plane, size_t(y) * pw + x, gain, seen); };
  for (uint32_t y = cy << f.sub_y; y < min((cy + 1) << f.sub_y, f.height); y++)
    for (uint32_t x = cx << f.sub_x; x < min((cx + 1) << f.sub_x, f.width); x++) {
      const Change c = changed(x, y);
      if (f.chroma || f.count == 1) change(f, bytes, 0, x, y, mul(luma_of(f, c), f.part[0].scale));
      else {
        change(f, bytes, 0, x, y, mul(c.r, f.part[0].scale));
        change(f, bytes, 1, x, y, mul(c.g, f.part[1].scale));
        change(f, bytes, 2, x, y, mul(c.b, f.part[2].scale));
      }
    }
  if (!f.chroma || cy >= f.part[1].rows) return;
  // Chroma samples on a row also count the one before; what lies on both sides of a column as well.
  const bool on_row = f.sub_y == 1 && f.site_y == 0.f, on_column = f.sub_x == 1 && f.site_x == 0.f;
  const uint32_t from = (cy << f.sub_y) - (on_row && cy > 0), to = min((cy + 1) << f.sub_y, f.height);
  struct Pair { float cb, cr; };
  auto column = [&](uint32_t x) {
    Pair sum = {0.f, 0.f};
    float weight = 0.f;
    for (uint32_t y = from; y < to; y++) {
      const float part = share(y, cy, f.sub_y, f.site_y);
      if (!(part > 0.f)) continue;
      const Change c = changed(x, y);
      const float luma = luma_of(f, c);
      weight = add(weight, part);
      sum.cb = add(sum.cb, mul(part, mul(mul(sub(c.b, luma), f.to_cb), f.part[1].scale)));
      sum.cr = add(sum.cr, mul(part, mul(mul(sub(c.r, luma), f.to_cr), f.part[2].scale)));
    }
    const float whole = weight > 0.f ? __fdiv_rn(1.f, weight) : 0.f;
    return Pair{mul(sum.cb, whole), mul(sum.cr, whole)};
  };
  const uint32_t x = cx << f.sub_x, end = min((cx + 1) << f.sub_x, f.width);
  Pair mean;
  if (f.sub_x == 0) mean = column(x);
  else if (on_column) {
    const Pair here = column(x), after = x + 1 < f.width ? column(x + 1) : here;
    if (cx == 0) mean = {add(mul(0.5f, here.cb), mul(0.5f, after.cb)), add(mul(0.5f, here.cr), mul(0.5f, after.cr))};
    else {
      const Pair before = column(x - 1);
      mean.cb = add(add(mul(0.25f, before.cb), mul(0.5f, here.cb)), mul(0.25f, after.cb));
      mean.cr = add(add(mul(0.25f, before.cr), mul(0.5f, here.cr)), mul(0.25f, after.cr));
    }
  } else if (f.sub_x == 1) {
    const Pair a = column(x), b = column(end - 1);
    mean = {mul(0.5f, add(a.cb, b.cb)), mul(0.5f, add(a.cr, b.cr))};
  } else {
    Pair sum = {0.f, 0.f};
    for (uint32_t at = x; at < end; at++) {
      const Pair one = column(at);
      sum = {add(sum.cb, one.cb), add(sum.cr, one.cr)};
    }
    mean = {__fdiv_rn(sum.cb, float(end - x)), __fdiv_rn(sum.cr, float(end - x))};
  }
  change(f, bytes, 1, cx, cy, mean.cb);
  change(f, bytes, 2, cx, cy, mean.cr);
}

} // namespace frames
