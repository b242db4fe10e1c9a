// Prefetching of memory that is read next.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// A range that is brought into the second-level cache a few lines at a time, beside a product that leaves memory idle.
class Prefetch {
 public:
  Prefetch() = default;
  template <class T>
  Prefetch(const T* data, int64_t count)
      : next_(reinterpret_cast<const char*>(data)), end_(reinterpret_cast<const char*>(data + count)) {}

  STM_INLINE void advance() {
    if (next_ >= end_) return;
#pragma GCC unroll 8
    for (int line = 0; line < kLines; ++line) __builtin_prefetch(next_ + line * kLineBytes, 0, 2);
    next_ += kLines * kLineBytes;
  }

 private:
  static constexpr int kLines = 8, kLineBytes = 64;
  const char* next_ = nullptr;
  const char* end_ = nullptr;
};

}  // namespace STM_ISA
}  // namespace stm
