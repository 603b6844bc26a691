#include "common/edge_to_affinity.h"

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kGrain = 4096;  // pixels a thread takes at least

}  // namespace

template <class T>
void edge_to_affinity_cpu(const T* boundary, T* affinity, int64_t B, int64_t h, int64_t w, int radius) {
  const PathTable table = make_path_table(radius);
  const PathView paths = view(table);
  const int64_t P = paths.size, rows_per_task = std::max<int64_t>(1, kGrain / w);
  // One task is one row of one offset's plane of one image.
  parallel_for(0, B * P * h, rows_per_task, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t y = row % h, p = row / h % P, b = row / (h * P);
      for (int64_t x = 0; x < w; ++x)
        affinity[row * w + x] = pair_affinity(boundary + b * h * w, h, w, y, x, paths, static_cast<int>(p));
    }
  });
}

template <class T>
void edge_to_affinity_backward_cpu(const T* grad_affinity, const T* boundary, T* grad_boundary, int64_t B, int64_t h,
                                   int64_t w, int radius) {
  const PathTable table = make_path_table(radius);
  const PathView paths = view(table);
  parallel_for(0, B * h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t y = row % h, b = row / h;
      for (int64_t x = 0; x < w; ++x)
        grad_boundary[row * w + x] = boundary_gradient(grad_affinity + b * paths.size * h * w, boundary + b * h * w, h,
                                                       w, y, x, paths);
    }
  });
}

template void edge_to_affinity_cpu(const float*, float*, int64_t, int64_t, int64_t, int);
template void edge_to_affinity_cpu(const double*, double*, int64_t, int64_t, int64_t, int);
template void edge_to_affinity_backward_cpu(const float*, const float*, float*, int64_t, int64_t, int64_t, int);
template void edge_to_affinity_backward_cpu(const double*, const double*, double*, int64_t, int64_t, int64_t, int);

}  // namespace wsis
