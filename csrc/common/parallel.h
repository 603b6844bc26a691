// Threads for CPU kernels. The kernels see this declaration only; csrc/bind/parallel.cpp maps it to torch's
// thread pool (so torch.set_num_threads holds), the sanitizer drivers of the tests to std::thread.
#pragma once

#include <cstdint>

namespace wsis {

using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);

void parallel_for_raw(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context);
int num_threads();

// Calls f(begin, end) on disjoint ranges that cover [begin, end); a range holds at least `grain` items.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  parallel_for_raw(
      begin, end, grain,
      [](int64_t b, int64_t e, void* context) { (*static_cast<const F*>(context))(b, e); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace wsis
