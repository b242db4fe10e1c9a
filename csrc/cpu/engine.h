// The kernels of one instruction set, and which one this machine runs.
#pragma once

#include "stm_fast/read.h"

namespace stm {

struct Engine {
  const char* name;
  bool (*supported)();
  void (*forward)(const Forward&, const Threads&);
  void (*backward)(const Backward&, const Threads&);
  void (*usage)(const Usage&, const Threads&);
  void (*top_k)(const TopK&, const Threads&);
  void (*top_k_backward)(const TopKBackward&, const Threads&);
};

// The engine for `name`, or the best that this machine runs where it is null or empty. Throws std::runtime_error with
// what there is if there is no such engine or this machine cannot run it.
const Engine& engine(const char* name);

// All engines that were compiled, best first.
struct Engines {
  const Engine* const* first;
  int count;
};
Engines engines();

}  // namespace stm
