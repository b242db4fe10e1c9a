#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/engine.h"

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

Engines engines() { return {kEngines, static_cast<int>(sizeof(kEngines) / sizeof(kEngines[0]))}; }

const Engine& engine(const char* name) {
  const bool any = name == nullptr || *name == '\0';
  std::string names;
  for (const Engine* candidate : kEngines) {
    if (!candidate->supported()) continue;
    if (any || std::strcmp(name, candidate->name) == 0) return *candidate;
    names += (names.empty() ? "" : ", ") + std::string(candidate->name);
  }
  throw std::runtime_error("instruction set is " + std::string(any ? "not given" : name) + "; this machine runs " +
                           names);
}

}  // namespace stm
