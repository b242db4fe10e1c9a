// A check for numbers that weights of zero do not turn into zeros.
#pragma once

#include "cpu/simd.h"

namespace stm {
inline namespace STM_ISA {

// Whether packed numbers, float32 or bfloat16, are all finite: checked when first asked for, and then remembered.
class FiniteCheck {
 public:
  void invalidate() { known_ = false; }

  template <class Bits>
  bool all_finite(const void* numbers, int64_t count) {
    if (!known_) {
      constexpr Bits kExponent = static_cast<Bits>(0x7f800000u >> (32 - 8 * sizeof(Bits)));
      bool infinite = false;
      for (int64_t i = 0; i < count; ++i) {
        Bits bits;
        std::memcpy(&bits, static_cast<const Bits*>(numbers) + i, sizeof(bits));
        infinite |= (bits & kExponent) == kExponent;
      }
      finite_ = !infinite;
      known_ = true;
    }
    return finite_;
  }

 private:
  bool known_ = false, finite_ = false;
};

}  // namespace STM_ISA
}  // namespace stm
