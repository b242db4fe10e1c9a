// An engine: the kernels of one instruction set.
#pragma once

#include "stm_fast/read.h"

namespace stm {

struct Engine {
  const char* name;
  void (*forward)(const Forward&, const Threads&);
  void (*backward)(const Backward&, const Threads&);
  void (*usage)(const Usage&, const Threads&);
  void (*top_k)(const TopK&, const Threads&);
  void (*top_k_backward)(const TopKBackward&, const Threads&);
};

}  // namespace stm
