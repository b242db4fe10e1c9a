// Gradients of the read of the best tokens, through the chosen ones only.
//
// A query's gradients are sums over its choices. A token's are sums over the queries that chose it, in their order: the
// caller has sorted the choices by token.
#pragma once

#include "cuda/chosen.h"

namespace stm::cuda {

struct ChosenArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix grad_out;
  // (batches, queries, k), dense, and so are the slopes.
  const int64_t* indices = nullptr;
  const float* weights = nullptr;
  const float* delta = nullptr;
  float* slopes = nullptr;
  int k = 1;
  ObjectMatrix query_grad;
  Vector offset_grad;
  // Of keys.
  Unit channel_unit;
};

// Gradients of the chosen scores. A lane has a query, a warp every eighth choice.
template <class Value>
STM_KERNEL void slopes_kernel(const ChosenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * 32 + simt::lane(), batch = simt::block_z();
  if (query >= sizes.queries) return;
  const ObjectMatrix &of_value = arguments.value, &of_grad = arguments.grad_out;
  const Value* value = static_cast<const Value*>(of_value.data) + batch * of_value.batch_stride;
  const Value* grad = static_cast<const Value*>(of_grad.data) + batch * of_grad.batch_stride;
  const int channels = static_cast<int>(sizes.value_channels), objects = static_cast<int>(sizes.objects);
  const float delta = arguments.delta[batch * sizes.queries + query];
  for (int choice = simt::warp(); choice < arguments.k; choice += kWarps) {
    const int64_t place = (batch * sizes.queries + query) * arguments.k + choice;
    const float weight = arguments.weights[place];
    float sum = 0;
    for (int object = 0; weight != 0 && object < objects; ++object) {
      const Value* its_value =
          value + object * of_value.object_stride + arguments.indices[place] * of_value.column_stride;
      const Value* its_grad = grad + object * of_grad.object_stride + query * of_grad.column_stride;
      STM_UNROLL_BY(4)
      for (int channel = 0; channel < channels; ++channel) {
        sum += simt::widen(*its_value) * simt::widen(*its_grad);
        its_value += of_value.channel_stride;
        its_grad += of_grad.channel_stride;
      }
    }
    arguments.slopes[place] = weight != 0 ? weight * (sum - delta) : 0;
  }
}

// Gradients of queries and offsets.
template <class Key>
STM_KERNEL void chosen_query_kernel(const ChosenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t first_query = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int first_row = simt::block_y() * kSumRows, queries = left_of(sizes.queries, first_query, kSumColumns);
  const int channels = static_cast<int>(sizes.key_channels);
  const Vector gain = arguments.scores.gain.batch(batch), offset_grad = arguments.offset_grad.batch(batch);
  const Matrix& key = arguments.scores.key;
  const ObjectMatrix& out = arguments.query_grad;
  char* const shared = simt::shared_memory();
  float* const sums = reinterpret_cast<float*>(shared);
  const Choices choices(shared + kSumBytes, arguments.k);
  const int64_t chosen = (batch * sizes.queries + first_query) * arguments.k;
  choices.load(arguments.indices + chosen, queries, [&](int64_t place, int64_t token) {
    const float slope = arguments.slopes[chosen + place];
    return gain ? slope * gain[token] : slope;
  });
  if (out) {
    sum_chosen(sums, choices, static_cast<const Key*>(key.data) + batch * key.batch_stride, key.column_stride,
               arguments.channel_unit, {0, key.channel_stride, channels, channels}, first_row, channels);
    store_sums(out, batch * out.batch_stride + first_query * out.column_stride, strides_of(out, channels, channels),
               first_row, channels, queries, sums, arguments.scores.scale);
  }
  if (simt::block_y() != 0 || simt::thread() >= queries || !offset_grad) return;
  float sum = 0;
  for (int choice = 0; choice < arguments.k; ++choice) sum += choices.weights[choice * kSumStride + simt::thread()];
  offset_grad[first_query + simt::thread()] = sum;
}

struct ByTokenArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix grad_out;
  // (batches, queries * k), dense: weights or slopes of the choices; and which choices each token has: of `order`,
  // sorted by token, those from starts[token] to starts[token + 1], (batches, tokens + 1).
  const float* weights = nullptr;
  const float* slopes = nullptr;
  const int64_t* order = nullptr;
  const int64_t* starts = nullptr;
  int k = 1;
  Gradients gradients;

  // Calls `visit(query, weight)` for each choice of a token, in order, with what `of_choices` says of it. All lanes of
  // a warp have the same token.
  template <class Visit>
  STM_DEVICE void visit_choices(int64_t batch, int64_t token, const float* of_choices, Visit visit) const {
    const int64_t choices = sizes.queries * k;
    const int64_t* const bounds = starts + batch * (sizes.tokens + 1) + token;
    for (int64_t at = bounds[0]; at < bounds[1]; at += 32) {
      int query = 0;
      float weight = 0;
      if (at + simt::lane() < bounds[1]) {
        const int64_t choice = order[batch * choices + at + simt::lane()];
        query = static_cast<int>(choice / k);
        weight = of_choices[batch * choices + choice];
      }
      const int there = left_of(bounds[1], at, 32);
      for (int i = 0; i < there; ++i)
        visit(simt::shuffle(query, i), simt::from_bits(simt::shuffle(static_cast<int>(simt::bits(weight)), i)));
    }
  }
};

constexpr int kTokensOfWarp = kSumColumns / kWarps;

// Gradients of values. A warp has a token after another, a lane every 32nd row.
template <class Value>
STM_KERNEL void chosen_value_kernel(const ByTokenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t first_token = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int first_row = simt::block_y() * kSumRows, tokens = left_of(sizes.tokens, first_token, kSumColumns);
  const int channels = static_cast<int>(sizes.value_channels), rows = static_cast<int>(sizes.rows());
  const ObjectMatrix &source = arguments.grad_out, &out = arguments.gradients.value;
  const Value* grad = static_cast<const Value*>(source.data) + batch * source.batch_stride;
  float* const sums = reinterpret_cast<float*>(simt::shared_memory());
  const RowStrides strides = strides_of(source, channels, rows);
  const int row = first_row + simt::lane();
  const int64_t places[2] = {strides.at(row).offset, strides.at(row + 32).offset};
  for (int mine = simt::warp() * kTokensOfWarp; mine < (simt::warp() + 1) * kTokensOfWarp && mine < tokens; ++mine) {
    float sum[2] = {};
    arguments.visit_choices(batch, first_token + mine, arguments.weights, [&](int query, float weight) {
      if (weight == 0) return;
      STM_UNROLL
      for (int i = 0; i < 2; ++i)
        if (row + i * 32 < rows) sum[i] += weight * simt::widen(grad[places[i] + query * source.column_stride]);
    });
    STM_UNROLL
    for (int i = 0; i < 2; ++i) sums[(simt::lane() + i * 32) * kSumStride + mine] = sum[i];
  }
  simt::sync_block();
  store_sums(out, batch * out.batch_stride + first_token * out.column_stride, strides_of(out, channels, rows),
             first_row, rows, tokens, sums);
}

// Gradients of keys, gains and biases. A warp has a token after another, a lane every 32nd channel.
template <class Key>
STM_KERNEL void chosen_key_kernel(const ByTokenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t first_token = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int tokens = left_of(sizes.tokens, first_token, kSumColumns), channels = static_cast<int>(sizes.key_channels);
  const Scores& scores = arguments.scores;
  const Vector gain = scores.gain.batch(batch), offset = scores.offset.batch(batch);
  const Vector gain_grad = arguments.gradients.gain.batch(batch), bias_grad = arguments.gradients.bias.batch(batch);
  const Key* query_data = static_cast<const Key*>(scores.query.data) + batch * scores.query.batch_stride;
  const Key* key_data = static_cast<const Key*>(scores.key.data) + batch * scores.key.batch_stride;
  const Matrix& matrix = arguments.gradients.key;
  const ObjectMatrix out{matrix.data, matrix.dtype, 0, 0, matrix.channel_stride, matrix.column_stride};
  float* const sums = reinterpret_cast<float*>(simt::shared_memory());
  const int first_mine = simt::warp() * kTokensOfWarp;
  float along_key[kTokensOfWarp] = {};
  for (int first_row = 0; first_row < channels; first_row += kSumRows) {
    if (first_row > 0) simt::sync_block();
    STM_UNROLL
    for (int mine = 0; mine < kTokensOfWarp; ++mine) {
      if (first_mine + mine >= tokens) continue;
      const int64_t token = first_token + first_mine + mine;
      const int row = first_row + simt::lane();
      const Key* from = query_data + row * scores.query.channel_stride;
      float sum[2] = {};
      arguments.visit_choices(batch, token, arguments.slopes, [&](int query, float slope) {
        STM_UNROLL
        for (int i = 0; i < 2; ++i)
          if (row + i * 32 < channels)
            sum[i] +=
                slope * simt::widen(from[i * 32 * scores.query.channel_stride + query * scores.query.column_stride]);
      });
      STM_UNROLL
      for (int i = 0; i < 2; ++i) {
        if (row + i * 32 >= channels) continue;
        sum[i] *= scores.scale;
        along_key[mine] +=
            sum[i] *
            simt::widen(key_data[(row + i * 32) * scores.key.channel_stride + token * scores.key.column_stride]);
        sums[(simt::lane() + i * 32) * kSumStride + first_mine + mine] = gain ? sum[i] * gain[token] : sum[i];
      }
    }
    simt::sync_block();
    if (matrix)
      store_sums(out, batch * matrix.batch_stride + first_token * matrix.column_stride,
                 {0, matrix.channel_stride, channels, channels}, first_row, channels, tokens, sums);
  }
  STM_UNROLL
  for (int mine = 0; mine < kTokensOfWarp; ++mine) {
    if (first_mine + mine >= tokens) continue;
    const int64_t token = first_token + first_mine + mine;
    STM_UNROLL
    for (int mask = 16; mask >= 1; mask /= 2) along_key[mine] += simt::shuffle_xor(along_key[mine], mask);
    float slopes = 0, along_offset = 0;
    arguments.visit_choices(batch, token, arguments.slopes, [&](int query, float slope) {
      slopes += slope;
      if (offset) along_offset += slope * offset[query];
    });
    if (simt::lane() != 0) continue;
    if (bias_grad) bias_grad[token] = slopes;
    if (gain_grad) gain_grad[token] = along_key[mine] + along_offset;
  }
}

}  // namespace stm::cuda
