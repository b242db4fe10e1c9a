// Tiles of a read whose values are multiplied in float32, whatever their dtype is.
#pragma once

#include "cpu/finiteness.h"
#include "cpu/scores.h"
#include "cpu/softmax.h"

namespace stm {
inline namespace STM_ISA {

// Values of all objects of a tile of tokens as packed rows; each object starts a group of its own.
class ValueRows {
 public:
  ValueRows(const Sizes& sizes, const ObjectMatrix& value, int64_t tokens)
      : objects_(sizes.objects),
        channels_(sizes.value_channels),
        groups_an_object_(divide_up(channels_, kRows)),
        value_(value),
        rows_(tokens * rows()) {}

  void take(int64_t batch, int64_t first, int64_t count) {
    float* out = rows_.data();
    for (int64_t object = 0; object < objects_; ++object) {
      pack_channels<kRows>(object_of(value_, object), channels_, batch, first, count, out);
      out += groups_an_object_ * kRows * count;
    }
  }

  int64_t groups() const { return objects_ * groups_an_object_; }
  int64_t rows() const { return groups() * kRows; }
  const float* data() const { return rows_.data(); }

 private:
  int64_t objects_, channels_, groups_an_object_;
  ObjectMatrix value_;
  Buffer<float> rows_;
};

template <class Keys>
class FloatTiles {
 public:
  static constexpr int64_t kTokens = kTileTokens;
  static constexpr int64_t kRowGroup = kRows;

  FloatTiles(const Forward& read, int64_t most_panels)
      : scores_(read.sizes, read.scores, most_panels),
        values_(read.sizes, read.value, kTokens),
        tile_(kTokens * kWidth) {}

  void take_queries(int64_t batch, int64_t first, int64_t count) {
    batch_ = batch;
    scores_.take_batch(batch);
    scores_.take_queries(first, count);
  }

  void take_tokens(int64_t first, int64_t count) {
    count_ = count;
    scores_.take_tokens(first, count);
    values_.take(batch_, first, count);
    finite_.forget();
  }

  // Panels that are read at a time.
  static constexpr int64_t panels() { return 1; }

  // Adds the taken tokens to what one panel of queries has read.
  void read(int64_t panel, int64_t, Statistics* of_panel, float* rows, const float*) {
    Statistics& statistics = *of_panel;
    Floats decay[kVectors];
    scores_.compute(panel, count_, tile_.data());
    switch (weigh(tile_.data(), count_, statistics, decay)) {
      case Change::kNothing:
        // Weights of zero times values give zeros, or NaN.
        if (finite_.holds<uint32_t>(values_.data(), values_.rows() * count_)) return;
        std::memset(tile_.data(), 0, static_cast<std::size_t>(count_ * kWidth) * sizeof(float));
        return accumulate(values_.data(), tile_.data(), values_.groups(), count_, nullptr, rows);
      case Change::kWeights:
        return accumulate(values_.data(), tile_.data(), values_.groups(), count_, nullptr, rows);
      case Change::kWeightsAndDecay:
        return accumulate(values_.data(), tile_.data(), values_.groups(), count_, decay, rows);
    }
  }

 private:
  Keys scores_;
  ValueRows values_;
  Buffer<float> tile_;
  Finiteness finite_;
  int64_t batch_ = 0;
  int64_t count_ = 0;
};

}  // namespace STM_ISA
}  // namespace stm
