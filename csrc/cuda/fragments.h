// Operands of matrix products in registers, from tiles in shared memory.
//
// 16-bit numbers are multiplied as they are. A float32 is split into three bfloat16 parts (split bf16), and of the nine
// products of two splits the six are made that a float32 can hold.
#pragma once

#include "stm_fast/simt.h"

namespace stm::cuda {

// 16 x 16 rows x sums (A), or 16 sums x 16 columns as two of 8 (B[2]), of numbers of 16 bits.
template <class T>
struct Fragments {
  struct A {
    uint32_t words[4];
  };
  struct B {
    uint32_t words[2];
  };

  // From tile[row * stride + k].
  STM_DEVICE static A a(const T* tile, int stride) {
    const int matrix = simt::lane() / 8, row = simt::lane() % 8;
    A result;
    simt::load_matrices(result.words, tile + (row + matrix % 2 * 8) * stride + matrix / 2 * 8);
    return result;
  }

  // From tile[k * stride + row].
  STM_DEVICE static A a_transposed(const T* tile, int stride) {
    const int matrix = simt::lane() / 8, k = simt::lane() % 8;
    A result;
    simt::load_matrices_transposed(result.words, tile + (k + matrix / 2 * 8) * stride + matrix % 2 * 8);
    return result;
  }

  // From tile[column * stride + k].
  STM_DEVICE static void b(B (&result)[2], const T* tile, int stride) {
    const int matrix = simt::lane() / 8, column = simt::lane() % 8;
    uint32_t words[4];
    simt::load_matrices(words, tile + (column + matrix / 2 * 8) * stride + matrix % 2 * 8);
    result[0] = {words[0], words[1]};
    result[1] = {words[2], words[3]};
  }

  // From tile[k * stride + column].
  STM_DEVICE static void b_transposed(B (&result)[2], const T* tile, int stride) {
    const int matrix = simt::lane() / 8, k = simt::lane() % 8;
    uint32_t words[4];
    simt::load_matrices_transposed(words, tile + (k + matrix % 2 * 8) * stride + matrix / 2 * 8);
    result[0] = {words[0], words[1]};
    result[1] = {words[2], words[3]};
  }

  STM_DEVICE static void multiply(float (&sum)[4], const A& a, const B& b) { simt::multiply<T>(sum, a.words, b.words); }
};

template <>
struct Fragments<float> {
  static constexpr int kParts = 3;

  struct A {
    uint32_t words[kParts][4];
  };
  struct B {
    uint32_t words[kParts][2];
  };

  STM_DEVICE static A a(const float* tile, int stride) { return gather_a(tile, stride, 1); }
  STM_DEVICE static A a_transposed(const float* tile, int stride) { return gather_a(tile, 1, stride); }
  STM_DEVICE static void b(B (&result)[2], const float* tile, int stride) { gather_b(result, tile, stride, 1); }
  STM_DEVICE static void b_transposed(B (&result)[2], const float* tile, int stride) {
    gather_b(result, tile, 1, stride);
  }

  STM_DEVICE static void multiply(float (&sum)[4], const A& a, const B& b) {
    // Small ones first. Tensor cores truncate what they add to a sum, so the sum itself is rounded outside of them.
    float products[4] = {};
    STM_UNROLL
    for (int order = kParts - 1; order >= 0; --order) {
      STM_UNROLL
      for (int part = 0; part <= order; ++part)
        simt::multiply<BFloat16>(products, a.words[part], b.words[order - part]);
    }
    STM_UNROLL
    for (int i = 0; i < 4; ++i) sum[i] += products[i];
  }

 private:
  // Takes the upper halves off two numbers and returns them. An infinite number leaves 0.
  STM_DEVICE static uint32_t take_upper_halves(float& first, float& second) {
    const uint32_t low = simt::bits(first) & 0xffff0000u, high = simt::bits(second) & 0xffff0000u;
    first = simt::is_finite(first) ? first - simt::from_bits(low) : 0.0f;
    second = simt::is_finite(second) ? second - simt::from_bits(high) : 0.0f;
    return low >> 16 | high;
  }

  template <int kWords>
  STM_DEVICE static void split(uint32_t (&words)[kParts][kWords], int word, float first, float second) {
    STM_UNROLL
    for (int part = 0; part < kParts; ++part) words[part][word] = take_upper_halves(first, second);
  }

  STM_DEVICE static A gather_a(const float* tile, int row_stride, int k_stride) {
    const float* at = tile + simt::lane() / 4 * row_stride + simt::lane() % 4 * 2 * k_stride;
    A result;
    STM_UNROLL
    for (int word = 0; word < 4; ++word) {
      const float* pair = at + word % 2 * 8 * row_stride + word / 2 * 8 * k_stride;
      split(result.words, word, pair[0], pair[k_stride]);
    }
    return result;
  }

  STM_DEVICE static void gather_b(B (&result)[2], const float* tile, int column_stride, int k_stride) {
    const float* at = tile + simt::lane() / 4 * column_stride + simt::lane() % 4 * 2 * k_stride;
    STM_UNROLL
    for (int half = 0; half < 2; ++half) {
      STM_UNROLL
      for (int word = 0; word < 2; ++word) {
        const float* pair = at + half * 8 * column_stride + word * 8 * k_stride;
        split(result[half].words, word, pair[0], pair[k_stride]);
      }
    }
  }
};

}  // namespace stm::cuda
