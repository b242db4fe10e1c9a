// The arguments of torch ops as what the kernels are asked for. An empty tensor is one that is not wanted.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/macros/Macros.h>

#include <optional>
#include <stdexcept>

#include "stm_fast/read.h"

HIDDEN_NAMESPACE_BEGIN(stm, bindings)

using torch::stable::Tensor;

inline Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case torch::headeronly::ScalarType::Float:
      return Dtype::kFloat32;
    case torch::headeronly::ScalarType::BFloat16:
      return Dtype::kBFloat16;
    case torch::headeronly::ScalarType::Half:
      return Dtype::kFloat16;
    default:
      throw std::runtime_error("a tensor's dtype is none of float32, bfloat16 and float16");
  }
}

inline Matrix matrix(const Tensor& x) {
  if (x.numel() == 0) return {};
  return {x.data_ptr(), dtype_of(x), x.stride(0), x.stride(1), x.stride(2)};
}

inline ObjectMatrix object_matrix(const Tensor& x) {
  if (x.numel() == 0) return {};
  return {x.data_ptr(), dtype_of(x), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

inline Vector vector(const Tensor& x) {
  if (x.numel() == 0) return {};
  if (dtype_of(x) != Dtype::kFloat32) throw std::runtime_error("a vector's dtype is not float32");
  return {static_cast<float*>(x.data_ptr()), x.stride(0), x.stride(1)};
}

inline Vector vector(const std::optional<Tensor>& x) { return x ? vector(*x) : Vector{}; }

// Six arguments that every op begins with.
struct Operands {
  const Tensor& query;
  const Tensor& key;
  const std::optional<Tensor>& gain;
  const std::optional<Tensor>& offset;
  const std::optional<Tensor>& bias;
  double scale;

  Scores scores() const {
    return {matrix(query), matrix(key), vector(gain), vector(offset), vector(bias), static_cast<float>(scale)};
  }
  Sizes sizes() const { return {query.size(0), query.size(2), key.size(2), query.size(1), 0, 0}; }
  Sizes sizes(const Tensor& value) const {
    Sizes sizes = this->sizes();
    sizes.objects = value.size(1);
    sizes.value_channels = value.size(2);
    return sizes;
  }
};

inline Forward forward(const Operands& operands, const Tensor& value, const Tensor& out, const Tensor& lse) {
  return {operands.sizes(value), operands.scores(), object_matrix(value), object_matrix(out), vector(lse)};
}

inline Usage usage(const Operands& operands, const Tensor& lse, const Tensor& usage) {
  return {operands.sizes(), operands.scores(), vector(lse), vector(usage)};
}

inline TopK top_k(const Operands& operands, const Tensor& value, const Tensor& out, const Tensor& lse,
                  const Tensor& indices, const Tensor& weights) {
  return {operands.sizes(value),
          operands.scores(),
          object_matrix(value),
          object_matrix(out),
          vector(lse),
          indices.size(2),
          static_cast<int64_t*>(indices.data_ptr()),
          static_cast<float*>(weights.data_ptr())};
}

inline Gradients gradients(const Tensor& query, const Tensor& key, const Tensor& gain, const Tensor& offset,
                           const Tensor& bias, const Tensor& value) {
  return {matrix(query), vector(offset), matrix(key), vector(gain), vector(bias), object_matrix(value)};
}

inline Backward backward(const Operands& operands, const Tensor& value, const Tensor& out, const Tensor& lse,
                         const Tensor& grad_out, const Tensor& grad_lse, const Gradients& gradients) {
  return {operands.sizes(value), operands.scores(),       object_matrix(value), object_matrix(out),
          vector(lse),           object_matrix(grad_out), vector(grad_lse),     gradients};
}

inline TopKBackward top_k_backward(const Operands& operands, const Tensor& value, const Tensor& out,
                                   const Tensor& indices, const Tensor& weights, const Tensor& grad_out,
                                   const Tensor& grad_lse, const Gradients& gradients) {
  return {operands.sizes(value),
          operands.scores(),
          object_matrix(value),
          object_matrix(out),
          object_matrix(grad_out),
          vector(grad_lse),
          indices.size(2),
          static_cast<const int64_t*>(indices.data_ptr()),
          static_cast<const float*>(weights.data_ptr()),
          gradients};
}

HIDDEN_NAMESPACE_END(stm, bindings)

#define STM_OPERANDS "Tensor query, Tensor key, Tensor? gain, Tensor? offset, Tensor? bias, float scale, "
#define STM_READ STM_OPERANDS "Tensor value, Tensor(a!) out, Tensor(b!) lse, "
#define STM_USAGE STM_OPERANDS "Tensor lse, Tensor(a!) usage, "
#define STM_TOP_K_READ \
  STM_OPERANDS "Tensor value, Tensor(a!) out, Tensor(b!) lse, Tensor(c!) indices, Tensor(d!) weights, "
#define STM_GRADIENTS                                                                                    \
  "Tensor grad_out, Tensor grad_lse, Tensor(a!) grad_query, Tensor(b!) grad_key, Tensor(c!) grad_gain, " \
  "Tensor(d!) grad_offset, Tensor(e!) grad_bias, Tensor(f!) grad_value, "
#define STM_READ_BACKWARD STM_OPERANDS "Tensor value, Tensor out, Tensor lse, " STM_GRADIENTS
#define STM_TOP_K_READ_BACKWARD STM_OPERANDS "Tensor value, Tensor out, Tensor indices, Tensor weights, " STM_GRADIENTS
