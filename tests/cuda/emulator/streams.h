// SPDX-License-Identifier: MIT OR Apache-2.0
// Work that waits for its turn, and what is counted of it.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// ---- Counters

// LAUNCHES are of kernels and copies, those of graphs too; SUBMISSIONS are calls that hand work to a stream.
enum { LAUNCHES, ALLOCATIONS, UPLOADS, DOWNLOADS, SYNCS, HEURISTICS, LIVE_BYTES, SUBMISSIONS, GRAPHS, COUNTERS };
static uint64_t counters[COUNTERS];
extern "C" uint64_t emulator_counter(uint32_t which) { return which < COUNTERS ? counters[which] : 0; }

static long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}

// ---- Streams

typedef std::function<void()> Work;
struct Stream { std::deque<Work> waiting; uint64_t pushed = 0, done = 0; std::vector<Work> *graph = nullptr; };
struct Event { Stream *stream = nullptr; uint64_t at = 0; };
static std::recursive_mutex everything;
#define ALONE std::lock_guard<std::recursive_mutex> alone(everything)
static std::set<Stream *> streams;
static Stream *stream_of(void *s) {
  static Stream *const usual = *streams.insert(new Stream()).first;
  return s ? static_cast<Stream *>(s) : usual;
}
static void run_until(Stream *s, uint64_t at) {
  while (s->done < at && !s->waiting.empty()) {
    const Work work = std::move(s->waiting.front());
    s->waiting.pop_front();
    work();
    s->done++;
  }
}
static void run_all() { for (Stream *s : std::set<Stream *>(streams)) run_until(s, s->pushed); }
static uint32_t chance; // 0: always late
extern "C" void emulator_seed(uint32_t seed) { chance = seed; }
static void push(void *stream, Work work) {
  Stream *s = stream_of(stream);
  if (s->graph) { s->graph->push_back(std::move(work)); return; }
  counters[SUBMISSIONS]++;
  s->waiting.push_back(std::move(work)), s->pushed++;
  if (chance) chance = chance * 1664525u + 1013904223u | 1u;
  if (chance >> 31) run_until(s, s->pushed);
}
