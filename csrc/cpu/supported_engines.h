// The engines that this machine can execute.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/engine.h"

namespace stm {

// Those with the most instructions first; the last one exists on every machine.
const std::vector<const Engine*>& engines();

// Returns one of them. Throws std::out_of_range where there is none.
const Engine& engine(int64_t index);

}  // namespace stm
