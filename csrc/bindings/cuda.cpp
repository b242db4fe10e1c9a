// The C interface of the CUDA kernels. For each operation a plan is made, which tells what workspace it needs, and then
// launched on the machine's stream. Python chooses device and stream (stm_fast/ops/backends/cuda.py) and allocates the
// workspace (stm_fast/ops/compiled). The same source makes the library in which the kernels are emulated on the CPU.
#include <cstdint>

#include "bindings/interface.h"
#include "cuda/ops.h"

namespace {

using stm::cuda::Machine;
using stm::cuda::Plan;
using stm::cuda::SortedChoices;

// Stores a plan and the bytes of its workspace; returns null, or why there is none.
const char* store(const Plan& made, Plan* plan, int64_t* workspace_bytes) {
  *plan = made;
  *workspace_bytes = made.workspace_bytes;
  return made.refusal;
}

}  // namespace

// Room that a caller provides for a plan.
STM_EXPORT int64_t stm_fast_plan_bytes() { return sizeof(Plan); }

STM_EXPORT const char* stm_fast_read_plan(const stm::Forward* read, const Machine* machine, Plan* plan,
                                          int64_t* workspace_bytes) {
  return store(stm::cuda::plan_read(*read, *machine), plan, workspace_bytes);
}

STM_EXPORT const char* stm_fast_read(const stm::Forward* read, const Machine* machine, const Plan* plan,
                                     void* workspace, const SortedChoices*) {
  return stm::cuda::launch_read(*read, *plan, *machine, workspace);
}

STM_EXPORT const char* stm_fast_read_backward_plan(const stm::Backward* backward, const Machine* machine, Plan* plan,
                                                   int64_t* workspace_bytes) {
  return store(stm::cuda::plan_backward(*backward, *machine), plan, workspace_bytes);
}

STM_EXPORT const char* stm_fast_read_backward(const stm::Backward* backward, const Machine* machine, const Plan* plan,
                                              void* workspace, const SortedChoices*) {
  return stm::cuda::launch_backward(*backward, *plan, *machine, workspace);
}

STM_EXPORT const char* stm_fast_usage_plan(const stm::Usage* usage, const Machine* machine, Plan* plan,
                                           int64_t* workspace_bytes) {
  return store(stm::cuda::plan_usage(*usage, *machine), plan, workspace_bytes);
}

STM_EXPORT const char* stm_fast_usage(const stm::Usage* usage, const Machine* machine, const Plan* plan,
                                      void* workspace, const SortedChoices*) {
  return stm::cuda::launch_usage(*usage, *plan, *machine, workspace);
}

STM_EXPORT const char* stm_fast_top_k_read_plan(const stm::TopK* top_k, const Machine* machine, Plan* plan,
                                                int64_t* workspace_bytes) {
  return store(stm::cuda::plan_top_k(*top_k, *machine), plan, workspace_bytes);
}

STM_EXPORT const char* stm_fast_top_k_read(const stm::TopK* top_k, const Machine* machine, const Plan* plan,
                                           void* workspace, const SortedChoices*) {
  return stm::cuda::launch_top_k(*top_k, *plan, *machine, workspace);
}

STM_EXPORT const char* stm_fast_top_k_read_backward_plan(const stm::TopKBackward* backward, const Machine* machine,
                                                         Plan* plan, int64_t* workspace_bytes) {
  return store(stm::cuda::plan_top_k_backward(*backward, *machine), plan, workspace_bytes);
}

STM_EXPORT const char* stm_fast_top_k_read_backward(const stm::TopKBackward* backward, const Machine* machine,
                                                    const Plan* plan, void* workspace, const SortedChoices* choices) {
  return stm::cuda::launch_top_k_backward(*backward, *choices, *plan, *machine, workspace);
}

// Why the kernels cannot run on the current GPU, or null.
STM_EXPORT const char* stm_fast_cuda_unusable() { return stm::cuda::unusable(); }

#if defined(STM_EMULATED)
// For tests; see stm::cuda::force_splits.
STM_EXPORT void stm_fast_force_splits(int splits) { stm::cuda::force_splits(splits); }
#endif
