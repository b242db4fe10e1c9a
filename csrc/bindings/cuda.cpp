// The CUDA kernels as torch ops, on a stream that the caller names. Outputs are made by the caller. The same source
// makes the library in which the kernels are emulated, with ops on CPU tensors.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>

#include "bindings/calls.h"
#include "cuda/engine.h"

namespace {

namespace bindings = stm::bindings;
using namespace stm::bindings;
using stm::cuda::Machine;

Machine machine(int64_t processors, int64_t shared_bytes, int64_t stream) {
  return {static_cast<int>(processors), static_cast<std::size_t>(shared_bytes), reinterpret_cast<void*>(stream)};
}

void check(const char* error) {
  if (error) throw std::runtime_error(error);
}

// The workspace of a plan, on the device of `like`.
Tensor workspace_of(const stm::cuda::Plan& plan, const Tensor& like) {
  check(plan.refusal);
  return torch::stable::new_empty(like, {plan.workspace_bytes}, torch::headeronly::ScalarType::Byte);
}

void read(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
          std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, int64_t processors,
          int64_t shared_bytes, int64_t stream) {
  const stm::Forward wanted = forward({query, key, gain, offset, bias, scale}, value, out, lse);
  const Machine gpu = machine(processors, shared_bytes, stream);
  const stm::cuda::Plan plan = stm::cuda::plan_read(wanted, gpu);
  const Tensor workspace = workspace_of(plan, lse);
  check(stm::cuda::launch_read(wanted, plan, gpu, workspace.data_ptr()));
}

void usage(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
           std::optional<Tensor> bias, double scale, Tensor lse, Tensor usage, int64_t processors, int64_t shared_bytes,
           int64_t stream) {
  const stm::Usage wanted = bindings::usage({query, key, gain, offset, bias, scale}, lse, usage);
  const Machine gpu = machine(processors, shared_bytes, stream);
  const stm::cuda::Plan plan = stm::cuda::plan_usage(wanted, gpu);
  check(plan.refusal);
  check(stm::cuda::launch_usage(wanted, plan, gpu, nullptr));
}

void top_k_read(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, Tensor indices,
                Tensor weights, int64_t processors, int64_t shared_bytes, int64_t stream) {
  const stm::TopK wanted = top_k({query, key, gain, offset, bias, scale}, value, out, lse, indices, weights);
  const Machine gpu = machine(processors, shared_bytes, stream);
  const stm::cuda::Plan plan = stm::cuda::plan_top_k(wanted, gpu);
  const Tensor workspace = workspace_of(plan, lse);
  check(stm::cuda::launch_top_k(wanted, plan, gpu, workspace.data_ptr()));
}

void read_backward(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                   std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor lse, Tensor grad_out,
                   Tensor grad_lse, Tensor grad_query, Tensor grad_key, Tensor grad_gain, Tensor grad_offset,
                   Tensor grad_bias, Tensor grad_value, int64_t processors, int64_t shared_bytes, int64_t stream) {
  const stm::Gradients gradients =
      bindings::gradients(grad_query, grad_key, grad_gain, grad_offset, grad_bias, grad_value);
  const stm::Backward wanted =
      backward({query, key, gain, offset, bias, scale}, value, out, lse, grad_out, grad_lse, gradients);
  const Machine gpu = machine(processors, shared_bytes, stream);
  const stm::cuda::Plan plan = stm::cuda::plan_backward(wanted, gpu);
  const Tensor workspace = workspace_of(plan, lse);
  check(stm::cuda::launch_backward(wanted, plan, gpu, workspace.data_ptr()));
}

// `order` and `starts`: see SortedChoices.
void top_k_read_backward(Tensor query, Tensor key, std::optional<Tensor> gain, std::optional<Tensor> offset,
                         std::optional<Tensor> bias, double scale, Tensor value, Tensor out, Tensor indices,
                         Tensor weights, Tensor grad_out, Tensor grad_lse, Tensor grad_query, Tensor grad_key,
                         Tensor grad_gain, Tensor grad_offset, Tensor grad_bias, Tensor grad_value, Tensor order,
                         Tensor starts, int64_t processors, int64_t shared_bytes, int64_t stream) {
  const stm::Gradients gradients =
      bindings::gradients(grad_query, grad_key, grad_gain, grad_offset, grad_bias, grad_value);
  const stm::TopKBackward wanted = top_k_backward({query, key, gain, offset, bias, scale}, value, out, indices, weights,
                                                  grad_out, grad_lse, gradients);
  const stm::cuda::SortedChoices choices{static_cast<const int64_t*>(order.data_ptr()),
                                         static_cast<const int64_t*>(starts.data_ptr())};
  const Machine gpu = machine(processors, shared_bytes, stream);
  const stm::cuda::Plan plan = stm::cuda::plan_top_k_backward(wanted, gpu);
  const Tensor workspace = workspace_of(plan, weights);
  check(stm::cuda::launch_top_k_backward(wanted, choices, plan, gpu, workspace.data_ptr()));
}

#define STM_MACHINE "int processors, int shared_bytes, int stream) -> ()"

STABLE_TORCH_LIBRARY(stm_fast_cuda, library) {
  library.def("read(" STM_READ STM_MACHINE);
  library.def("usage(" STM_USAGE STM_MACHINE);
  library.def("top_k_read(" STM_TOP_K_READ STM_MACHINE);
  library.def("read_backward(" STM_READ_BACKWARD STM_MACHINE);
  library.def("top_k_read_backward(" STM_TOP_K_READ_BACKWARD "Tensor order, Tensor starts, " STM_MACHINE);
}

#if defined(STM_EMULATED)
#define STM_DEVICE_TYPE CPU
#else
#define STM_DEVICE_TYPE CUDA
#endif

STABLE_TORCH_LIBRARY_IMPL(stm_fast_cuda, STM_DEVICE_TYPE, library) {
  library.impl("read", TORCH_BOX(&read));
  library.impl("usage", TORCH_BOX(&usage));
  library.impl("top_k_read", TORCH_BOX(&top_k_read));
  library.impl("read_backward", TORCH_BOX(&read_backward));
  library.impl("top_k_read_backward", TORCH_BOX(&top_k_read_backward));
}

}  // namespace

#if defined(STM_EMULATED)
// For tests; see stm::cuda::force_splits.
extern "C" __attribute__((visibility("default"))) void stm_fast_force_splits(int splits) {
  stm::cuda::force_splits(splits);
}
#endif

// Why the kernels cannot run on the current GPU, or null.
extern "C" __attribute__((visibility("default"))) const char* stm_fast_cuda_unusable() { return stm::cuda::unusable(); }

// What the library was built from; see stm_fast/ops/compiled/recipe.py.
extern "C" __attribute__((visibility("default"))) const char* stm_fast_source_key() { return STM_SOURCE_KEY; }
