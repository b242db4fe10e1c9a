// The CPU kernels as torch ops. Outputs are made by the caller.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>

#include "bindings/calls.h"
#include "cpu/engine_choice.h"

namespace {

namespace bindings = stm::bindings;
using namespace stm::bindings;

void run(int workers, void (*body)(void*, int), void* context) {
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) body(context, static_cast<int>(worker));
  });
}

stm::Threads threads() { return {static_cast<int>(torch::stable::get_num_threads()), run}; }

void read(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
          std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, int64_t engine) {
  stm::engine(engine).forward(forward({query, key, gain, offset, bias, scale}, value, out, lse), threads());
}

void usage(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
           std::optional<Tensor> bias, double scale, Tensor lse, Tensor usage, int64_t engine) {
  stm::engine(engine).usage(bindings::usage({query, key, gain, offset, bias, scale}, lse, usage), threads());
}

void top_k_read(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, Tensor indices,
                Tensor weights, int64_t engine) {
  stm::engine(engine).top_k(top_k({query, key, gain, offset, bias, scale}, value, out, lse, indices, weights),
                            threads());
}

void read_backward(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                   std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, Tensor grad_out,
                   Tensor grad_lse, Tensor grad_query, Tensor grad_key, Tensor grad_gain, Tensor grad_offset,
                   Tensor grad_bias, Tensor grad_value, int64_t engine) {
  const stm::Gradients wanted = gradients(grad_query, grad_key, grad_gain, grad_offset, grad_bias, grad_value);
  stm::engine(engine).backward(
      backward({query, key, gain, offset, bias, scale}, value, out, lse, grad_out, grad_lse, wanted), threads());
}

void top_k_read_backward(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                         std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor indices,
                         Tensor weights, Tensor grad_out, Tensor grad_lse, Tensor grad_query, Tensor grad_key,
                         Tensor grad_gain, Tensor grad_offset, Tensor grad_bias, Tensor grad_value, int64_t engine) {
  const stm::Gradients wanted = gradients(grad_query, grad_key, grad_gain, grad_offset, grad_bias, grad_value);
  stm::engine(engine).top_k_backward(
      top_k_backward({query, key, gain, offset, bias, scale}, value, out, indices, weights, grad_out, grad_lse, wanted),
      threads());
}

STABLE_TORCH_LIBRARY(stm_fast_cpu, library) {
  library.def("read(" STM_READ "int engine) -> ()");
  library.def("usage(" STM_USAGE "int engine) -> ()");
  library.def("top_k_read(" STM_TOP_K_READ "int engine) -> ()");
  library.def("read_backward(" STM_READ_BACKWARD "int engine) -> ()");
  library.def("top_k_read_backward(" STM_TOP_K_READ_BACKWARD "int engine) -> ()");
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
