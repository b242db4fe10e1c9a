// Which kernels this machine can execute.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/engine.h"

namespace stm {

// Best first; the last is there on every machine.
const std::vector<const Engine*>& engines();

// One of them. Throws std::out_of_range where there is none.
const Engine& engine(int64_t index);

}  // namespace stm
