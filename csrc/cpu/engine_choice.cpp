#include "cpu/engine_choice.h"

namespace stm {

#if defined(__x86_64__)
namespace amx {
extern const Engine kEngine;
}
namespace avx512bf16 {
extern const Engine kEngine;
}
namespace avx512 {
extern const Engine kEngine;
}
namespace avx2 {
extern const Engine kEngine;
}
#endif
namespace baseline {
extern const Engine kEngine;
}

namespace {

const Engine* const kEngines[] = {
#if defined(__x86_64__)
    &amx::kEngine,      &avx512bf16::kEngine, &avx512::kEngine, &avx2::kEngine,
#endif
    &baseline::kEngine,
};

}  // namespace

const std::vector<const Engine*>& engines() {
  static const std::vector<const Engine*> supported = [] {
    std::vector<const Engine*> found;
    for (const Engine* engine : kEngines) {
      if (engine->supported()) found.push_back(engine);
    }
    return found;
  }();
  return supported;
}

const Engine& engine(int64_t index) { return *engines().at(static_cast<std::size_t>(index)); }

}  // namespace stm
