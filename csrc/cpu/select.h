// Candidates of a top-k read: scores with their tokens as integers, of which the larger is the better one: a higher
// score, or the same score and a lower token. NaN is above all scores. Compiled once for all instruction sets, as
// select.cpp uses the standard library.
#pragma once

#include <cstdint>
#include <cstring>

// Always inlined: a copy compiled for one instruction set must not serve another.
#define STM_ALWAYS_INLINE inline __attribute__((always_inline))

namespace stm {

constexpr uint64_t kNoCandidate = 0;

STM_ALWAYS_INLINE uint64_t candidate(float score, uint32_t token) {
  score += 0.0f;  // turns -0 into 0
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof(bits));
  const uint32_t order = score != score ? 0xffffffffu : (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(order) << 32 | static_cast<uint32_t>(~token);
}

STM_ALWAYS_INLINE uint32_t token_of(uint64_t candidate) { return ~static_cast<uint32_t>(candidate); }

STM_ALWAYS_INLINE float score_of(uint64_t candidate) {
  const uint32_t order = static_cast<uint32_t>(candidate >> 32);
  const uint32_t bits = (order & 0x80000000u) ? order & 0x7fffffffu : ~order;
  float score;
  std::memcpy(&score, &bits, sizeof(score));
  return order == 0xffffffffu ? __builtin_nanf("") : score;
}

// Moves the `keep` best of `count` candidates to the front, in any order except that the worst of them is last.
void keep_best(uint64_t* candidates, int64_t count, int64_t keep);

// Sorts candidates, best first.
void sort_best(uint64_t* candidates, int64_t count);

}  // namespace stm
