// Tiles of a read in float32, whatever the dtype of the values.
#pragma once

#include "cpu/finite_check.h"
#include "cpu/float32_score_tile.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

// Values of a tile of tokens, packed with the value channels of all objects as rows; each object starts a new group.
class PackedValues {
 public:
  PackedValues(const Sizes& sizes, const ObjectMatrix& value, int64_t tokens)
      : objects_(sizes.objects),
        channels_(sizes.value_channels),
        groups_per_object_(divide_up(channels_, kRows)),
        value_(value),
        data_(tokens * rows()) {}

  void pack(int64_t batch, int64_t first, int64_t count) {
    float* out = data_.data();
    for (int64_t object = 0; object < objects_; ++object) {
      pack_channels<kRows>(object_of(value_, object), channels_, batch, first, count, out);
      out += groups_per_object_ * kRows * count;
    }
  }

  int64_t groups() const { return objects_ * groups_per_object_; }
  int64_t rows() const { return groups() * kRows; }
  const float* data() const { return data_.data(); }

 private:
  int64_t objects_, channels_, groups_per_object_;
  ObjectMatrix value_;
  Buffer<float> data_;
};

template <class ScoreTile>
class Float32ForwardTile {
 public:
  static constexpr int64_t kTokens = kTileTokens;
  static constexpr int64_t kRowGroup = kRows;

  Float32ForwardTile(const Forward& read, int64_t max_panels)
      : scores_(read.sizes, read.scores, max_panels),
        values_(read.sizes, read.value, kTokens),
        tile_(kTokens * kWidth) {}

  void pack_queries(int64_t batch, int64_t first, int64_t count) {
    batch_ = batch;
    scores_.set_batch(batch);
    scores_.pack_queries(first, count);
  }

  void pack_tokens(int64_t first, int64_t count) {
    count_ = count;
    scores_.pack_tokens(first, count);
    values_.pack(batch_, first, count);
    finite_.invalidate();
  }

  // Number of panels that are read at a time.
  static constexpr int64_t panels() { return 1; }

  // Adds the packed tokens to the readout of one panel of queries.
  void read(int64_t panel, int64_t, SoftmaxState* state, float* sums, const float*) {
    Floats rescale[kVectors];
    scores_.compute(panel, count_, tile_.data());
    switch (exponentiate(tile_.data(), count_, *state, rescale)) {
      case Effect::kNone:
        // Weights of zero times values give zeros, or NaN.
        if (finite_.all_finite<uint32_t>(values_.data(), values_.rows() * count_)) return;
        zero(tile_.data(), count_ * kWidth);
        return accumulate(values_.data(), tile_.data(), values_.groups(), count_, nullptr, sums);
      case Effect::kAdd:
        return accumulate(values_.data(), tile_.data(), values_.groups(), count_, nullptr, sums);
      case Effect::kRescaleAndAdd:
        return accumulate(values_.data(), tile_.data(), values_.groups(), count_, rescale, sums);
    }
  }

 private:
  ScoreTile scores_;
  PackedValues values_;
  Buffer<float> tile_;
  FiniteCheck finite_;
  int64_t batch_ = 0;
  int64_t count_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm
