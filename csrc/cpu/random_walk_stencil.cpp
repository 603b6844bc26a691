#include "cpu/random_walk_stencil.h"

#include <algorithm>
#include <numeric>

#include "common/parallel.h"
#include "cpu/path_rows.h"

namespace wsis {
namespace {

std::vector<int> order_by_row(const PathTable& paths) {
  std::vector<int> order(paths.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const Cell p = paths.offsets[a], q = paths.offsets[b];
    return p.dy != q.dy ? p.dy < q.dy : p.dx < q.dx;
  });
  return order;
}

template <class T>
inline __attribute__((always_inline)) void weights_from_affinity(T* RESTRICT row, int64_t count, double beta) {
  if (beta == 10) {
    for (int64_t x = 0; x < count; ++x) row[x] = edge_weight(row[x], 10.0);
  } else {
    for (int64_t x = 0; x < count; ++x) row[x] = edge_weight(row[x], beta);
  }
}

CPU_CLONES void weights_row(float* RESTRICT row, int64_t count, double beta) {
  weights_from_affinity(row, count, beta);
}

CPU_CLONES void weights_row(double* RESTRICT row, int64_t count, double beta) {
  weights_from_affinity(row, count, beta);
}

template <class T>
inline __attribute__((always_inline)) void add_products(const T* weights, const T* values, T* RESTRICT sum,
                                                        int64_t count) {
  for (int64_t x = 0; x < count; ++x) sum[x] += weights[x] * values[x];
}

CPU_CLONES void add_row(const float* weights, const float* values, float* RESTRICT sum, int64_t count) {
  add_products(weights, values, sum, count);
}

CPU_CLONES void add_row(const double* weights, const double* values, double* RESTRICT sum, int64_t count) {
  add_products(weights, values, sum, count);
}

}  // namespace

template <class T>
Stencil<T>::Stencil(const T* boundary, int64_t stride, int64_t h, int64_t w, int radius_, double beta)
    : plane(h, w),
      radius(radius_),
      paths(make_path_table(radius_)),
      order(order_by_row(paths)),
      weights_(plane.h * paths.size() * plane.pitch + kMargin),
      inverse_degree_(plane.size()) {
  const PathView view = wsis::view(paths);
  parallel_for(0, h, 8, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y)
      for (int64_t p = 0; p < offsets(); ++p) {
        T* row = weights(y, p);
        affinity_row(boundary, stride, h, w, y, view, order[p], row);
        const Span span = pair_span(h, w, y, offset(p));
        if (span.first < span.last) weights_row(row + span.first, span.last - span.first, beta);
      }
  });
  fill_degrees();
}

template <class T>
void Stencil<T>::fill_degrees() {
  parallel_for(0, plane.h, 8, [&](int64_t begin, int64_t end) {
    std::vector<double> degree(plane.w);
    for (int64_t y = begin; y < end; ++y) {
      std::fill(degree.begin(), degree.end(), 1.0);
      for (int64_t p = 0; p < offsets(); ++p) {
        const Cell o = offset(p);
        const T* below = weights(y, p);
        for (int64_t x = 0; x < plane.w; ++x) degree[x] += below[x];
        if (y < o.dy) continue;
        const T* above = weights(y - o.dy, p) - o.dx;
        for (int64_t x = 0; x < plane.w; ++x) degree[x] += above[x];
      }
      T* row = inverse_degree_.data() + plane.at(y);
      for (int64_t x = 0; x < plane.w; ++x) row[x] = static_cast<T>(1.0 / degree[x]);
    }
  });
}

template <class T>
void walk_rows(const Stencil<T>& stencil, const T* current, T* previous, T* sum, int64_t count, int64_t plane_size,
               const Term& term, int64_t first, int64_t last) {
  const Plane& plane = stencil.plane;
  const T scale = static_cast<T>(term.scale), previous_scale = static_cast<T>(term.previous_scale),
          weight = static_cast<T>(term.weight);
  std::vector<T> total(plane.w);
  for (int64_t y = first; y < last; ++y)
    for (int64_t c = 0; c < count; ++c) {
      const T* now = current + c * plane_size;
      std::copy_n(now + plane.at(y), plane.w, total.data());
      for (int64_t p = 0; p < stencil.offsets(); ++p) {
        const Cell o = stencil.offset(p);
        if (y + o.dy < plane.h) add_row(stencil.weights(y, p), now + plane.at(y + o.dy) + o.dx, total.data(), plane.w);
        if (y >= o.dy)
          add_row(stencil.weights(y - o.dy, p) - o.dx, now + plane.at(y - o.dy) - o.dx, total.data(), plane.w);
      }
      const T* inverse = stencil.inverse_degree(y);
      T* next = previous + c * plane_size + plane.at(y);
      for (int64_t x = 0; x < plane.w; ++x) next[x] = scale * (inverse[x] * total[x]) - previous_scale * next[x];
      if (weight == T(0)) continue;
      T* result = sum + c * plane_size + plane.at(y);
      for (int64_t x = 0; x < plane.w; ++x) result[x] += weight * next[x];
    }
}

template class Stencil<float>;
template class Stencil<double>;
template void walk_rows(const Stencil<float>&, const float*, float*, float*, int64_t, int64_t, const Term&, int64_t,
                        int64_t);
template void walk_rows(const Stencil<double>&, const double*, double*, double*, int64_t, int64_t, const Term&, int64_t,
                        int64_t);

}  // namespace wsis
