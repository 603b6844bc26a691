#include "common/edge_to_affinity.h"

#include "common/parallel.h"
#include "cpu/path_rows.h"

namespace wsis {
namespace {

constexpr int64_t kRowsPerTask = 8;

}  // namespace

template <class T>
void edge_to_affinity_cpu(const T* boundary, T* affinity, int64_t B, int64_t h, int64_t w, int radius) {
  const PathTable table = make_path_table(radius);
  const PathView paths = view(table);
  const Plane plane(h, w);
  const int64_t tasks = (h + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(0, B * tasks, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> row(plane.columns);
    for (int64_t task = begin; task < end;) {
      const int64_t b = task / tasks;
      const Buffer<T> padded = padded_copy(boundary + b * h * w, w, plane);
      for (; task < std::min(end, (b + 1) * tasks); ++task) {
        const int64_t top = task % tasks * kRowsPerTask, bottom = std::min(h, top + kRowsPerTask);
        for (int p = 0; p < paths.size; ++p)  // the rows of one offset lie together
          for (int64_t y = top; y < bottom; ++y) {
            affinity_row(padded.data(), plane, y, paths.path(p), paths.length(p), paths.offsets[p], row.data());
            std::copy_n(row.data(), w, affinity + ((b * paths.size + p) * h + y) * w);
          }
      }
    }
  });
}

template <class T>
void edge_to_affinity_backward_cpu(const T* grad_affinity, const T* boundary, T* grad_boundary, int64_t B, int64_t h,
                                   int64_t w, int radius) {
  const PathTable table = make_path_table(radius);
  const PathView paths = view(table);
  const Plane plane(h, w);
  const int64_t rows_per_task = std::max<int64_t>(kRowsPerTask, (h + num_threads() - 1) / num_threads());
  const int64_t tasks = (h + rows_per_task - 1) / rows_per_task;
  for (int64_t b = 0; b < B; ++b) {
    const Buffer<T> padded = padded_copy(boundary + b * h * w, w, plane);
    parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      path_gradient_rows(grad_affinity + b * paths.size * h * w, padded.data(), plane, paths, begin * rows_per_task,
                         std::min(h, end * rows_per_task), grad_boundary + b * h * w, w);
    });
  }
}

template void edge_to_affinity_cpu(const float*, float*, int64_t, int64_t, int64_t, int);
template void edge_to_affinity_cpu(const double*, double*, int64_t, int64_t, int64_t, int);
template void edge_to_affinity_backward_cpu(const float*, const float*, float*, int64_t, int64_t, int64_t, int);
template void edge_to_affinity_backward_cpu(const double*, const double*, double*, int64_t, int64_t, int64_t, int);

}  // namespace wsis
