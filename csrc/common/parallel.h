// Threads for CPU kernels. The kernels see this declaration only; csrc/bind/parallel.cpp maps it to torch's
// thread pool (so torch.set_num_threads holds), the sanitizer drivers of the tests to std::thread.
#pragma once

#include <algorithm>
#include <atomic>
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

// Hands [begin, end) out in pieces of at least `grain` items.
class Pieces {
 public:
  Pieces(int64_t begin, int64_t end, int64_t grain, int64_t threads)
      : next_(begin), end_(end), size_(std::max({int64_t{1}, grain, (end - begin) / (kPerThread * threads)})) {}

  int64_t count() const { return (end_ - next_ + size_ - 1) / size_; }

  // The next piece, false when nothing is left. Any thread may ask.
  bool take(int64_t& begin, int64_t& end) {
    begin = next_.fetch_add(size_, std::memory_order_relaxed);
    end = std::min(begin + size_, end_);
    return begin < end_;
  }

 private:
  static constexpr int64_t kPerThread = 8;
  std::atomic<int64_t> next_;
  const int64_t end_, size_;
};

// As parallel_for, for items that differ in cost: each thread calls f(pieces) once and takes pieces until none is left,
// so that none waits for the one whose share was dearer.
template <class F>
void parallel_for_uneven(int64_t begin, int64_t end, int64_t grain, const F& f) {
  const int64_t threads = num_threads();
  Pieces pieces(begin, end, threads > 1 ? grain : end - begin, threads);
  parallel_for(0, std::min(threads, pieces.count()), 1, [&](int64_t, int64_t) { f(pieces); });
}

}  // namespace wsis
