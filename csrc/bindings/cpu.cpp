// The CPU kernels as torch ops. Outputs are made by the caller; an empty tensor is one that is not wanted.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "cpu/engine_choice.h"
#include "stm_fast/read.h"

namespace {

using torch::stable::Tensor;

void run(int workers, void (*body)(void*, int), void* context) {
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) body(context, static_cast<int>(worker));
  });
}

stm::Threads threads() { return {static_cast<int>(torch::stable::get_num_threads()), run}; }

stm::Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case torch::headeronly::ScalarType::Float:
      return stm::Dtype::kFloat32;
    case torch::headeronly::ScalarType::BFloat16:
      return stm::Dtype::kBFloat16;
    case torch::headeronly::ScalarType::Half:
      return stm::Dtype::kFloat16;
    default:
      throw std::runtime_error("a tensor's dtype is none of float32, bfloat16 and float16");
  }
}

stm::Matrix matrix(const Tensor& x) {
  if (x.numel() == 0) return {};
  return {x.data_ptr(), dtype_of(x), x.stride(0), x.stride(1), x.stride(2)};
}

stm::ObjectMatrix object_matrix(const Tensor& x) {
  if (x.numel() == 0) return {};
  return {x.data_ptr(), dtype_of(x), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

stm::Vector vector(const Tensor& x) {
  if (x.numel() == 0) return {};
  if (dtype_of(x) != stm::Dtype::kFloat32) throw std::runtime_error("a vector's dtype is not float32");
  return {static_cast<float*>(x.data_ptr()), x.stride(0), x.stride(1)};
}

stm::Vector vector(const std::optional<Tensor>& x) { return x ? vector(*x) : stm::Vector{}; }

// Six arguments that every op begins with.
struct Operands {
  const Tensor& query;
  const Tensor& key;
  const std::optional<Tensor>& gain;
  const std::optional<Tensor>& offset;
  const std::optional<Tensor>& bias;
  double scale;

  stm::Scores scores() const {
    return {matrix(query), matrix(key), vector(gain), vector(offset), vector(bias), static_cast<float>(scale)};
  }
  stm::Sizes sizes() const { return {query.size(0), query.size(2), key.size(2), query.size(1), 0, 0}; }
  stm::Sizes sizes(const Tensor& value) const {
    stm::Sizes sizes = this->sizes();
    sizes.objects = value.size(1);
    sizes.value_channels = value.size(2);
    return sizes;
  }
};

void read(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
          std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, int64_t engine) {
  const Operands operands{query, key, gain, offset, bias, scale};
  const stm::Forward forward{operands.sizes(value), operands.scores(), object_matrix(value), object_matrix(out),
                             vector(lse)};
  stm::engine(engine).forward(forward, threads());
}

void usage(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
           std::optional<Tensor> bias, double scale, Tensor lse, Tensor usage, int64_t engine) {
  const Operands operands{query, key, gain, offset, bias, scale};
  stm::engine(engine).usage({operands.sizes(), operands.scores(), vector(lse), vector(usage)}, threads());
}

void top_k_read(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, Tensor indices,
                Tensor weights, int64_t engine) {
  const Operands operands{query, key, gain, offset, bias, scale};
  const stm::TopK read{operands.sizes(value),
                       operands.scores(),
                       object_matrix(value),
                       object_matrix(out),
                       vector(lse),
                       indices.size(2),
                       static_cast<int64_t*>(indices.data_ptr()),
                       static_cast<float*>(weights.data_ptr())};
  stm::engine(engine).top_k(read, threads());
}

void read_backward(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                   std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, Tensor grad_out,
                   Tensor grad_lse, Tensor grad_query, Tensor grad_key, Tensor grad_gain, Tensor grad_offset,
                   Tensor grad_bias, Tensor grad_value, int64_t engine) {
  const Operands operands{query, key, gain, offset, bias, scale};
  const stm::Gradients gradients{matrix(grad_query), vector(grad_offset), matrix(grad_key),
                                 vector(grad_gain),  vector(grad_bias),   object_matrix(grad_value)};
  const stm::Backward backward{operands.sizes(value), operands.scores(),       object_matrix(value), object_matrix(out),
                               vector(lse),           object_matrix(grad_out), vector(grad_lse),     gradients};
  stm::engine(engine).backward(backward, threads());
}

void top_k_read_backward(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                         std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor indices,
                         Tensor weights, Tensor grad_out, Tensor grad_lse, Tensor grad_query, Tensor grad_key,
                         Tensor grad_gain, Tensor grad_offset, Tensor grad_bias, Tensor grad_value, int64_t engine) {
  const Operands operands{query, key, gain, offset, bias, scale};
  const stm::Gradients gradients{matrix(grad_query), vector(grad_offset), matrix(grad_key),
                                 vector(grad_gain),  vector(grad_bias),   object_matrix(grad_value)};
  const stm::TopKBackward backward{operands.sizes(value),
                                   operands.scores(),
                                   object_matrix(value),
                                   object_matrix(out),
                                   object_matrix(grad_out),
                                   vector(grad_lse),
                                   indices.size(2),
                                   static_cast<const int64_t*>(indices.data_ptr()),
                                   static_cast<const float*>(weights.data_ptr()),
                                   gradients};
  stm::engine(engine).top_k_backward(backward, threads());
}

#define STM_OPERANDS "Tensor query, Tensor key, Tensor? gain, Tensor? offset, Tensor? bias, float scale, "
#define STM_GRADIENTS                                                                                    \
  "Tensor grad_out, Tensor grad_lse, Tensor(a!) grad_query, Tensor(b!) grad_key, Tensor(c!) grad_gain, " \
  "Tensor(d!) grad_offset, Tensor(e!) grad_bias, Tensor(f!) grad_value, int engine) -> ()"

STABLE_TORCH_LIBRARY(stm_fast_cpu, library) {
  library.def("read(" STM_OPERANDS "Tensor value, Tensor(a!) out, Tensor(b!) lse, int engine) -> ()");
  library.def("usage(" STM_OPERANDS "Tensor lse, Tensor(a!) usage, int engine) -> ()");
  library.def(
      "top_k_read(" STM_OPERANDS
      "Tensor value, Tensor(a!) out, Tensor(b!) lse, Tensor(c!) indices, Tensor(d!) weights, int engine) -> ()");
  library.def("read_backward(" STM_OPERANDS "Tensor value, Tensor out, Tensor lse, " STM_GRADIENTS);
  library.def("top_k_read_backward(" STM_OPERANDS
              "Tensor value, Tensor out, Tensor indices, Tensor weights, " STM_GRADIENTS);
}

STABLE_TORCH_LIBRARY_IMPL(stm_fast_cpu, CPU, library) {
  library.impl("read", TORCH_BOX(&read));
  library.impl("usage", TORCH_BOX(&usage));
  library.impl("top_k_read", TORCH_BOX(&top_k_read));
  library.impl("read_backward", TORCH_BOX(&read_backward));
  library.impl("top_k_read_backward", TORCH_BOX(&top_k_read_backward));
}

}  // namespace

// What the library was built from; see stm_fast/ops/compiled/recipe.py.
extern "C" __attribute__((visibility("default"))) const char* stm_fast_source_key() { return STM_SOURCE_KEY; }

// For benchmarks: floating-point operations that one thread has done in registers; see stm::Peak.
extern "C" __attribute__((visibility("default"))) double stm_fast_multiply_add(int peak, int64_t rounds) {
  return stm::engine(0).multiply_add(static_cast<stm::Peak>(peak), rounds);
}

// The instruction sets that this machine can execute, best first, with commas between them. Ops take an index among
// them.
extern "C" __attribute__((visibility("default"))) const char* stm_fast_instruction_sets() {
  static const std::string names = [] {
    std::string joined;
    for (const stm::Engine* engine : stm::engines()) {
      if (!joined.empty()) joined += ',';
      joined += engine->name;
    }
    return joined;
  }();
  return names.c_str();
}
