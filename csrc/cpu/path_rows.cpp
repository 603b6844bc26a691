#include "cpu/path_rows.h"

#include <vector>

#include "common/macros.h"

#define INLINE inline __attribute__((always_inline))

namespace wsis {
namespace {

constexpr int64_t kStride = 16;  // columns a step of the loops takes: no remainder, as rows are padded to it
static_assert(kRowMultiple % kStride == 0);

// One cell of the path against the maxima so far; a NaN is the maximum, as in torch.
template <class T>
INLINE void take_larger(const T* cells, int64_t columns, T* RESTRICT best) {
  for (int64_t x = 0; x < columns; x += kStride)
    for (int64_t i = x; i < x + kStride; ++i) {
      const T v = cells[i], m = best[i];
      best[i] = (v <= m) | (m != m) ? m : v;
    }
}

template <class T>
INLINE void path_maximum(const T* boundary, int64_t pitch, int64_t columns, const Cell* path, int length,
                         T* RESTRICT row) {
  std::copy_n(boundary + path[0].dy * pitch + path[0].dx, columns, row);
  for (int k = 1; k < length; ++k) take_larger(boundary + path[k].dy * pitch + path[k].dx, columns, row);
  for (int64_t x = 0; x < columns; ++x) row[x] = T(1) - row[x];
}

template <class T>
INLINE void path_argmax(const T* boundary, int64_t pitch, int64_t columns, const Cell* path, int length,
                        T* RESTRICT best, int32_t* RESTRICT place) {
  std::copy_n(boundary + path[0].dy * pitch + path[0].dx, columns, best);
  std::fill_n(place, columns, 0);
  for (int k = 1; k < length; ++k) {
    const T* cells = boundary + path[k].dy * pitch + path[k].dx;
    for (int64_t x = 0; x < columns; x += kStride)
      for (int64_t i = x; i < x + kStride; ++i) {
        const T v = cells[i], m = best[i];
        const bool keep = (v <= m) | (m != m);
        best[i] = keep ? m : v;
        place[i] = keep ? place[i] : k;
      }
  }
}

#define WSIS_ROW_LOOPS(T)                                                                                          \
  CPU_CLONES void maximum_##T(const T* boundary, int64_t pitch, int64_t columns, const Cell* path, int length,     \
                              T* RESTRICT row) {                                                                   \
    path_maximum(boundary, pitch, columns, path, length, row);                                                     \
  }                                                                                                                \
  CPU_CLONES void argmax_##T(const T* boundary, int64_t pitch, int64_t columns, const Cell* path, int length,      \
                             T* RESTRICT best, int32_t* RESTRICT place) {                                          \
    path_argmax(boundary, pitch, columns, path, length, best, place);                                                  \
  }                                                                                                                \
  INLINE void maximum(const T* boundary, int64_t pitch, int64_t columns, const Cell* path, int length, T* row) {   \
    maximum_##T(boundary, pitch, columns, path, length, row);                                                      \
  }                                                                                                                \
  INLINE void argmax(const T* boundary, int64_t pitch, int64_t columns, const Cell* path, int length,              \
                     T* best, int32_t* place) {                                                                    \
    argmax_##T(boundary, pitch, columns, path, length, best, place);                                               \
  }
WSIS_ROW_LOOPS(float)
WSIS_ROW_LOOPS(double)
#undef WSIS_ROW_LOOPS

// grad[x + dx of cell k] -= grad_pair[x] where the maximum lies at cell k.
template <class T>
INLINE void subtract_at(const T* grad_pair, const int32_t* place, int k, T* RESTRICT grad, int64_t count) {
  for (int64_t x = 0; x < count; ++x) grad[x] -= place[x] == k ? grad_pair[x] : T(0);
}

CPU_CLONES void subtract_row(const float* grad_pair, const int32_t* place, int k, float* RESTRICT grad,
                             int64_t count) {
  subtract_at(grad_pair, place, k, grad, count);
}

CPU_CLONES void subtract_row(const double* grad_pair, const int32_t* place, int k, double* RESTRICT grad,
                             int64_t count) {
  subtract_at(grad_pair, place, k, grad, count);
}

}  // namespace

template <class T>
void affinity_row(const T* boundary, const Plane& plane, int64_t y, const Cell* path, int length, Cell offset,
                  T* row) {
  const Span span = pair_span(plane, y, offset);
  if (!span.empty()) maximum(boundary + plane.at(y), plane.pitch, plane.columns, path, length, row);
  std::fill(row, row + span.first, T(0));
  std::fill(row + span.last, row + plane.columns, T(0));
}

template <class T>
void path_argmax_row(const T* boundary, const Plane& plane, int64_t y, const Cell* path, int length, Cell offset,
                     T* best, int32_t* cell) {
  const Span span = pair_span(plane, y, offset);
  if (!span.empty()) argmax(boundary + plane.at(y), plane.pitch, plane.columns, path, length, best, cell);
  std::fill(cell, cell + span.first, -1);
  std::fill(cell + span.last, cell + plane.columns, -1);
}

// For each offset the maxima of the pairs that touch the rows are located once, then each cell of the path takes what
// is its own.
template <class T>
void path_gradient_rows(const T* grad_affinity, const T* boundary, const Plane& plane, const PathView& paths,
                        int64_t first, int64_t last, T* grad_boundary, int64_t stride) {
  Buffer<T> rows((last - first) * plane.pitch + plane.margin, T(0)), best(plane.columns);
  const int64_t above = std::min<int64_t>(first, kMaxRadius - 1);
  std::vector<int32_t> places((last - first + above) * plane.columns);
  for (int p = 0; p < paths.size; ++p) {
    const Cell offset = paths.offsets[p];
    const int64_t top = std::max<int64_t>(0, first - offset.dy), bottom = std::min(last, plane.h - offset.dy);
    for (int64_t y = top; y < bottom; ++y)
      path_argmax_row(boundary, plane, y, paths.path(p), paths.length(p), offset, best.data(),
                      places.data() + (y - top) * plane.columns);
    for (int k = 0; k < paths.length(p); ++k) {
      const Cell cell = paths.path(p)[k];
      for (int64_t y = std::max(top, first - cell.dy); y < std::min(bottom, last - cell.dy); ++y)
        subtract_row(grad_affinity + (p * plane.h + y) * plane.w, places.data() + (y - top) * plane.columns, k,
                     rows.data() + (y + cell.dy - first) * plane.pitch + plane.margin + cell.dx, plane.w);
    }
  }
  for (int64_t y = first; y < last; ++y)
    std::copy_n(rows.data() + (y - first) * plane.pitch + plane.margin, plane.w, grad_boundary + y * stride);
}

template void affinity_row(const float*, const Plane&, int64_t, const Cell*, int, Cell, float*);
template void affinity_row(const double*, const Plane&, int64_t, const Cell*, int, Cell, double*);
template void path_argmax_row(const float*, const Plane&, int64_t, const Cell*, int, Cell, float*, int32_t*);
template void path_argmax_row(const double*, const Plane&, int64_t, const Cell*, int, Cell, double*, int32_t*);
template void path_gradient_rows(const float*, const float*, const Plane&, const PathView&, int64_t, int64_t, float*,
                                 int64_t);
template void path_gradient_rows(const double*, const double*, const Plane&, const PathView&, int64_t, int64_t,
                                 double*, int64_t);

}  // namespace wsis
