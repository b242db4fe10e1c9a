// Definition of a memory read, without torch.
//
//   S[i, j] = gain[j] * (scale * <query[i], key[j]> + offset[i]) + bias[j]      i: query, j: memory token
//   P       = softmax of S over j
//   out[i]  = sum over j of P[i, j] * value[j]      lse[i] = log of the sum over j of exp S[i, j]
//
// Strides count elements. Any stride is allowed, including zero and negative ones.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stm {

enum class Dtype : int { kFloat32, kBFloat16, kFloat16 };

// A vector of float32 per batch; absent if `data` is null.
struct Vector {
  float* data = nullptr;
  int64_t batch_stride = 0;
  int64_t stride = 0;

  constexpr explicit operator bool() const { return data != nullptr; }
  constexpr Vector batch(int64_t index) const { return {data ? data + index * batch_stride : nullptr, 0, stride}; }
  constexpr float& operator[](int64_t index) const { return data[index * stride]; }
};

// Columns (queries or tokens) of channels, per batch; absent if `data` is null.
struct Matrix {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int64_t batch_stride = 0;
  int64_t channel_stride = 0;
  int64_t column_stride = 0;

  constexpr explicit operator bool() const { return data != nullptr; }
};

// A matrix per batch and object: values, readouts and their gradients.
struct ObjectMatrix {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int64_t batch_stride = 0;
  int64_t object_stride = 0;
  int64_t channel_stride = 0;
  int64_t column_stride = 0;

  constexpr explicit operator bool() const { return data != nullptr; }
};

struct Sizes {
  int64_t batches = 0;
  int64_t queries = 0;
  int64_t tokens = 0;
  int64_t key_channels = 0;
  int64_t objects = 0;
  int64_t value_channels = 0;

  // Value channels of all objects.
  constexpr int64_t total_value_channels() const { return objects * value_channels; }
};

// The operands of the scores.
struct Scores {
  Matrix query;
  Matrix key;
  Vector gain;
  Vector offset;
  Vector bias;
  float scale = 1;
};

struct Forward {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix out;
  Vector lse;
};

struct Usage {
  Sizes sizes;
  Scores scores;
  Vector lse;
  Vector usage;
};

// `indices` and `weights` are dense, (batches, queries, top_k). If the memory has fewer tokens, the last places have
// index 0 and weight 0.
struct TopK {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix out;
  Vector lse;
  int64_t top_k = 0;
  int64_t* indices = nullptr;
  float* weights = nullptr;
};

// Absent gradients are not computed.
struct Gradients {
  Matrix query;
  Vector offset;
  Matrix key;
  Vector gain;
  Vector bias;
  ObjectMatrix value;
};

struct Backward {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix out;
  Vector lse;
  ObjectMatrix grad_out;
  Vector grad_lse;
  Gradients gradients;
};

struct TopKBackward {
  Sizes sizes;
  Scores scores;
  ObjectMatrix value;
  ObjectMatrix out;
  ObjectMatrix grad_out;
  Vector grad_lse;
  int64_t top_k = 0;
  const int64_t* indices = nullptr;
  const float* weights = nullptr;
  Gradients gradients;
};

// Runs `body(context, worker)` once for each worker 0..workers-1, in parallel if possible, and returns when all are
// done.
struct Threads {
  int workers = 1;
  void (*run)(int workers, void (*body)(void* context, int worker), void* context) = nullptr;
};

}  // namespace stm
