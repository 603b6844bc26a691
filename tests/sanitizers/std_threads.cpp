// csrc/common/parallel.h on std::thread, for the thread sanitizer: it sees through these threads, and reports false
// races in OpenMP's.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/parallel.h"

namespace wsis {

int num_threads() { return 4; }

void parallel_for_raw(int64_t begin, int64_t end, int64_t grain, ParallelBody body, void* context) {
  const int64_t count = end - begin;
  if (count <= 0) return;
  const int64_t workers = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, num_threads());
  const int64_t chunk = (count + workers - 1) / workers;
  std::vector<std::thread> threads;
  for (int64_t b = begin + chunk; b < end; b += chunk)
    threads.emplace_back(body, b, std::min(b + chunk, end), context);
  body(begin, std::min(begin + chunk, end), context);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace wsis
