// Deliberate faults, in test builds only: a sanitizer run counts for something only if it catches these first.
#include <memory>
#include <thread>

#include "bind/tensor.h"

namespace wsis {
namespace {

Tensor canary(const Tensor& x, int64_t kind) {
  const int64_t n = x.numel();
  if (kind == 0) {  // read past the end of a heap block
    std::unique_ptr<volatile int[]> block(new volatile int[n]);
    const volatile int value = block[n + (n >> 40)];
    (void)value;
  } else if (kind == 1) {  // write before its beginning
    std::unique_ptr<volatile int[]> block(new volatile int[n]);
    block[-1 - (n >> 40)] = 1;
  } else if (kind == 2) {  // use after free
    volatile int* block = new volatile int[n];
    delete[] block;
    block[0] = 1;
  } else if (kind == 3) {  // signed overflow
    volatile int32_t most = 2147483647;
    most = most + static_cast<int32_t>(n);
  } else if (kind == 4) {  // two threads write one word
    volatile int word = 0;
    std::thread other([&] { word = word + 1; });
    word = word + 1;
    other.join();
  }
  return x;
}

}  // namespace

STABLE_TORCH_LIBRARY(wsis_canary, m) { m.def("canary(Tensor x, int kind) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(wsis_canary, CPU, m) { m.impl("canary", TORCH_BOX(&canary)); }

}  // namespace wsis
