// Vectors of float32 in the compiler's vector types: one source for every instruction set.
//
// Everything that depends on the instruction set is in an inline namespace named after it, so that the linker never
// takes a function compiled for one for that of another. For the same reason these files use no templates of the
// standard library.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef STM_ISA
#error "STM_ISA names the instruction set that this file is compiled for"
#endif

#include "stm_fast/read.h"

#define STM_INLINE inline __attribute__((always_inline))

namespace stm {
inline namespace STM_ISA {

// Products are computed in blocks of kRows rows by one panel of kWidth columns, whose sums stay in registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRows = 8;  // 24 of 32 registers accumulate
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kRows = 4;  // 12 of 16
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kRows = 8;  // 24 of 32
#else
constexpr int kLanes = 4;
constexpr int kRows = 4;  // 12 of 16
#endif
constexpr int kVectors = 3;
constexpr int kWidth = kVectors * kLanes;

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef float UnalignedFloats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

template <class T>
constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}

template <class T>
constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

template <class T>
STM_INLINE void zero(T* x, int64_t count) {
  std::memset(x, 0, static_cast<std::size_t>(count) * sizeof(T));
}

STM_INLINE Floats load(const float* x) { return *reinterpret_cast<const UnalignedFloats*>(x); }

STM_INLINE void store(float* x, Floats value) { *reinterpret_cast<UnalignedFloats*>(x) = value; }

STM_INLINE Floats broadcast(float x) {
#if defined(__AVX512F__)
  return Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#elif defined(__AVX2__)
  return Floats{x, x, x, x, x, x, x, x};
#else
  return Floats{x, x, x, x};
#endif
}

STM_INLINE Floats select(Ints condition, Floats yes, Floats no) { return condition ? yes : no; }

// NaN if either number is.
STM_INLINE Floats maximum(Floats a, Floats b) { return select((a > b) | (a != a), a, b); }

// Returns a bit for each lane: whether the condition holds there.
STM_INLINE uint32_t bits(Ints condition) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(condition));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(condition)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(condition)));
#else
  uint32_t joined = 0;
  for (int i = 0; i < kLanes; ++i) joined |= static_cast<uint32_t>(condition[i] & 1) << i;
  return joined;
#endif
}

STM_INLINE bool any(Ints condition) { return bits(condition) != 0; }

STM_INLINE float sum(Floats x) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += x[i];
  return total;
}

// Prevents the compiler from fusing a product with the sum that follows.
STM_INLINE Floats rounded(Floats x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x));
#elif defined(__x86_64__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLowest = -3.402823466e38f;
// Softmax weights below 1e-20 count as zero: they change no sum in float32, and they would be or lead to subnormal
// numbers, with which a CPU computes tens of times slower.
constexpr float kNegligibleExponent = -46.0f;

// Computes exp(x) for x up to about 80: exactly zero below kNegligibleExponent, NaN for NaN. The result is 2^n times a
// polynomial for 2^f, |f| <= 1/2, fitted to a relative error of 2e-9. The product x * log2(e) is rounded once, which
// adds a relative error of up to |x| * 2^-24: it grows where the weight itself is small.
STM_INLINE Floats exponential(Floats x) {
  const Ints negligible = x < broadcast(kNegligibleExponent);
  x = select(negligible, broadcast(kNegligibleExponent), x) * broadcast(kLog2E);
  // Adding and subtracting 1.5 * 2^23 rounds to an integer, which is in the low bits of the sum.
  const Floats rounder = broadcast(12582912.0f);
  const Floats shifted = x + rounder;
  const Floats f = x - (shifted - rounder);
  Floats p = broadcast(0x1.41fbbcp-13f);
  p = p * f + broadcast(0x1.5f3e54p-10f);
  p = p * f + broadcast(0x1.3b2d4cp-7f);
  p = p * f + broadcast(0x1.c6aee8p-5f);
  p = p * f + broadcast(0x1.ebfbdcp-3f);
  p = p * f + broadcast(0x1.62e430p-1f);
  p = p * f + broadcast(1.0f);
  Ints exponent;
  std::memcpy(&exponent, &shifted, sizeof(shifted));
  const Ints bits = (exponent << 23) + 0x3f800000;
  Floats power;
  std::memcpy(&power, &bits, sizeof(bits));
  p *= power;
  // Where x is NaN, so is p, whatever the power is, infinity and zero included.
  return select(negligible, broadcast(0.0f), p);
}

struct BFloat16 {
  uint16_t bits;
};
#if defined(__aarch64__)
typedef __fp16 Half;  // GCC 12 has no _Float16 there
#else
typedef _Float16 Half;
#endif
struct Float16 {
  Half value;
};

STM_INLINE float to_float(float x) { return x; }
STM_INLINE float to_float(Float16 x) { return static_cast<float>(x.value); }
STM_INLINE float to_float(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

STM_INLINE void from_float(float x, float& out) { out = x; }
STM_INLINE void from_float(float x, Float16& out) { out.value = static_cast<Half>(x); }
// Rounds to nearest, ties to even; NaN stays NaN.
STM_INLINE void from_float(float x, BFloat16& out) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  out.bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : rounded >> 16);
}

// Calls `f` with a value of the type of `dtype`.
template <class F>
STM_INLINE void with_type(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kFloat32:
      return f(float{});
    case Dtype::kBFloat16:
      return f(BFloat16{});
    case Dtype::kFloat16:
      return f(Float16{});
  }
}

}  // namespace STM_ISA
}  // namespace stm
