// Path maxima of whole rows of pixels at a time, vectorised along x (edge_to_affinity, random_walk).
#pragma once

#include "common/neighbors.h"
#include "cpu/plane.h"

namespace wsis {

// The x of row y whose partner (y + dy, x + dx) lies inside; empty (first == last) when there is none.
struct Span {
  int64_t first, last;

  bool empty() const { return first >= last; }
};

inline Span pair_span(const Plane& plane, int64_t y, Cell offset) {
  const Span span{std::max<int64_t>(0, -offset.dx), std::min<int64_t>(plane.w, plane.w - offset.dx)};
  return y + offset.dy >= plane.h || span.empty() ? Span{0, 0} : span;
}

// boundary: a padded plane. row[x]: affinity of (y, x) and its partner at the end of `path`, 0 where that leaves the
// image; x runs over all plane.columns.
template <class T>
void affinity_row(const T* boundary, const Plane& plane, int64_t y, const Cell* path, int length, Cell offset, T* row);

// cell[x]: which cell of the path holds the maximum, the first of equals; -1 where the partner leaves the image.
// best: scratch of plane.columns values.
template <class T>
void path_argmax_row(const T* boundary, const Plane& plane, int64_t y, const Cell* path, int length, Cell offset,
                     T* best, int32_t* cell);

// The rows [first, last) of grad_boundary (`stride` apart) from grad_affinity [P, h, w]: what each pair passes to the
// cell of its maximum. The order of the sums (offset, then cell) does not depend on the rows asked for.
template <class T>
void path_gradient_rows(const T* grad_affinity, const T* boundary, const Plane& plane, const PathView& paths,
                        int64_t first, int64_t last, T* grad_boundary, int64_t stride);

}  // namespace wsis
