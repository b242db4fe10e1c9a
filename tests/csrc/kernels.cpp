// The CPU kernels without torch, against the formula in double precision: for machines that have no torch, and for
// sanitizers. Every instruction set that the machine executes is tested. Exits with the number of failed checks.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "cpu/supported_engines.h"
#include "oracle.h"

namespace {

void run_threads(int workers, void (*body)(void*, int), void* context) {
  std::vector<std::thread> threads;
  for (int worker = 1; worker < workers; ++worker) threads.emplace_back(body, context, worker);
  body(context, 0);
  for (std::thread& thread : threads) thread.join();
}

const Case kCases[] = {
    {"one of all", {1, 1, 1, 1, 1, 1}},
    {"odd sizes", {2, 53, 301, 37, 2, 19}},
    {"odd sizes, affine, tokens first", {2, 53, 301, 37, 2, 19}, Dtype::kFloat32, Dtype::kFloat32, true, true},
    {"several splits", {1, 7, 4500, 16, 1, 9}, Dtype::kFloat32, Dtype::kFloat32, true},
    {"many queries", {1, 1100, 120, 8, 1, 12}},
    {"nothing left by the mask", {2, 20, 130, 8, 1, 6}, Dtype::kFloat32, Dtype::kFloat32, true, false, true},
    {"bfloat16", {1, 50, 310, 64, 2, 40}, Dtype::kBFloat16, Dtype::kBFloat16},
    {"bfloat16, tokens first", {1, 50, 310, 64, 2, 40}, Dtype::kBFloat16, Dtype::kBFloat16, true, true},
    {"float32 keys, bfloat16 values", {1, 50, 310, 64, 1, 40}, Dtype::kFloat32, Dtype::kBFloat16},
    {"float16", {1, 50, 310, 33, 1, 17}, Dtype::kFloat16, Dtype::kFloat16},
    {"many value channels", {1, 60, 220, 24, 2, 130}, Dtype::kFloat32, Dtype::kFloat32, true},
    {"many value channels, bfloat16", {1, 60, 220, 24, 2, 130}, Dtype::kBFloat16, Dtype::kBFloat16},
    {"more wanted than there are", {1, 9, 3, 4, 1, 2}, Dtype::kFloat32, Dtype::kFloat32, false, false, false, 30},
};

Results compute(const Case& c, Inputs& inputs, const stm::Engine& engine, int workers) {
  Results r(c);
  const stm::Threads threads{workers, run_threads};
  const stm::Sizes& sizes = c.sizes;
  const stm::Scores scores = inputs.scores(sizes);
  const stm::Vector lse = vector(r.lse, sizes.queries);
  engine.forward({sizes, scores, inputs.value.objects(), r.out.objects(), lse}, threads);
  engine.usage({sizes, scores, lse, vector(r.usage, sizes.tokens)}, threads);
  engine.top_k({sizes, scores, inputs.value.objects(), r.best_out.objects(), vector(r.best_lse, sizes.queries), c.top_k,
                r.indices.data(), r.weights.data()},
               threads);
  const stm::Vector upstream_lse = vector(inputs.upstream_lse, sizes.queries);
  engine.backward({sizes, scores, inputs.value.objects(), r.out.objects(), lse, inputs.upstream.objects(), upstream_lse,
                   r.gradients.wanted(sizes, true, true, true)},
                  threads);
  engine.top_k_backward(
      {sizes, scores, inputs.value.objects(), r.best_out.objects(), inputs.upstream.objects(), upstream_lse, c.top_k,
       r.indices.data(), r.weights.data(), r.best_gradients.wanted(sizes, true, true, true)},
      threads);
  return r;
}

// Each side's gradients asked for alone are those of all sides together.
bool sides_agree(const Case& c, Inputs& inputs, const stm::Engine& engine, Results& all) {
  const stm::Threads threads{2, run_threads};
  const stm::Sizes& sizes = c.sizes;
  const stm::Vector lse = vector(all.lse, sizes.queries), upstream_lse = vector(inputs.upstream_lse, sizes.queries);
  GradientOutputs apart(c), best_apart(c);
  for (int side = 0; side < 3; ++side) {
    engine.backward({sizes, inputs.scores(sizes), inputs.value.objects(), all.out.objects(), lse,
                     inputs.upstream.objects(), upstream_lse, apart.wanted(sizes, side == 0, side == 1, side == 2)},
                    threads);
    engine.top_k_backward({sizes, inputs.scores(sizes), inputs.value.objects(), all.best_out.objects(),
                           inputs.upstream.objects(), upstream_lse, c.top_k, all.indices.data(), all.weights.data(),
                           best_apart.wanted(sizes, side == 0, side == 1, side == 2)},
                          threads);
  }
  return apart == all.gradients && best_apart == all.best_gradients;
}

}  // namespace

int main() {
  for (const stm::Engine* engine : stm::engines()) {
    for (const Case& c : kCases) {
      Random random(7);
      Inputs inputs(c, random);
      const std::string where = std::string(engine->name) + ", " + c.name;
      Results alone = compute(c, inputs, *engine, 1);
      check(c, inputs, alone, where);
      expect(sides_agree(c, inputs, *engine, alone), where + ": gradients of one side alone are others");
      expect(alone == compute(c, inputs, *engine, 3), where + ": three threads give other bits than one");
    }
    std::printf("%s: %zu cases\n", engine->name, std::size(kCases));
  }
  std::printf(failures == 0 ? "all passed\n" : "%d checks failed\n", failures);
  return std::min(failures, 125);
}
