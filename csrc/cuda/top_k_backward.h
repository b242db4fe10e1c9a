// Gradients of the read of the best tokens, through the chosen ones only.
//
// A query's gradients are sums over its choices. A token's are sums over the queries that chose it, in their order: the
// caller has sorted the choices by token.
#pragma once

#include "cuda/scores.h"
#include "cuda/tile.h"

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
};

// Gradients of the chosen scores. A lane has a query, a warp every eighth choice.
template <class Value>
STM_KERNEL void slopes_kernel(const ChosenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * 32 + simt::lane(), batch = simt::block_z();
  if (query >= sizes.queries) return;
  const int channels = static_cast<int>(sizes.value_channels), rows = static_cast<int>(sizes.rows());
  const Value* value = static_cast<const Value*>(arguments.value.data) + batch * arguments.value.batch_stride;
  const Value* grad = static_cast<const Value*>(arguments.grad_out.data) + batch * arguments.grad_out.batch_stride;
  const float delta = arguments.delta[batch * sizes.queries + query];
  for (int choice = simt::warp(); choice < arguments.k; choice += kWarps) {
    const int64_t place = (batch * sizes.queries + query) * arguments.k + choice;
    const float weight = arguments.weights[place];
    float sum = 0;
    for (int row = 0; weight != 0 && row < rows; ++row)
      sum += simt::widen(value[place_of(arguments.value, channels, row, arguments.indices[place])]) *
             simt::widen(grad[place_of(arguments.grad_out, channels, row, query)]);
    arguments.slopes[place] = weight != 0 ? weight * (sum - delta) : 0;
  }
}

// Gradients of queries and offsets. A lane has a query, a warp every eighth channel.
template <class Key>
STM_KERNEL void chosen_query_kernel(const ChosenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * 32 + simt::lane(), batch = simt::block_z();
  if (query >= sizes.queries) return;
  const Vector gain = arguments.scores.gain.batch(batch), offset_grad = arguments.offset_grad.batch(batch);
  const Matrix& matrix = arguments.scores.key;
  const Key* key = static_cast<const Key*>(matrix.data) + batch * matrix.batch_stride;
  const int64_t first = (batch * sizes.queries + query) * arguments.k;
  const auto slope_of = [&](int choice) {
    const float slope = arguments.slopes[first + choice];
    return gain ? slope * gain[arguments.indices[first + choice]] : slope;
  };
  for (int channel = simt::warp(); arguments.query_grad && channel < sizes.key_channels; channel += kWarps) {
    float sum = 0;
    for (int choice = 0; choice < arguments.k; ++choice) {
      const float slope = slope_of(choice);
      if (slope == 0) continue;
      const int64_t token = arguments.indices[first + choice];
      sum += slope * simt::widen(key[channel * matrix.channel_stride + token * matrix.column_stride]);
    }
    const ObjectMatrix& out = arguments.query_grad;
    store(out, batch * out.batch_stride + channel * out.channel_stride + query * out.column_stride,
          sum * arguments.scores.scale);
  }
  if (simt::warp() != 0 || !offset_grad) return;
  float sum = 0;
  for (int choice = 0; choice < arguments.k; ++choice) sum += slope_of(choice);
  offset_grad[query] = sum;
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
};

// Gradients of values: a warp has a token, a lane every 32nd row.
template <class Value>
STM_KERNEL void chosen_value_kernel(const ByTokenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t token = static_cast<int64_t>(simt::block_x()) * kWarps + simt::warp(), batch = simt::block_z();
  if (token >= sizes.tokens) return;
  const int64_t choices = sizes.queries * arguments.k, *starts = arguments.starts + batch * (sizes.tokens + 1) + token;
  const int channels = static_cast<int>(sizes.value_channels), rows = static_cast<int>(sizes.rows());
  const ObjectMatrix &source = arguments.grad_out, &out = arguments.gradients.value;
  const Value* grad = static_cast<const Value*>(source.data) + batch * source.batch_stride;
  for (int row = simt::lane(); row < rows; row += 32) {
    float sum = 0;
    for (int64_t at = starts[0]; at < starts[1]; ++at) {
      const int64_t choice = arguments.order[batch * choices + at];
      const float weight = arguments.weights[batch * choices + choice];
      if (weight != 0) sum += weight * simt::widen(grad[place_of(source, channels, row, choice / arguments.k)]);
    }
    store(out, batch * out.batch_stride + place_of(out, channels, row, token), sum);
  }
}

// Gradients of keys, gains and biases: a warp has a token, a lane every 32nd channel.
template <class Key>
STM_KERNEL void chosen_key_kernel(const ByTokenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t token = static_cast<int64_t>(simt::block_x()) * kWarps + simt::warp(), batch = simt::block_z();
  if (token >= sizes.tokens) return;
  const int64_t choices = sizes.queries * arguments.k, *starts = arguments.starts + batch * (sizes.tokens + 1) + token;
  const Scores& scores = arguments.scores;
  const Vector gain = scores.gain.batch(batch), offset = scores.offset.batch(batch);
  const Vector gain_grad = arguments.gradients.gain.batch(batch), bias_grad = arguments.gradients.bias.batch(batch);
  const Key* query = static_cast<const Key*>(scores.query.data) + batch * scores.query.batch_stride;
  const Key* key = static_cast<const Key*>(scores.key.data) + batch * scores.key.batch_stride;
  const Matrix& matrix = arguments.gradients.key;
  const ObjectMatrix out{matrix.data, matrix.dtype, 0, 0, 0, 0};
  float along_key = 0;
  for (int channel = simt::lane(); channel < sizes.key_channels; channel += 32) {
    float sum = 0;
    for (int64_t at = starts[0]; at < starts[1]; ++at) {
      const int64_t choice = arguments.order[batch * choices + at], q = choice / arguments.k;
      const float slope = arguments.slopes[batch * choices + choice];
      sum += slope * simt::widen(query[channel * scores.query.channel_stride + q * scores.query.column_stride]);
    }
    sum *= scores.scale;
    along_key += sum * simt::widen(key[channel * scores.key.channel_stride + token * scores.key.column_stride]);
    if (matrix)
      store(out, batch * matrix.batch_stride + channel * matrix.channel_stride + token * matrix.column_stride,
            gain ? sum * gain[token] : sum);
  }
  STM_UNROLL
  for (int mask = 16; mask >= 1; mask /= 2) along_key += simt::shuffle_xor(along_key, mask);
  if (simt::lane() != 0) return;
  float slopes = 0, along_offset = 0;
  for (int64_t at = starts[0]; at < starts[1]; ++at) {
    const int64_t choice = arguments.order[batch * choices + at];
    const float slope = arguments.slopes[batch * choices + choice];
    slopes += slope;
    if (offset) along_offset += slope * offset[choice / arguments.k];
  }
  if (bias_grad) bias_grad[token] = slopes;
  if (gain_grad) gain_grad[token] = along_key + along_offset;
}

}  // namespace stm::cuda
