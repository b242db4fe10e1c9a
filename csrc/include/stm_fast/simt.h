// The GPU instructions that the kernels use: PTX on the device, emulated thread by thread on the host.
//
// Both sides define, in stm::simt:
//   thread(), warp(), lane(), block_x(), block_y(), block_z()    position of this thread
//   opaque(number)                      the number, hidden from the compiler, which then recomputes what depends on it
//                                       instead of keeping that in registers
//   shared_memory()                     of the block, with the size given at launch
//   sync_block(), sync_block_or(flag)   barriers; the second returns whether any thread's flag is set
//   shuffle_xor(value, mask)            the number that lane ^ mask has
//   shuffle(word, source)               the integer that another lane has
//   ballot(flag)                        a bit for each lane whose flag is set
//   copy_async<Bytes>(to, from)         global to shared memory
//   copy_async<Bytes>(to, from, valid)  the same, with zeros beyond `valid` bytes
//   commit_copies()                     ends a group of copies
//   wait_copies<Pending>()              waits for all groups of this thread but the last `Pending`
//   load_matrices(out, row)             four 8 x 8 matrices; lane 8 i + r points to row r of matrix i
//   load_matrices_transposed(out, row)  the same, transposed
//   multiply<T>(sum, a, b)              16 x 16 times 16 x 8, added to 16 x 8 of float32
//   exp2(x), log2(x), is_finite(x), bits(x), from_bits(word)     of float32
//   narrow<T>(x), widen(x), pack<T>(first, second)               to 16 bits, from 16 bits, two in a word
//   popcount(word), first_set(word)     number of bits set, index of the lowest
//   unusable(kernel)                    why a kernel cannot run on the current GPU, or null
//   resident_blocks<kernel>(threads, shared_bytes)    blocks per multiprocessor of the current GPU
//   launch<kernel>(grid, threads, shared_bytes, stream, arguments)    queues blocks; returns null or an error
//
// Layouts are those of mma.sync.m16n8k16: with g = lane / 4 and t = lane % 4, pairs of neighbours in 32 bits,
//   a[0..3]: (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8)    rows x sums
//   b[0..1]: (2 t, g), (2 t + 8, g)                                    sums x columns
//   sum[0..3]: (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)  rows x columns
#pragma once

#include <cstdint>

namespace stm {

// 16-bit floats as the kernels move them.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

}  // namespace stm

#if defined(__CUDACC__)
#define STM_KERNEL __global__
#define STM_DEVICE __device__ __forceinline__
// For loops over registers: an array indexed by a variable would be in memory.
#define STM_UNROLL _Pragma("unroll")
// For loops that are unrolled by this number of steps.
#define STM_UNROLL_BY(steps) STM_PRAGMA(unroll steps)
#define STM_PRAGMA(words) _Pragma(#words)
// For loops that unrolling would only make longer.
#define STM_ROLLED _Pragma("unroll 1")
#include "stm_fast/simt_device.h"
#else
#define STM_KERNEL inline
#define STM_DEVICE inline
#define STM_UNROLL
#define STM_UNROLL_BY(steps)
#define STM_ROLLED
#include "stm_fast/simt_host.h"
#endif
