// SPDX-License-Identifier: MIT OR Apache-2.0
// The driver: devices, contexts, events, graphs, memory, copies, launches.
#pragma once
#include "kernels.h"

typedef int Status;
#define API extern "C" Status
static const Status OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, ILLEGAL_STATE = 401, NOT_FOUND = 500;
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
API cuCtxSynchronize() { ALONE; counters[SYNCS]++; run_all(); return 0; }
API cuEventCreate(void **e, unsigned) { *e = new Event(); return 0; }
API cuEventDestroy_v2(void *e) { delete static_cast<Event *>(e); return 0; }
API cuEventRecord(Event *e, void *stream) { ALONE; Stream *s = stream_of(stream); *e = {s, s->pushed}; return 0; }
API cuEventSynchronize(Event *e) { ALONE; counters[SYNCS]++; if (e->stream) run_until(e->stream, e->at); return 0; }
API cuStreamWaitEvent(void *stream, Event *e, unsigned) {
  ALONE;
  const Event wait = *e;
  if (!wait.stream || wait.stream == stream_of(stream)) return 0;
  if (stream_of(stream)->graph) { fprintf(stderr, "emulator: a wait within a graph\n"); abort(); }
  counters[SUBMISSIONS]--; // an order, not work
  push(stream, [wait] { run_until(wait.stream, wait.at); });
  return 0;
}
API cuStreamCreate(void **s, unsigned) { ALONE; stream_of(nullptr); *s = *streams.insert(new Stream()).first; return 0; }
API cuStreamDestroy_v2(void *stream) { ALONE; Stream *s = stream_of(stream); run_until(s, s->pushed); return 0; } // events may still name it
API cuStreamSynchronize(void *stream) { ALONE; counters[SYNCS]++; Stream *s = stream_of(stream); run_until(s, s->pushed); return 0; }
API cuStreamIsCapturing(void *stream, int *c) { ALONE; *c = stream_of(stream)->graph != nullptr; return 0; }
API cuStreamBeginCapture_v2(void *stream, int) {
  ALONE;
  if (stream_of(stream)->graph) return ILLEGAL_STATE;
  stream_of(stream)->graph = new std::vector<Work>();
  return 0;
}
API cuStreamEndCapture(void *stream, std::vector<Work> **graph) {
  ALONE;
  *graph = std::exchange(stream_of(stream)->graph, nullptr);
  return *graph ? 0 : ILLEGAL_STATE;
}
API cuGraphInstantiateWithFlags(void **exec, std::vector<Work> *graph, unsigned long long) { *exec = new std::vector<Work>(*graph); return 0; }
API cuGraphDestroy(std::vector<Work> *graph) { delete graph; return 0; }
API cuGraphExecDestroy(std::vector<Work> *exec) { ALONE; run_all(); delete exec; return 0; }
API cuGraphLaunch(const std::vector<Work> *exec, void *stream) {
  ALONE;
  counters[GRAPHS]++;
  push(stream, [exec] { for (const Work &work : *exec) work(); });
  return 0;
}
API cuGetErrorString(int, const char **s) { *s = "emulated error"; return 0; }
API cuGetErrorName(int e, const char **s) { *s = e == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0; }
API cuDeviceGetDefaultMemPool(void **p, int) { *p = (void *)0x50; return 0; }
API cuMemPoolSetAttribute(void *, int, void *) { return 0; }

API cuMemAllocAsync(uint64_t *p, size_t n, void *stream) {
  ALONE;
  if (stream_of(stream)->graph) { fprintf(stderr, "emulator: memory allocated while a graph is made\n"); abort(); }
  if (counters[LIVE_BYTES] + n > free_bytes()) run_all(); // what was freed may not be yet
  if (counters[LIVE_BYTES] + n > free_bytes()) return OUT_OF_MEMORY;
  const size_t room = (n + 255) / 256 * 256 + GUARD;
  char *raw = static_cast<char *>(aligned_alloc(256, room));
  memset(raw, 0xff, room);
  *p = uint64_t(raw);
  pieces[*p] = {n, raw};
  counters[ALLOCATIONS]++, counters[LIVE_BYTES] += n;
  return 0;
}
static void let_go(uint64_t p) {
  auto found = pieces.find(p);
  if (found == pieces.end()) { fprintf(stderr, "emulator: freed what was not allocated\n"); abort(); }
  for (size_t i = 0; i < GUARD; i++)
    if (found->second.raw[found->second.length + i] != char(0xff)) { fprintf(stderr, "emulator: written past the end of %zu bytes\n", found->second.length); abort(); }
  counters[LIVE_BYTES] -= found->second.length;
  memset(found->second.raw, 0xff, found->second.length); // NaN to whoever is late
  free(found->second.raw);
  pieces.erase(found);
}
static void spoil(uint64_t p, size_t n) {
  auto found = pieces.find(p);
  if (found == pieces.end() || n > found->second.length) { fprintf(stderr, "emulator: a workspace that is not there\n"); abort(); }
  memset((void *)p, 0xff, n);
}
API cuMemFreeAsync(uint64_t p, void *stream) {
  ALONE;
  Stream *s = stream_of(stream);
  if (s->graph) { fprintf(stderr, "emulator: memory freed while a graph is made\n"); abort(); }
  s->waiting.push_back([p] { let_go(p); }), s->pushed++;
  return 0;
}
API cuMemAlloc_v2(uint64_t *p, size_t n) { return cuMemAllocAsync(p, n, nullptr); }
API cuMemFree_v2(uint64_t p) { ALONE; run_all(); let_go(p); return 0; }

static std::map<char *, size_t> pinned;
static bool is_pinned(const void *p) {
  auto next = pinned.upper_bound(static_cast<char *>(const_cast<void *>(p)));
  return next != pinned.begin() && p < std::prev(next)->first + std::prev(next)->second;
}
API cuMemHostAlloc(void **p, size_t n, unsigned) { ALONE; *p = malloc(n); pinned[static_cast<char *>(*p)] = n; return 0; }
API cuMemFreeHost(void *p) { ALONE; run_all(); pinned.erase(static_cast<char *>(p)); free(p); return 0; }
API cuMemcpyHtoDAsync_v2(uint64_t d, const void *h, size_t n, void *stream) {
  ALONE;
  counters[UPLOADS]++;
  if (is_pinned(h)) { push(stream, [=] { memcpy((void *)d, h, n); }); return 0; }
  const std::shared_ptr<std::vector<char>> now(new std::vector<char>(static_cast<const char *>(h), static_cast<const char *>(h) + n));
  push(stream, [=] { memcpy((void *)d, now->data(), n); });
  return 0;
}
API cuMemcpyDtoHAsync_v2(void *h, uint64_t d, size_t n, void *stream) {
  ALONE;
  counters[DOWNLOADS]++;
  push(stream, [=] { memcpy(h, (void *)d, n); });
  if (!is_pinned(h)) run_until(stream_of(stream), stream_of(stream)->pushed);
  return 0;
}
static Status launched(void *stream, Work work) {
  push(stream, [work] { counters[LAUNCHES]++; work(); });
  return 0;
}
API cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, void *stream) { ALONE; return launched(stream, [=] { memmove((void *)d, (void *)s, n); }); }
API cuMemsetD8Async(uint64_t p, unsigned char v, size_t n, void *stream) { ALONE; return launched(stream, [=] { memset((void *)p, v, n); }); }
API cuModuleLoadData(void **m, const void *) { *m = (void *)0x40; return 0; }
API cuModuleLoadDataEx(void **m, const void *, unsigned, void *, void *) { *m = (void *)0x40; return 0; }
API cuModuleUnload(void *) { return 0; }
API cuModuleGetFunction(void **f, void *, const char *name) {
  auto found = kernels.find(name);
  if (found == kernels.end()) { fprintf(stderr, "emulator: no kernel %s\n", name); return NOT_FOUND; }
  *f = &found->second;
  return 0;
}
API cuLaunchKernel(const Kernel *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *stream, void **p, void **) {
  ALONE;
  const Work kernel = f->bind(p);
  return launched(stream, [=] {
    gridDim = {gx, gy, gz}, blockDim = {bx, by, bz};
    for (uint32_t z = 0; z < gz; z++)
      for (uint32_t y = 0; y < gy; y++)
        for (uint32_t x = 0; x < gx; x++) blockIdx = {x, y, z}, run_block(kernel, f->syncs);
  });
}
