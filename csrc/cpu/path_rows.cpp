#include "cpu/path_rows.h"

namespace wsis {
namespace {

// maximum[x] = largest of cells[k][x], k < length; a NaN is the maximum, as in torch.
template <class T>
inline __attribute__((always_inline)) void path_maximum(const T* boundary, int64_t stride, int64_t y, const Cell* path,
                                                        int length, Span span, T* maximum) {
  const T* first = boundary + (y + path[0].dy) * stride + path[0].dx;
  for (int64_t x = span.first; x < span.last; ++x) maximum[x] = first[x];
  for (int k = 1; k < length; ++k) {
    const T* cells = boundary + (y + path[k].dy) * stride + path[k].dx;
    for (int64_t x = span.first; x < span.last; ++x) {
      const T v = cells[x], m = maximum[x];
      maximum[x] = v <= m || m != m ? m : v;
    }
  }
  for (int64_t x = span.first; x < span.last; ++x) maximum[x] = T(1) - maximum[x];
}

CPU_CLONES void path_maximum_float(const float* boundary, int64_t stride, int64_t y, const Cell* path, int length,
                                   Span span, float* RESTRICT maximum) {
  path_maximum(boundary, stride, y, path, length, span, maximum);
}

CPU_CLONES void path_maximum_double(const double* boundary, int64_t stride, int64_t y, const Cell* path, int length,
                                    Span span, double* RESTRICT maximum) {
  path_maximum(boundary, stride, y, path, length, span, maximum);
}

template <class T>
Span clear_outside(int64_t h, int64_t w, int64_t y, Cell offset, T* row) {
  Span span = pair_span(h, w, y, offset);
  if (span.first >= span.last) span = {0, 0};
  std::fill(row, row + span.first, T(0));
  std::fill(row + span.last, row + w, T(0));
  return span;
}

}  // namespace

void affinity_row(const float* boundary, int64_t stride, int64_t h, int64_t w, int64_t y, const PathView& paths, int p,
                  float* row) {
  const Span span = clear_outside(h, w, y, paths.offsets[p], row);
  if (span.first < span.last) path_maximum_float(boundary, stride, y, paths.path(p), paths.length(p), span, row);
}

void affinity_row(const double* boundary, int64_t stride, int64_t h, int64_t w, int64_t y, const PathView& paths, int p,
                  double* row) {
  const Span span = clear_outside(h, w, y, paths.offsets[p], row);
  if (span.first < span.last) path_maximum_double(boundary, stride, y, paths.path(p), paths.length(p), span, row);
}

}  // namespace wsis
