// What the functions of the C interface have in common. They take structs of read.h, whose fields stand in
// stm_fast/ops/compiled/structs.py as well, and return null, or what went wrong. stm_fast/ops/compiled/__init__.py
// calls them.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <string>

#include "stm_fast/read.h"

#define STM_EXPORT extern "C" __attribute__((visibility("default")))

namespace stm::bindings {

// Calls `work`; what it throws becomes a message, which is valid until the thread's next failure.
template <class Work>
const char* guarded(const Work& work) {
  static thread_local std::string message;
  try {
    work();
    return nullptr;
  } catch (const std::bad_alloc&) {
    return "the workspace cannot be allocated";
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}

}  // namespace stm::bindings

// What the library was built from; see stm_fast/ops/compiled/recipe.py.
STM_EXPORT const char* stm_fast_source_key() { return STM_SOURCE_KEY; }

// Sizes of the structs that the operations take, in the order of `STRUCTS` in structs.py.
STM_EXPORT const int64_t* stm_fast_struct_bytes() {
  static constexpr int64_t bytes[] = {sizeof(stm::Forward), sizeof(stm::Backward), sizeof(stm::Usage),
                                      sizeof(stm::TopK), sizeof(stm::TopKBackward)};
  return bytes;
}
