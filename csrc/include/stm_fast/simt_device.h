// The instructions of simt.h as PTX, for compute capability 8.0 and later.
#pragma once

#include <atomic>

#include "stm_fast/simt.h"

namespace stm::simt {

STM_DEVICE int thread() { return threadIdx.x; }
STM_DEVICE int warp() { return threadIdx.x / 32; }
STM_DEVICE int lane() { return threadIdx.x % 32; }
STM_DEVICE int block_x() { return blockIdx.x; }
STM_DEVICE int block_y() { return blockIdx.y; }
STM_DEVICE int block_z() { return blockIdx.z; }

STM_DEVICE uint32_t opaque(uint32_t number) {
  asm volatile("" : "+r"(number));
  return number;
}

STM_DEVICE char* shared_memory() {
  extern __shared__ __align__(128) char memory[];
  return memory;
}

STM_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

STM_DEVICE void sync_block() { __syncthreads(); }
STM_DEVICE bool sync_block_or(bool flag) { return __syncthreads_or(flag); }
STM_DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
STM_DEVICE int shuffle(int word, int source) { return __shfl_sync(0xffffffffu, word, source); }
STM_DEVICE uint32_t ballot(bool flag) { return __ballot_sync(0xffffffffu, flag); }
STM_DEVICE int popcount(uint32_t word) { return __popc(word); }
STM_DEVICE int first_set(uint32_t word) { return __ffs(static_cast<int>(word)) - 1; }

template <int Bytes>
STM_DEVICE void copy_async(void* to, const void* from) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(from), "n"(Bytes)
                 : "memory");
  }
}

template <int Bytes>
STM_DEVICE void copy_async(void* to, const void* from, int valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(Bytes),
                 "r"(valid)
                 : "memory");
  }
}

STM_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int Pending>
STM_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

STM_DEVICE void load_matrices(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

STM_DEVICE void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

template <class T>
STM_DEVICE void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
STM_DEVICE void multiply<BFloat16>(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
STM_DEVICE void multiply<Float16>(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

STM_DEVICE float exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

STM_DEVICE float log2(float x) { return ::log2f(x); }
STM_DEVICE uint32_t bits(float x) { return __float_as_uint(x); }
STM_DEVICE float from_bits(uint32_t word) { return __uint_as_float(word); }
STM_DEVICE bool is_finite(float x) { return (bits(x) & 0x7f800000u) != 0x7f800000u; }

template <class T>
STM_DEVICE uint32_t pack(float first, float second);

template <>
STM_DEVICE uint32_t pack<BFloat16>(float first, float second) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}

template <>
STM_DEVICE uint32_t pack<Float16>(float first, float second) {
  uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}

template <class T>
STM_DEVICE T narrow(float x) {
  return T{static_cast<uint16_t>(pack<T>(x, 0.0f))};
}
template <>
STM_DEVICE float narrow<float>(float x) {
  return x;
}

STM_DEVICE float widen(float x) { return x; }
STM_DEVICE float widen(BFloat16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
STM_DEVICE float widen(Float16 x) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
}

template <class Arguments>
const char* unusable(void (*kernel)(Arguments)) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// What this process has found out about a kernel on each of its first GPUs.
struct KernelCache {
  static constexpr int kDevices = 64;
  std::atomic<bool> has_all_shared_memory[kDevices];
  // Upper half: blocks per multiprocessor. Lower half: bytes of shared memory per block.
  std::atomic<uint64_t> resident_blocks[kDevices];
};

template <auto kKernel>
KernelCache cache;

// Allows a kernel all the shared memory that a block can have on the current GPU. This is done once, so that no thread
// lowers the limit while another launches.
template <auto kKernel>
cudaError_t allow_shared_memory(int& device) {
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const bool is_cached = device < KernelCache::kDevices;
  if (is_cached && cache<kKernel>.has_all_shared_memory[device].load(std::memory_order_acquire)) return cudaSuccess;
  int bytes = 0;
  error = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error == cudaSuccess && is_cached)
    cache<kKernel>.has_all_shared_memory[device].store(true, std::memory_order_release);
  return error;
}

template <auto kKernel>
int resident_blocks(int threads, std::size_t shared_bytes) {
  int device = 0, blocks = 0;
  if (allow_shared_memory<kKernel>(device) != cudaSuccess) {
    cudaGetLastError();
    return 1;
  }
  const bool is_cached = device < KernelCache::kDevices;
  const uint64_t cached = is_cached ? cache<kKernel>.resident_blocks[device].load(std::memory_order_relaxed) : 0;
  if (cached && (cached & 0xffffffffu) == shared_bytes) return static_cast<int>(cached >> 32);
  if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kKernel, threads, shared_bytes) != cudaSuccess ||
      blocks < 1) {
    cudaGetLastError();
    return 1;
  }
  if (is_cached)
    cache<kKernel>.resident_blocks[device].store(static_cast<uint64_t>(blocks) << 32 | shared_bytes,
                                                 std::memory_order_relaxed);
  return blocks;
}

template <auto kKernel, class Arguments>
const char* launch(const int (&grid)[3], int threads, std::size_t shared_bytes, void* stream,
                   const Arguments& arguments) {
  int device = 0;
  cudaError_t error = allow_shared_memory<kKernel>(device);
  if (error == cudaSuccess) {
    kKernel<<<dim3(grid[0], grid[1], grid[2]), threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments);
    error = cudaGetLastError();
  } else {
    cudaGetLastError();  // Otherwise the caller's next launch would seem to fail.
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace stm::simt
