// The instructions of simt.h emulated on a CPU, to test kernels without a GPU. The lanes of a warp wait for one another
// at each warp instruction, and copies happen as late as is allowed.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <vector>

#include "stm_fast/simt.h"
#include "stm_fast/simt_team.h"

namespace stm::simt {

constexpr int kWarp = 32;

// What the lanes of a warp exchange. Slots alternate, so that one barrier per instruction is enough: before a lane
// writes a slot again, every lane has read it.
struct Warp {
  struct Exchanged {
    uint32_t words[6];
    const void* row;
  };
  Gate gate{kWarp};
  Exchanged exchanged[2][kWarp];
};

struct Block {
  Block(int threads, std::size_t shared_bytes)
      : gate(threads), warps(threads / kWarp), shared(new (std::align_val_t(128)) char[shared_bytes]) {
    std::memset(shared.get(), 0xff, shared_bytes);
  }

  struct Free {
    void operator()(char* memory) const { ::operator delete[](memory, std::align_val_t(128)); }
  };

  Gate gate;
  std::atomic<bool> votes[3] = {};
  std::vector<Warp> warps;
  std::unique_ptr<char[], Free> shared;
};

struct Copy {
  void* to;
  const void* from;
  int bytes;
  int valid;
};

// A barrier, identified by its line and its kernel's instantiation.
struct Barrier {
  unsigned line = 0;
  std::string kernel;

  bool operator==(const std::source_location& place) const {
    return line == place.line() && kernel == place.function_name();
  }
};

// For tests of the emulation: a barrier that every thread skips, and a list of those that are reached.
inline Barrier omitted_barrier;
inline std::vector<std::source_location>* met_barriers = nullptr;
// The wait for copies that every thread skips, counted from 1.
inline int omitted_wait = 0;
// If true, copies happen when they are issued, not when they are waited for: a GPU may do either.
inline bool eager_copies = false;

// A thread of the running block.
struct Thread {
  Block* block = nullptr;
  int index = 0;
  int position[3] = {};
  int parity = 0;
  int vote = 0;
  int waits = 0;
  std::vector<std::vector<Copy>> groups{1};

  Warp& warp() const { return block->warps[static_cast<std::size_t>(index / kWarp)]; }
};

inline thread_local Thread* self = nullptr;

// Other threads run meanwhile and set `self` to themselves.
inline void wait_at(Gate& gate) {
  Thread* const waiting = self;
  gate.arrive_and_wait();
  self = waiting;
}

STM_DEVICE int thread() { return self->index; }
STM_DEVICE int warp() { return self->index / kWarp; }
STM_DEVICE int lane() { return self->index % kWarp; }
STM_DEVICE int block_x() { return self->position[0]; }
STM_DEVICE int block_y() { return self->position[1]; }
STM_DEVICE int block_z() { return self->position[2]; }
STM_DEVICE uint32_t opaque(uint32_t number) { return number; }
STM_DEVICE char* shared_memory() { return self->block->shared.get(); }
STM_DEVICE void sync_block(std::source_location place = std::source_location::current()) {
  if (met_barriers && self->index == 0) met_barriers->push_back(place);
  if (omitted_barrier != place) wait_at(self->block->gate);
}

STM_DEVICE bool sync_block_or(bool flag, std::source_location place = std::source_location::current()) {
  // The slot of the next vote is cleared during this one: by then every thread that used it has passed another barrier.
  std::atomic<bool>* votes = self->block->votes;
  const int vote = self->vote;
  self->vote = (vote + 1) % 3;
  if (self->index == 0) votes[self->vote] = false;
  if (flag) votes[vote] = true;
  sync_block(place);
  return votes[vote];
}

// Passes `own` to the other lanes of the warp, and returns what each lane passed.
inline const Warp::Exchanged* exchange(const Warp::Exchanged& own) {
  Warp& warp = self->warp();
  Warp::Exchanged* lanes = warp.exchanged[self->parity];
  self->parity = 1 - self->parity;
  lanes[lane()] = own;
  wait_at(warp.gate);
  return lanes;
}

STM_DEVICE float shuffle_xor(float value, int mask) {
  const Warp::Exchanged* lanes = exchange({{std::bit_cast<uint32_t>(value)}, nullptr});
  return std::bit_cast<float>(lanes[lane() ^ mask].words[0]);
}

STM_DEVICE int shuffle(int word, int source) {
  const Warp::Exchanged* lanes = exchange({{static_cast<uint32_t>(word)}, nullptr});
  return static_cast<int>(lanes[source].words[0]);
}

STM_DEVICE uint32_t ballot(bool flag) {
  const Warp::Exchanged* lanes = exchange({{flag}, nullptr});
  uint32_t result = 0;
  for (int other = 0; other < kWarp; ++other) result |= lanes[other].words[0] << other;
  return result;
}

STM_DEVICE int popcount(uint32_t word) { return std::popcount(word); }
STM_DEVICE int first_set(uint32_t word) { return std::countr_zero(word); }

inline void perform(const Copy& copy) {
  std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.valid));
  std::memset(static_cast<char*>(copy.to) + copy.valid, 0, static_cast<std::size_t>(copy.bytes - copy.valid));
}

template <int Bytes>
STM_DEVICE void copy_async(void* to, const void* from, int valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  const bool aligned =
      reinterpret_cast<uintptr_t>(to) % Bytes == 0 && (valid == 0 || reinterpret_cast<uintptr_t>(from) % Bytes == 0);
  if (!aligned || valid < 0 || valid > Bytes) std::abort();
  const Copy copy{to, from, Bytes, valid};
  if (eager_copies) return perform(copy);
  self->groups.back().push_back(copy);
}

template <int Bytes>
STM_DEVICE void copy_async(void* to, const void* from) {
  copy_async<Bytes>(to, from, Bytes);
}

STM_DEVICE void commit_copies() { self->groups.emplace_back(); }

template <int Pending>
STM_DEVICE void wait_copies() {
  if (++self->waits == omitted_wait) return;
  // The last group is still open; no wait completes it.
  while (self->groups.size() > Pending + 1) {
    for (const Copy& copy : self->groups.front()) perform(copy);
    self->groups.erase(self->groups.begin());
  }
}

inline uint32_t pair(const uint16_t* first, const uint16_t* second) {
  return static_cast<uint32_t>(*first) | static_cast<uint32_t>(*second) << 16;
}

STM_DEVICE void load_matrices(uint32_t (&out)[4], const void* row) {
  const Warp::Exchanged* lanes = exchange({{}, row});
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto* numbers = static_cast<const uint16_t*>(lanes[8 * matrix + lane() / 4].row) + 2 * (lane() % 4);
    out[matrix] = pair(numbers, numbers + 1);
  }
}

STM_DEVICE void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  const Warp::Exchanged* lanes = exchange({{}, row});
  for (int matrix = 0; matrix < 4; ++matrix) {
    const Warp::Exchanged* rows = lanes + 8 * matrix + 2 * (lane() % 4);
    out[matrix] = pair(static_cast<const uint16_t*>(rows[0].row) + lane() / 4,
                       static_cast<const uint16_t*>(rows[1].row) + lane() / 4);
  }
}

STM_DEVICE float widen(float x) { return x; }
STM_DEVICE float widen(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
STM_DEVICE float widen(Float16 x) { return static_cast<float>(std::bit_cast<_Float16>(x.bits)); }

template <class T>
STM_DEVICE T narrow(float x);
template <>
STM_DEVICE float narrow<float>(float x) {
  return x;
}
template <>
STM_DEVICE BFloat16 narrow<BFloat16>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (x != x) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
STM_DEVICE Float16 narrow<Float16>(float x) {
  return {std::bit_cast<uint16_t>(static_cast<_Float16>(x))};
}

template <class T>
STM_DEVICE uint32_t pack(float first, float second) {
  return static_cast<uint32_t>(narrow<T>(first).bits) | static_cast<uint32_t>(narrow<T>(second).bits) << 16;
}

// Rounds towards zero, as tensor cores do.
inline float truncate(double x) {
  const float rounded = static_cast<float>(x);
  return std::fabs(rounded) > std::fabs(x) ? std::nextafter(rounded, 0.0f) : rounded;
}

template <class T>
STM_DEVICE void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Warp::Exchanged* lanes = exchange({{a[0], a[1], a[2], a[3], b[0], b[1]}, nullptr});
  const auto number = [](uint32_t word, int half) {
    return widen(T{static_cast<uint16_t>(half ? word >> 16 : word & 0xffff)});
  };
  for (int i = 0; i < 4; ++i) {
    const int row = lane() / 4, column = 2 * (lane() % 4) + i % 2;
    double total = sum[i];
    for (int k = 0; k < 16; ++k) {
      const int other = k % 8 / 2, word = 2 * (k / 8);
      total += static_cast<double>(number(lanes[4 * row + other].words[word + i / 2], k % 2)) *
               static_cast<double>(number(lanes[4 * column + other].words[4 + k / 8], k % 2));
    }
    sum[i] = truncate(total);
  }
}

STM_DEVICE float exp2(float x) { return std::exp2(x); }
STM_DEVICE float log2(float x) { return std::log2(x); }
STM_DEVICE uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
STM_DEVICE float from_bits(uint32_t word) { return std::bit_cast<float>(word); }
STM_DEVICE bool is_finite(float x) { return std::isfinite(x); }

// Runs `kernel()` for every thread of every block, one block after another.
template <class Kernel>
void emulate(const int (&grid)[3], int threads, std::size_t shared_bytes, Kernel kernel) {
  for (int z = 0; z < grid[2]; ++z)
    for (int y = 0; y < grid[1]; ++y)
      for (int x = 0; x < grid[0]; ++x) {
        Block block(threads, shared_bytes);
        run_team(threads, [&](int index) {
          Thread thread;
          thread.block = &block;
          thread.index = index;
          thread.position[0] = x, thread.position[1] = y, thread.position[2] = z;
          self = &thread;
          kernel();
        });
      }
}

template <class Arguments>
const char* unusable(void (*)(Arguments)) {
  return nullptr;
}

template <auto kKernel>
int resident_blocks(int, std::size_t) {
  return 1;
}

template <auto kKernel, class Arguments>
const char* launch(const int (&grid)[3], int threads, std::size_t shared_bytes, void*, const Arguments& arguments) {
  emulate(grid, threads, shared_bytes, [&] { kKernel(arguments); });
  return nullptr;
}

}  // namespace stm::simt
