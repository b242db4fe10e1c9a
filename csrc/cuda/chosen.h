// Weighted sums of chosen columns: what the read of the best tokens and its gradients have in common.
//
// A block makes 64 rows of 32 sums. Whichever way numbers lie, neighbouring threads write neighbouring ones; they read
// neighbours where channels lie side by side. Where tokens do, a chosen token's channels are far apart, and each number
// of 16 bits costs 32 bytes, but for what queries beside one another have in common.
#pragma once

#include "cuda/tile.h"

namespace stm::cuda {

constexpr int kSumColumns = 32;
constexpr int kSumStride = kSumColumns + 1;
constexpr int kSumRows = 64;

// Numbers that lie side by side, at a place that is a multiple of their size.
template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Several {
  T numbers[kCount];
};

// The choices of a block's 32 queries in shared memory, the first of all queries, then the second.
struct Choices {
  int* tokens;
  float* weights;
  int k;

  static constexpr std::size_t bytes(int k) {
    return static_cast<std::size_t>(k) * kSumStride * (sizeof(int) + sizeof(float));
  }

  STM_DEVICE Choices(char* memory, int of_each)
      : tokens(reinterpret_cast<int*>(memory)),
        weights(reinterpret_cast<float*>(memory) + of_each * kSumStride),
        k(of_each) {}

  // Loads the choices of `queries` queries from (queries, k), dense; weight 0 stands for all others.
  template <class WeightOf>
  STM_DEVICE void load(const int64_t* indices, int queries, WeightOf weight_of) const {
    for (int query = simt::warp(); query < kSumColumns; query += kWarps) {
      for (int choice = simt::lane(); choice < k; choice += 32) {
        const int64_t place = static_cast<int64_t>(query) * k + choice;
        const int64_t token = query < queries ? indices[place] : 0;
        tokens[choice * kSumStride + query] = static_cast<int>(token);
        weights[choice * kSumStride + query] = query < queries ? weight_of(place, token) : 0;
      }
    }
    simt::sync_block();
  }
};

// Writes `sums` times `scale`, of the rows from `first_row` on; `begin` is where their first column is in row 0.
STM_DEVICE void store_sums(const ObjectMatrix& out, int64_t begin, const RowStrides& strides, int first_row, int rows,
                           int columns, const float* sums, float scale = 1) {
  const bool along_rows = out.channel_stride == 1;
  const int row_step = along_rows ? 32 : kWarps, column_step = along_rows ? kWarps : 32;
  const int first = along_rows ? simt::lane() : simt::warp();
  RowStrides::Place place = strides.at(first_row + first);
  for (int row = first; row < kSumRows && first_row + row < rows; row += row_step) {
    for (int column = along_rows ? simt::warp() : simt::lane(); column < columns; column += column_step)
      store(out, begin + place.offset + column * out.column_stride, scale * sums[row * kSumStride + column]);
    strides.advance(place, row_step);
  }
}

// Columns side by side: a lane has a query, a warp eight rows, whose numbers are on their way at the same time.
template <class T>
STM_DEVICE void sum_by_query(float* sums, const Choices& choices, const T* data, int64_t column_stride,
                             const RowStrides& strides, int first_row, int rows) {
  constexpr int kMine = kSumRows / kWarps;
  const int first = simt::warp() * kMine;
  RowStrides::Place place = strides.at(first_row + first);
  int64_t places[kMine];
  STM_UNROLL
  for (int64_t& mine : places) {
    mine = place.offset;
    strides.advance(place, 1);
  }
  float sum[kMine] = {};
  const int there = rows - first_row - first;
  for (int choice = 0; choice < choices.k; ++choice) {
    const float weight = choices.weights[choice * kSumStride + simt::lane()];
    if (weight == 0) continue;
    const T* from = data + choices.tokens[choice * kSumStride + simt::lane()] * column_stride;
    STM_UNROLL
    for (int i = 0; i < kMine; ++i)
      if (i < there) sum[i] += weight * simt::widen(from[places[i]]);
  }
  STM_UNROLL
  for (int i = 0; i < kMine; ++i) sums[(first + i) * kSumStride + simt::lane()] = sum[i];
}

// Channels side by side: lanes go along the rows of a query, kCount numbers each at once.
template <int kCount, class T>
STM_DEVICE void sum_by_row(float* sums, const Choices& choices, const T* data, int64_t column_stride,
                           const RowStrides& strides, int first_row, int rows) {
  constexpr int kLanes = kSumRows / kCount < 32 ? kSumRows / kCount : 32;
  constexpr int kGroups = kSumRows / kCount / kLanes;
  constexpr int kQueriesAtOnce = 32 / kLanes;
  constexpr int kMine = kSumColumns / kWarps;
  const int first = simt::lane() % kLanes * kCount;
  int64_t places[kGroups];
  STM_UNROLL
  for (int group = 0; group < kGroups; ++group) places[group] = strides.at(first_row + first + group * 32).offset;
  STM_UNROLL
  for (int mine = 0; mine < kMine; mine += kQueriesAtOnce) {
    const int query = simt::warp() * kMine + mine + simt::lane() / kLanes;
    float sum[kGroups][kCount] = {};
    for (int choice = 0; choice < choices.k; ++choice) {
      const float weight = choices.weights[choice * kSumStride + query];
      if (weight == 0) continue;
      const T* from = data + choices.tokens[choice * kSumStride + query] * column_stride;
      STM_UNROLL
      for (int group = 0; group < kGroups; ++group) {
        if (first_row + first + group * 32 >= rows) continue;
        const auto several = *reinterpret_cast<const Several<T, kCount>*>(from + places[group]);
        STM_UNROLL
        for (int i = 0; i < kCount; ++i) sum[group][i] += weight * simt::widen(several.numbers[i]);
      }
    }
    STM_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      STM_UNROLL
      for (int i = 0; i < kCount; ++i) sums[(first + group * 32 + i) * kSumStride + query] = sum[group][i];
    }
  }
}

// Sums of the columns that 32 queries chose, of the rows from `first_row` on, [row][query]. `channel_unit` says how
// many channels of them lie side by side.
template <class T>
STM_DEVICE void sum_chosen(float* sums, const Choices& choices, const T* data, int64_t column_stride, Unit channel_unit,
                           const RowStrides& strides, int first_row, int rows) {
  if (channel_unit.bytes == 16) {
    sum_by_row<16 / sizeof(T)>(sums, choices, data, column_stride, strides, first_row, rows);
  } else if (strides.channel_stride == 1) {
    sum_by_row<1>(sums, choices, data, column_stride, strides, first_row, rows);
  } else {
    sum_by_query(sums, choices, data, column_stride, strides, first_row, rows);
  }
  simt::sync_block();
}

constexpr std::size_t kSumBytes = sizeof(float) * kSumRows * kSumStride;

constexpr std::size_t chosen_bytes(int k) { return Choices::bytes(k) + kSumBytes; }

}  // namespace stm::cuda
