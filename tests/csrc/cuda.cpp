// The CUDA kernels, emulated on the host, against the formula in double precision. Exits with the number of failed
// checks.
#define STM_EMULATED

#include <algorithm>
#include <set>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "cuda/launch_gradients.cu"
#include "cuda/launch_read.cu"
#include "cuda/launch_top_k.cu"
#include "cuda/plan.cu"
#include "oracle.h"

namespace {

const Case kCases[] = {
    {"one of all", {1, 1, 1, 1, 1, 1}},
    {"float32, odd sizes", {2, 70, 75, 37, 2, 19}},
    {"float32, affine, tokens first", {1, 70, 75, 37, 2, 19}, Dtype::kFloat32, Dtype::kFloat32, true, true},
    {"bfloat16, whole tiles", {1, 64, 64, 32, 1, 256}, Dtype::kBFloat16, Dtype::kBFloat16},
    {"bfloat16, two slices of value channels", {1, 20, 40, 16, 2, 300}, Dtype::kBFloat16, Dtype::kBFloat16, true},
    {"bfloat16, tokens first", {1, 30, 50, 40, 1, 24}, Dtype::kBFloat16, Dtype::kBFloat16, true, true},
    {"float16, four numbers at once", {1, 60, 100, 33, 1, 17}, Dtype::kFloat16, Dtype::kFloat16},
    {"float16, two numbers at once", {1, 62, 70, 16, 1, 9}, Dtype::kFloat16, Dtype::kFloat16, true},
    {"float32 keys, bfloat16 values", {1, 50, 96, 48, 1, 40}, Dtype::kFloat32, Dtype::kBFloat16},
    {"float32 keys, float16 values", {1, 10, 36, 64, 1, 40}, Dtype::kFloat32, Dtype::kFloat16, true},
    {"bfloat16 keys, float32 values", {1, 70, 75, 37, 2, 19}, Dtype::kBFloat16, Dtype::kFloat32, true},
    {"float16 keys, float32 values", {2, 20, 36, 40, 1, 24}, Dtype::kFloat16, Dtype::kFloat32},
    {"bfloat16 keys, float16 values", {1, 30, 50, 40, 1, 24}, Dtype::kBFloat16, Dtype::kFloat16, true, true},
    {"float16 keys, bfloat16 values", {1, 66, 40, 16, 1, 140}, Dtype::kFloat16, Dtype::kBFloat16},
    {"float32, a long memory", {1, 3, 2000, 16, 1, 4}},
    {"a bank that is not full", {1, 27, 60, 70, 2, 20}, Dtype::kBFloat16, Dtype::kBFloat16, true, false, false, 9, 4},
    {"float32, a bank that is not full",
     {1, 9, 45, 80, 3, 10},
     Dtype::kFloat32,
     Dtype::kFloat32,
     true,
     false,
     false,
     5,
     3},
    {"the best 40", {1, 20, 150, 16, 1, 8}, Dtype::kBFloat16, Dtype::kBFloat16, true, false, false, 40},
    {"more wanted than there are", {1, 9, 3, 4, 1, 2}, Dtype::kFloat32, Dtype::kFloat32, false, false, false, 30},
    {"nothing left by the mask", {2, 20, 40, 8, 1, 6}, Dtype::kFloat32, Dtype::kFloat32, true, false, true},
};

using stm::cuda::Machine;
using stm::cuda::Plan;

// A workspace of just the bytes that a plan asks for.
Numbers workspace_of(const Plan& plan) { return Numbers(static_cast<std::size_t>(plan.workspace_bytes / 4), kPoison); }

// Runs an op, and returns why it did not.
const char* run(const stm::Forward& forward, const Machine& machine) {
  const Plan plan = stm::cuda::plan_read(forward, machine);
  return plan.refusal ? plan.refusal : stm::cuda::launch_read(forward, plan, machine, workspace_of(plan).data());
}

const char* run(const stm::Usage& usage, const Machine& machine) {
  const Plan plan = stm::cuda::plan_usage(usage, machine);
  return plan.refusal ? plan.refusal : stm::cuda::launch_usage(usage, plan, machine, nullptr);
}

const char* run(const stm::Backward& backward, const Machine& machine) {
  const Plan plan = stm::cuda::plan_backward(backward, machine);
  return plan.refusal ? plan.refusal : stm::cuda::launch_backward(backward, plan, machine, workspace_of(plan).data());
}

const char* run(const stm::TopK& top_k, const Machine& machine) {
  const Plan plan = stm::cuda::plan_top_k(top_k, machine);
  return plan.refusal ? plan.refusal : stm::cuda::launch_top_k(top_k, plan, machine, workspace_of(plan).data());
}

const char* run(const stm::TopKBackward& backward, const stm::cuda::SortedChoices& choices, const Machine& machine) {
  const Plan plan = stm::cuda::plan_top_k_backward(backward, machine);
  if (plan.refusal) return plan.refusal;
  return stm::cuda::launch_top_k_backward(backward, choices, plan, machine, workspace_of(plan).data());
}

// The choices of all queries of a case, sorted by token.
struct Sorted {
  std::vector<int64_t> order, starts;

  Sorted(const Case& c, const std::vector<int64_t>& indices) {
    const int64_t choices = c.sizes.queries * c.top_k;
    for (int64_t batch = 0; batch < c.sizes.batches; ++batch) {
      const auto token_of = [&](int64_t choice) { return indices[static_cast<std::size_t>(batch * choices + choice)]; };
      std::vector<int64_t> sorted(static_cast<std::size_t>(choices));
      for (int64_t i = 0; i < choices; ++i) sorted[static_cast<std::size_t>(i)] = i;
      std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) { return token_of(a) < token_of(b); });
      for (int64_t token = 0; token <= c.sizes.tokens; ++token)
        starts.push_back(std::partition_point(sorted.begin(), sorted.end(),
                                              [&](int64_t choice) { return token_of(choice) < token; }) -
                         sorted.begin());
      order.insert(order.end(), sorted.begin(), sorted.end());
    }
  }
};

Results compute(const Case& c, Inputs& inputs, int splits, const std::string& where) {
  stm::cuda::force_splits(splits);
  const auto succeeds = [&](const char* error) { expect(!error, where + ": " + (error ? error : "")); };
  const Machine machine;
  const stm::Sizes& sizes = c.sizes;
  const stm::Scores scores = inputs.scores(sizes);
  const stm::ObjectMatrix value = inputs.value.objects(), upstream = inputs.upstream.objects();
  Results r(c);
  const stm::Vector lse = vector(r.lse, sizes.queries), upstream_lse = vector(inputs.upstream_lse, sizes.queries);

  const stm::Forward forward{sizes, scores, value, r.out.objects(), lse};
  succeeds(run(forward, machine));
  succeeds(run(stm::Usage{sizes, scores, lse, vector(r.usage, sizes.tokens)}, machine));

  const stm::Backward backward{sizes, scores,   value,        r.out.objects(),
                               lse,   upstream, upstream_lse, r.gradients.wanted(sizes, true, true, true)};
  succeeds(run(backward, machine));

  const stm::TopK top_k{
      sizes,   scores,           value,           r.best_out.objects(), vector(r.best_lse, sizes.queries),
      c.top_k, r.indices.data(), r.weights.data()};
  succeeds(run(top_k, machine));

  const Sorted sorted(c, r.indices);
  const stm::TopKBackward top_k_backward{sizes,
                                         scores,
                                         value,
                                         r.best_out.objects(),
                                         upstream,
                                         upstream_lse,
                                         c.top_k,
                                         r.indices.data(),
                                         r.weights.data(),
                                         r.best_gradients.wanted(sizes, true, true, true)};
  succeeds(run(top_k_backward, {sorted.order.data(), sorted.starts.data()}, machine));
  return r;
}

// Gradients asked for one at a time are those of all together.
void check_alone(const Case& c, int splits) {
  Random random(7);
  Inputs inputs(c, random);
  const std::string where = std::string(c.name) + ", one at a time";
  Results all = compute(c, inputs, splits, where);
  const stm::Sizes& sizes = c.sizes;
  const Sorted sorted(c, all.indices);
  GradientOutputs apart(c), best_apart(c);
  for (int wanted = 0; wanted < 6; ++wanted) {
    const auto only = [&](GradientOutputs& from) {
      const stm::Gradients g = from.wanted(sizes, true, true, true);
      stm::Gradients one;
      if (wanted == 0) one.query = g.query;
      if (wanted == 1) one.offset = g.offset;
      if (wanted == 2) one.key = g.key;
      if (wanted == 3) one.gain = g.gain;
      if (wanted == 4) one.bias = g.bias;
      if (wanted == 5) one.value = g.value;
      return one;
    };
    const stm::Scores scores = inputs.scores(sizes);
    const stm::ObjectMatrix value = inputs.value.objects(), upstream = inputs.upstream.objects();
    const stm::Vector lse = vector(all.lse, sizes.queries), upstream_lse = vector(inputs.upstream_lse, sizes.queries);
    const stm::Backward backward{sizes, scores, value, all.out.objects(), lse, upstream, upstream_lse, only(apart)};
    const Machine machine;
    expect(!run(backward, machine), where + ": refused");
    const stm::TopKBackward best{sizes,
                                 scores,
                                 value,
                                 all.best_out.objects(),
                                 upstream,
                                 upstream_lse,
                                 c.top_k,
                                 all.indices.data(),
                                 all.weights.data(),
                                 only(best_apart)};
    expect(!run(best, {sorted.order.data(), sorted.starts.data()}, machine), where + ": refused");
  }
  expect(apart == all.gradients && best_apart == all.best_gradients, where + ": they are others");
}

// Where shared memory is short the keys' channels come in chunks, and every bit is as it was.
void check_chunks(const Case& c) {
  stm::cuda::force_splits(1);
  Random random(7);
  Inputs inputs(c, random);
  const auto read = [&](std::size_t kilobytes, std::size_t kilobytes_for_best) {
    const std::string where = std::string(c.name) + ", " + std::to_string(kilobytes) + " KB";
    const stm::Sizes& sizes = c.sizes;
    Results r(c);
    const stm::Forward forward{sizes, inputs.scores(sizes), inputs.value.objects(), r.out.objects(),
                               vector(r.lse, sizes.queries)};
    const Machine machine{1, kilobytes * 1024};
    expect(!run(forward, machine), where + ": refused");
    const stm::TopK top_k{
        sizes,   forward.scores,   forward.value,   r.best_out.objects(), vector(r.best_lse, sizes.queries),
        c.top_k, r.indices.data(), r.weights.data()};
    const Machine machine_for_best{1, kilobytes_for_best * 1024};
    expect(!run(top_k, machine_for_best), where + ": refused");
    return std::pair(stm::cuda::plan_read(forward, machine).depth, std::move(r));
  };
  const auto [all, at_once] = read(163, 163);
  const auto [few, in_chunks] = read(61, 25);
  expect(few < all, std::string(c.name) + ": there are no chunks");
  expect(at_once == in_chunks, std::string(c.name) + ": chunks of channels change the results");
}

bool passes(const Case& c, int splits) {
  const int before = failures;
  Random random(7);
  Inputs inputs(c, random);
  const std::string where = std::string(c.name) + ", " + std::to_string(splits) + " splits";
  check(c, inputs, compute(c, inputs, splits, where), where);
  return failures == before;
}

// Each tensor's copies are as wide as that tensor allows; strides along dimensions of size 1 do not matter.
void check_copy_widths() {
  using namespace stm;
  alignas(16) char data[32];
  const Sizes sizes{2, 1620, 8100, 64, 2, 512};
  const auto width = [&](const void* from, int64_t batch, int64_t channel, int64_t column, Dtype dtype,
                         const Sizes& of) {
    return cuda::copy_width(Matrix{const_cast<void*>(from), dtype, batch, channel, column}, of).bytes;
  };
  expect(width(data, 64 * 8104, 8104, 1, Dtype::kBFloat16, sizes) == 16, "a capacity of whole 16 bytes is not used");
  expect(width(data, 64 * 1620, 1620, 1, Dtype::kBFloat16, sizes) == 8, "1620 numbers of 16 bits are 8 bytes wide");
  expect(width(data, 64 * 1620, 1620, 1, Dtype::kFloat32, sizes) == 16, "1620 numbers of 32 bits are 16 bytes wide");
  expect(width(data + 4, 64 * 8104, 8104, 1, Dtype::kBFloat16, sizes) == 4, "an address of whole 4 bytes is not seen");
  expect(width(data + 2, 64 * 8104, 8104, 1, Dtype::kBFloat16, sizes) == 0, "an odd address is not seen");
  expect(width(data, 64 * 8104, 8104, 2, Dtype::kBFloat16, sizes) == 0, "every other number is not a copy");
  expect(width(data, 3, 8104, 1, Dtype::kBFloat16, {1, 1, 1, 64, 1, 1}) == 16, "the stride of a single batch counts");
  ObjectMatrix value{data, Dtype::kBFloat16, 0, 0, 1, 512};
  expect(cuda::channel_copy_width(value, sizes, 8100, 512).bytes == 16, "channels side by side are not read together");
  value.column_stride = 516;
  expect(cuda::channel_copy_width(value, sizes, 8100, 512).bytes == 0, "tokens 8 bytes off are read 16 bytes at once");
  expect(cuda::channel_copy_width(value, sizes, 1, 510).bytes == 0, "channels are read beyond an object's last");
}

// A memory is split until the GPU is full, counting all blocks that it holds.
void check_splits() {
  stm::cuda::force_splits(0);
  expect(stm::cuda::split_count(26, 1000, 132) == 5, "26 blocks a split do not fill 132 places in 5 splits");
  expect(stm::cuda::split_count(26, 1000, 3 * 132) == 14, "26 blocks a split do not fill 396 places in 14 splits");
  expect(stm::cuda::split_count(26, 20, 132) == 2, "a split has fewer than 8 tiles");
  stm::cuda::force_splits(7);
  expect(stm::cuda::split_count(26, 20, 132) == 7, "splits are not as forced");
  stm::cuda::force_splits(0);
}

// A wait left out must be seen: copies happen no earlier than they are waited for.
void check_omitted_wait() {
  const int before = failures;
  silent = true;
  stm::simt::omitted_wait = 1;
  const bool passed = passes(kCases[1], 1);
  stm::simt::omitted_wait = 0;
  silent = false;
  failures = before;
  expect(!passed, "a wait for copies was left out, and the results are right all the same");
}

bool is_small(const Case& c) { return c.sizes.queries <= 30 && c.sizes.tokens <= 60; }

// A line for every barrier that a small case meets: the case, the barrier's line, and its kernel.
void print_barriers() {
  for (const Case& c : kCases) {
    if (!is_small(c)) continue;
    std::vector<std::source_location> met;
    stm::simt::met_barriers = &met;
    passes(c, 1);
    stm::simt::met_barriers = nullptr;
    std::set<std::pair<unsigned, std::string>> told;
    for (const std::source_location& place : met)
      if (told.emplace(place.line(), place.function_name()).second)
        std::printf("%d\t%u\t%s\n", static_cast<int>(&c - kCases), place.line(), place.function_name());
  }
}

}  // namespace

// With `few`, small cases of each dtype; with `barriers`, what barriers they meet; with `omit-barrier` and one of those
// lines, whether the results are right without it: a sanitizer may end it before.
int main(int count, char** words) {
  const std::string mode = count > 1 ? words[1] : "";
  if (mode == "barriers") {
    print_barriers();
    return failures != 0;
  }
  if (mode == "omit-barrier" && count == 5) {
    stm::simt::omitted_barrier = {static_cast<unsigned>(std::stoul(words[3])), words[4]};
    return !passes(kCases[std::stoul(words[2])], 1);
  }
  for (const Case& c : kCases) {
    if (mode == "few" && !is_small(c)) continue;
    for (int splits : {1, 3})
      if (mode != "few" || splits == 1) passes(c, splits);
    std::printf("%s\n", c.name);
  }
  if (mode.empty()) {
    stm::simt::eager_copies = true;
    for (const Case& c : kCases)
      if (c.sizes.queries >= 60) passes(c, 1);
    stm::simt::eager_copies = false;
    check_omitted_wait();
    check_copy_widths();
    check_splits();
    check_chunks({"chunks of float32", {2, 70, 75, 70, 2, 19}});
    check_chunks({"chunks of keys that are widened", {1, 20, 40, 70, 1, 24}, Dtype::kBFloat16, Dtype::kFloat32});
    check_chunks({"chunks of bfloat16", {1, 20, 40, 70, 1, 24}, Dtype::kBFloat16, Dtype::kBFloat16, true, true});
    check_alone({"affine", {1, 20, 40, 20, 1, 10}, Dtype::kFloat32, Dtype::kFloat32, true}, 2);
  }
  std::printf(failures == 0 ? "all passed\n" : "%d checks failed\n", failures);
  return std::min(failures, 125);
}
