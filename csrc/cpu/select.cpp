#include "cpu/select.h"

#include <algorithm>
#include <functional>

namespace stm {

void keep_best(uint64_t* candidates, int64_t count, int64_t keep) {
  std::nth_element(candidates, candidates + keep - 1, candidates + count, std::greater<uint64_t>());
}

void sort_best(uint64_t* candidates, int64_t count) {
  std::sort(candidates, candidates + count, std::greater<uint64_t>());
}

}  // namespace stm
