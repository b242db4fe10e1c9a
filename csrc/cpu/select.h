// Scores with their tokens as whole numbers whose order is "better": a higher score, or the same and a lower token. NaN
// is above all. Written once for all instruction sets: the standard library's algorithms are used on the other side.
#pragma once

#include <cstdint>
#include <cstring>

// Inlined always: a copy that one instruction set compiled must not serve another.
#define STM_EVERYWHERE inline __attribute__((always_inline))

namespace stm {

constexpr uint64_t kNoCandidate = 0;

STM_EVERYWHERE uint64_t candidate(float score, uint32_t token) {
  score += 0.0f;  // -0 is 0
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof(bits));
  const uint32_t order = score != score ? 0xffffffffu : (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(order) << 32 | static_cast<uint32_t>(~token);
}

STM_EVERYWHERE uint32_t token_of(uint64_t candidate) { return ~static_cast<uint32_t>(candidate); }

STM_EVERYWHERE float score_of(uint64_t candidate) {
  const uint32_t order = static_cast<uint32_t>(candidate >> 32);
  const uint32_t bits = (order & 0x80000000u) ? order & 0x7fffffffu : ~order;
  float score;
  std::memcpy(&score, &bits, sizeof(score));
  return order == 0xffffffffu ? __builtin_nanf("") : score;
}

// Moves the `keep` best of `count` candidates to the front, in any order but the worst of them last.
void keep_best(uint64_t* candidates, int64_t count, int64_t keep);

// Sorts candidates, the best first.
void sort_best(uint64_t* candidates, int64_t count);

}  // namespace stm
