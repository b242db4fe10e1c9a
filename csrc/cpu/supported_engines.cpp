// Which engines this machine executes; stm_fast/ops/cpu_engines.py chooses among them. Compiled for what every such
// machine executes.
#include "cpu/supported_engines.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

#if defined(__x86_64__)

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

// A process has to ask Linux for the tiles. Not every compiler's __builtin_cpu_supports knows of AMX.
bool has_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a, b, c, d;
  if (!has_avx512bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool tiles = d >> 24 & 1, products = d >> 22 & 1;
  return tiles && products && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#endif

std::vector<const Engine*> find_engines() {
  std::vector<const Engine*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (has_amx()) found.push_back(&amx::kEngine);
  if (has_avx512bf16()) found.push_back(&avx512bf16::kEngine);
  if (has_avx512()) found.push_back(&avx512::kEngine);
  if (has_avx2()) found.push_back(&avx2::kEngine);
#endif
  found.push_back(&baseline::kEngine);
  return found;
}

}  // namespace

const std::vector<const Engine*>& engines() {
  static const std::vector<const Engine*> supported = find_engines();
  return supported;
}

const Engine& engine(int64_t index) { return *engines().at(static_cast<std::size_t>(index)); }

}  // namespace stm
