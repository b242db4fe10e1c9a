// Memory that is wanted next.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// Brought near a few lines at a time, by a product that leaves the memory idle.
class Ahead {
 public:
  Ahead() = default;
  template <class T>
  Ahead(const T* data, int64_t count)
      : next_(reinterpret_cast<const char*>(data)), end_(reinterpret_cast<const char*>(data + count)) {}

  STM_INLINE void fetch() {
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
