// Gradients of the read of the best tokens, through the chosen ones only.
//
// A query's gradients are sums over its choices. A token's are sums over the queries that chose it, in the order of the
// queries: the caller has sorted the choices by token.
#pragma once

#include "cuda/chosen.h"

namespace stm::cuda {

struct ChosenArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix grad_out;
  // (batches, queries, k), dense, as the gradients of scores are.
  const int64_t* indices = nullptr;
  const float* weights = nullptr;
  const float* delta = nullptr;
  float* grad_scores = nullptr;
  int k = 1;
  ObjectMatrix grad_query;
  Vector grad_offset;
  // Of keys.
  CopyWidth channel_width;
};

// Computes gradients of the chosen scores. A lane has a query, a warp every eighth choice.
template <class Value>
STM_KERNEL void grad_scores_kernel(const ChosenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t query = static_cast<int64_t>(simt::block_x()) * 32 + simt::lane(), batch = simt::block_z();
  if (query >= sizes.queries) return;
  const ObjectMatrix &of_value = arguments.value, &of_grad = arguments.grad_out;
  const Value* value = static_cast<const Value*>(of_value.data) + batch * of_value.batch_stride;
  const Value* grad = static_cast<const Value*>(of_grad.data) + batch * of_grad.batch_stride;
  const int channels = static_cast<int>(sizes.value_channels), objects = static_cast<int>(sizes.objects);
  const float delta = arguments.delta[batch * sizes.queries + query];
  for (int choice = simt::warp(); choice < arguments.k; choice += kWarps) {
    const int64_t at = (batch * sizes.queries + query) * arguments.k + choice;
    const float weight = arguments.weights[at];
    float sum = 0;
    for (int object = 0; weight != 0 && object < objects; ++object) {
      const Value* value_at = value + object * of_value.object_stride + arguments.indices[at] * of_value.column_stride;
      const Value* grad_at = grad + object * of_grad.object_stride + query * of_grad.column_stride;
      STM_UNROLL_BY(4)
      for (int channel = 0; channel < channels; ++channel) {
        sum += simt::widen(*value_at) * simt::widen(*grad_at);
        value_at += of_value.channel_stride;
        grad_at += of_grad.channel_stride;
      }
    }
    arguments.grad_scores[at] = weight != 0 ? weight * (sum - delta) : 0;
  }
}

// Computes gradients of queries and offsets.
template <class Key>
STM_KERNEL void chosen_query_kernel(const ChosenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t first_query = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int first_channel = simt::block_y() * kSumChannels,
            queries = remaining(sizes.queries, first_query, kSumColumns);
  const int channels = static_cast<int>(sizes.key_channels);
  const Vector gain = arguments.scores.gain.batch(batch), grad_offset = arguments.grad_offset.batch(batch);
  const Matrix& key = arguments.scores.key;
  const ObjectMatrix& out = arguments.grad_query;
  char* const shared = simt::shared_memory();
  float* const sums = reinterpret_cast<float*>(shared);
  const Choices choices(shared + kSumBytes, arguments.k);
  const int64_t first_choice = (batch * sizes.queries + first_query) * arguments.k;
  choices.load(arguments.indices + first_choice, queries, [&](int64_t choice, int64_t token) {
    const float grad_score = arguments.grad_scores[first_choice + choice];
    return gain ? grad_score * gain[token] : grad_score;
  });
  if (out) {
    sum_chosen(sums, choices, static_cast<const Key*>(key.data) + batch * key.batch_stride, key.column_stride,
               arguments.channel_width, {0, key.channel_stride, channels, channels}, first_channel, channels);
    store_sums(out, batch * out.batch_stride + first_query * out.column_stride, strides_of(out, channels, channels),
               first_channel, channels, queries, sums, arguments.scores.scale);
  }
  if (simt::block_y() != 0 || simt::thread() >= queries || !grad_offset) return;
  float sum = 0;
  for (int choice = 0; choice < arguments.k; ++choice) sum += choices.weights[choice * kSumStride + simt::thread()];
  grad_offset[first_query + simt::thread()] = sum;
}

struct ByTokenArguments {
  Sizes sizes;
  Scores scores;
  ObjectMatrix grad_out;
  // (batches, queries * k), dense: weights of the choices, gradients of their scores, and the choices sorted by token.
  // (batches, tokens + 1), dense: the choices of a token are those from starts[token] to starts[token + 1] in `order`.
  const float* weights = nullptr;
  const float* grad_scores = nullptr;
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
      const int left = remaining(bounds[1], at, 32);
      for (int i = 0; i < left; ++i)
        visit(simt::shuffle(query, i), simt::from_bits(simt::shuffle(static_cast<int>(simt::bits(weight)), i)));
    }
  }
};

constexpr int kTokensPerWarp = kSumColumns / kWarps;

// Computes gradients of values. A warp has one token after another, a lane every 32nd channel.
template <class Value>
STM_KERNEL void chosen_value_kernel(const ByTokenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t first_token = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int first_channel = simt::block_y() * kSumChannels, tokens = remaining(sizes.tokens, first_token, kSumColumns);
  const int per_object = static_cast<int>(sizes.value_channels),
            channels = static_cast<int>(sizes.total_value_channels());
  const ObjectMatrix &source = arguments.grad_out, &out = arguments.gradients.value;
  const Value* grad = static_cast<const Value*>(source.data) + batch * source.batch_stride;
  float* const sums = reinterpret_cast<float*>(simt::shared_memory());
  const ChannelStrides strides = strides_of(source, per_object, channels);
  const int channel = first_channel + simt::lane();
  const int64_t offsets[2] = {strides.at(channel).offset, strides.at(channel + 32).offset};
  const int begin = simt::warp() * kTokensPerWarp;
  for (int column = begin; column < begin + kTokensPerWarp && column < tokens; ++column) {
    float sum[2] = {};
    arguments.visit_choices(batch, first_token + column, arguments.weights, [&](int query, float weight) {
      if (weight == 0) return;
      STM_UNROLL
      for (int i = 0; i < 2; ++i)
        if (channel + i * 32 < channels)
          sum[i] += weight * simt::widen(grad[offsets[i] + query * source.column_stride]);
    });
    STM_UNROLL
    for (int i = 0; i < 2; ++i) sums[(simt::lane() + i * 32) * kSumStride + column] = sum[i];
  }
  simt::sync_block();
  store_sums(out, batch * out.batch_stride + first_token * out.column_stride, strides_of(out, per_object, channels),
             first_channel, channels, tokens, sums);
}

// Computes gradients of keys, gains and biases. A warp has one token after another, a lane every 32nd channel.
template <class Key>
STM_KERNEL void chosen_key_kernel(const ByTokenArguments arguments) {
  const Sizes& sizes = arguments.sizes;
  const int64_t first_token = static_cast<int64_t>(simt::block_x()) * kSumColumns, batch = simt::block_z();
  const int tokens = remaining(sizes.tokens, first_token, kSumColumns), channels = static_cast<int>(sizes.key_channels);
  const Scores& scores = arguments.scores;
  const Vector gain = scores.gain.batch(batch), offset = scores.offset.batch(batch);
  const Vector grad_gain = arguments.gradients.gain.batch(batch), grad_bias = arguments.gradients.bias.batch(batch);
  const Key* query_data = static_cast<const Key*>(scores.query.data) + batch * scores.query.batch_stride;
  const Key* key_data = static_cast<const Key*>(scores.key.data) + batch * scores.key.batch_stride;
  const Matrix& matrix = arguments.gradients.key;
  const ObjectMatrix out{matrix.data, matrix.dtype, 0, 0, matrix.channel_stride, matrix.column_stride};
  float* const sums = reinterpret_cast<float*>(simt::shared_memory());
  const int first_column = simt::warp() * kTokensPerWarp;
  float along_key[kTokensPerWarp] = {};
  for (int first_channel = 0; first_channel < channels; first_channel += kSumChannels) {
    if (first_channel > 0) simt::sync_block();
    STM_UNROLL
    for (int t = 0; t < kTokensPerWarp; ++t) {
      if (first_column + t >= tokens) continue;
      const int64_t token = first_token + first_column + t;
      const int channel = first_channel + simt::lane();
      const Key* from = query_data + channel * scores.query.channel_stride;
      float sum[2] = {};
      arguments.visit_choices(batch, token, arguments.grad_scores, [&](int query, float grad_score) {
        STM_UNROLL
        for (int i = 0; i < 2; ++i)
          if (channel + i * 32 < channels)
            sum[i] += grad_score *
                      simt::widen(from[i * 32 * scores.query.channel_stride + query * scores.query.column_stride]);
      });
      STM_UNROLL
      for (int i = 0; i < 2; ++i) {
        if (channel + i * 32 >= channels) continue;
        sum[i] *= scores.scale;
        along_key[t] +=
            sum[i] *
            simt::widen(key_data[(channel + i * 32) * scores.key.channel_stride + token * scores.key.column_stride]);
        sums[(simt::lane() + i * 32) * kSumStride + first_column + t] = gain ? sum[i] * gain[token] : sum[i];
      }
    }
    simt::sync_block();
    if (matrix)
      store_sums(out, batch * matrix.batch_stride + first_token * matrix.column_stride,
                 {0, matrix.channel_stride, channels, channels}, first_channel, channels, tokens, sums);
  }
  STM_UNROLL
  for (int t = 0; t < kTokensPerWarp; ++t) {
    if (first_column + t >= tokens) continue;
    const int64_t token = first_token + first_column + t;
    STM_UNROLL
    for (int mask = 16; mask >= 1; mask /= 2) along_key[t] += simt::shuffle_xor(along_key[t], mask);
    float sum = 0, along_offset = 0;
    arguments.visit_choices(batch, token, arguments.grad_scores, [&](int query, float grad_score) {
      sum += grad_score;
      if (offset) along_offset += grad_score * offset[query];
    });
    if (simt::lane() != 0) continue;
    if (grad_bias) grad_bias[token] = sum;
    if (grad_gain) grad_gain[token] = along_key[t] + along_offset;
  }
}

}  // namespace stm::cuda
