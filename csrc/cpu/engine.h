// The kernels of one instruction set.
#pragma once

#include "stm_fast/read.h"

namespace stm {

enum class Peak : int { kFloat32, kBFloat16, kTiles };

struct Engine {
  const char* name;
  void (*forward)(const Forward&, const Threads&);
  void (*backward)(const Backward&, const Threads&);
  void (*usage)(const Usage&, const Threads&);
  void (*top_k)(const TopK&, const Threads&);
  void (*top_k_backward)(const TopKBackward&, const Threads&);
  // Multiplies and adds in registers, `rounds` times: floating-point operations done, zero where there is no such unit.
  double (*multiply_add)(Peak peak, int64_t rounds);
};

}  // namespace stm
