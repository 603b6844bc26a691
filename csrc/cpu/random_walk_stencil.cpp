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

CPU_CLONES void add_to_degree(const float* weights, double* RESTRICT degree, int64_t count) {
  for (int64_t x = 0; x < count; ++x) degree[x] += weights[x];
}

CPU_CLONES void add_to_degree(const double* weights, double* RESTRICT degree, int64_t count) {
  for (int64_t x = 0; x < count; ++x) degree[x] += weights[x];
}

}  // namespace

template <class T>
Stencil<T>::Stencil(const T* boundary, int64_t stride, int64_t h, int64_t w, int radius_, double beta)
    : plane(h, w),
      radius(radius_),
      paths(make_path_table(radius_)),
      order(order_by_row(paths)),
      weights_(plane.h * paths.size() * plane.pitch + plane.margin),
      degree_(plane.size(), T(0)),
      inverse_degree_(plane.size(), T(1)) {
  const PathView view = wsis::view(paths);
  const Buffer<T> padded = padded_copy(boundary, stride, plane);
  parallel_for(0, h, 8, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y)
      for (int64_t p = 0; p < offsets(); ++p) {
        T* row = weights(y, p);
        affinity_row(padded.data(), plane, y, view.path(order[p]), view.length(order[p]), offset(p), row);
        const Span span = pair_span(plane, y, offset(p));
        weights_row(row, plane.columns, beta);
        std::fill(row - plane.margin, row + span.first, T(0));
        std::fill(row + span.last, row + plane.columns, T(0));
      }
  });
  std::fill_n(weights(h, 0) - plane.margin, plane.margin, T(0));
  fill_degrees();
}

template <class T>
void Stencil<T>::fill_degrees() {
  parallel_for(0, plane.h, 8, [&](int64_t begin, int64_t end) {
    std::vector<double> degree(plane.columns);
    for (int64_t y = begin; y < end; ++y) {
      std::fill(degree.begin(), degree.end(), 0.0);
      for (int64_t p = 0; p < offsets(); ++p) {
        const Cell o = offset(p);
        add_to_degree(weights(y, p), degree.data(), plane.columns);
        if (y >= o.dy) add_to_degree(weights(y - o.dy, p) - o.dx, degree.data(), plane.columns);
      }
      T *row = degree_.data() + plane.at(y), *inverse = inverse_degree_.data() + plane.at(y);
      for (int64_t x = 0; x < plane.columns; ++x) {
        row[x] = static_cast<T>(degree[x]);
        inverse[x] = static_cast<T>(1.0 / (1.0 + degree[x]));
      }
    }
  });
}

template <class T>
void walk_rows(const Stencil<T>& stencil, const T* current, T* previous, T* sum, int64_t count, int64_t plane_size,
               const Term& term, int64_t first, int64_t last) {
  const Plane& plane = stencil.plane;
  const TermFactors<T> factors{static_cast<T>(term.scale), static_cast<T>(term.scale - term.previous_scale),
                               static_cast<T>(term.previous_scale)};
  const T weight = static_cast<T>(term.weight);
  std::vector<T> total(plane.w);
  for (int64_t y = first; y < last; ++y)
    for (int64_t c = 0; c < count; ++c) {
      const T* now = current + c * plane_size;
      std::fill(total.begin(), total.end(), T(0));
      for (int64_t p = 0; p < stencil.offsets(); ++p) {
        const Cell o = stencil.offset(p);
        if (y + o.dy < plane.h) add_row(stencil.weights(y, p), now + plane.at(y + o.dy) + o.dx, total.data(), plane.w);
        if (y >= o.dy)
          add_row(stencil.weights(y - o.dy, p) - o.dx, now + plane.at(y - o.dy) - o.dx, total.data(), plane.w);
      }
      const T *degree = stencil.degree(y), *inverse = stencil.inverse_degree(y), *here = now + plane.at(y);
      T* next = previous + c * plane_size + plane.at(y);
      for (int64_t x = 0; x < plane.w; ++x)
        next[x] = next_term(total[x], degree[x], inverse[x], here[x], next[x], factors);
      if (weight == T(0)) continue;
      T* result = sum + c * plane_size + plane.at(y);
      for (int64_t x = 0; x < plane.w; ++x) result[x] += weight * next[x];
    }
}

template <>
void walk_term(const Stencil<float>& stencil, const float* current, float* previous, float* sum, int64_t count,
               int64_t plane_size, const Term& term) {
  const auto rows = stencil.radius == 5 ? walk_rows_radius5 : walk_rows<float>;
  rows(stencil, current, previous, sum, count, plane_size, term, 0, stencil.plane.h);
}

template <>
void walk_term(const Stencil<double>& stencil, const double* current, double* previous, double* sum, int64_t count,
               int64_t plane_size, const Term& term) {
  walk_rows(stencil, current, previous, sum, count, plane_size, term, 0, stencil.plane.h);
}

template class Stencil<float>;
template class Stencil<double>;
template void walk_rows(const Stencil<float>&, const float*, float*, float*, int64_t, int64_t, const Term&, int64_t,
                        int64_t);
template void walk_rows(const Stencil<double>&, const double*, double*, double*, int64_t, int64_t, const Term&, int64_t,
                        int64_t);

}  // namespace wsis
