// Multiplies and adds in registers alone. Compiled by cpu_peaks.py.
#include "cpu/block.h"
#include "cpu/multiply_bf16.h"

namespace stm {
inline namespace STM_ISA {

namespace {

// Runs `rounds` rounds on independent float32 sums, a whole block of them. Returns the floating-point operations done.
double multiply_add_float32(int64_t rounds, float& sink) {
  Block sum;
  // Different numbers that the compiler cannot know: it would compute equal sums once.
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = rounded(broadcast(static_cast<float>(kVectors * r + v)));
  }
  const Floats x = rounded(broadcast(0.999f)), y = rounded(broadcast(1e-3f));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] * x + y;
    }
  }
  for (int r = 0; r < kRows; ++r) sink += sum[r][0][0] + sum[r][1][0] + sum[r][2][0];
  return 2.0 * kRows * kWidth * static_cast<double>(rounds);
}

#if defined(__AVX512BF16__)
// The same for dot products of bfloat16 pairs in vectors.
double multiply_add_bf16(int64_t rounds, float& sink) {
  __m512 sum[kRows * kVectors];
  for (int r = 0; r < kRows * kVectors; ++r) {
    sum[r] = reinterpret_cast<__m512>(rounded(broadcast(static_cast<float>(r))));
  }
  const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3c00));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int r = 0; r < kRows * kVectors; ++r) sum[r] = _mm512_dpbf16_ps(sum[r], x, x);
  }
  for (int r = 0; r < kRows * kVectors; ++r) sink += sum[r][0];
  return 4.0 * kRows * kWidth * static_cast<double>(rounds);
}
#endif

#if defined(__AMX_BF16__)
// The same for bfloat16 tiles.
double multiply_add_amx(int64_t rounds, float& sink) {
  const TileConfig unit;
  alignas(64) uint16_t zeros[kRowTileSize] = {};
  __asm__ volatile("" : : "r"(zeros) : "memory");
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  zero_sums();
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  alignas(64) float sums[kBf16TileRows * kLanes];
  _tile_stored(0, sums, 64);
  sink += sums[0];
  return 6.0 * 2 * kBf16TileRows * kLanes * kBf16TileSteps * static_cast<double>(rounds);
}
#endif

double multiply_add(int unit, int64_t rounds, float& sink) {
  switch (unit) {
    case 0:
      return multiply_add_float32(rounds, sink);
#if defined(__AVX512BF16__)
    case 1:
      return multiply_add_bf16(rounds, sink);
#endif
#if defined(__AMX_BF16__)
    case 2:
      return multiply_add_amx(rounds, sink);
#endif
    default:
      return 0;
  }
}

}  // namespace

}  // namespace STM_ISA
}  // namespace stm

// Floating-point operations that the calling thread has done on a unit of `UNITS` in cpu_peaks.py; zero where this
// instruction set has no such unit.
extern "C" __attribute__((visibility("default"))) double multiply_add(int unit, int64_t rounds) {
  float sink = 0;
  const double operations = stm::multiply_add(unit, rounds, sink);
  __asm__ volatile("" : : "m"(sink));
  return operations;
}
