// Path maxima of whole rows of pixels at a time, vectorised along x (edge_to_affinity, random_walk).
#pragma once

#include <algorithm>

#include "common/neighbors.h"

namespace wsis {

// boundary: [h, w] of one image with rows `stride` apart. row[x], x in [0, w): affinity of (y, x) and
// (y, x) + offsets[p], 0 where that leaves the image.
void affinity_row(const float* boundary, int64_t stride, int64_t h, int64_t w, int64_t y, const PathView& paths, int p,
                  float* row);
void affinity_row(const double* boundary, int64_t stride, int64_t h, int64_t w, int64_t y, const PathView& paths, int p,
                  double* row);

// The x of row y whose partner (y + dy, x + dx) lies inside; empty (first >= last) when there is none.
struct Span {
  int64_t first, last;
};

inline Span pair_span(int64_t h, int64_t w, int64_t y, Cell offset) {
  if (y + offset.dy >= h) return {0, 0};
  return {std::max<int64_t>(0, -offset.dx), std::min<int64_t>(w, w - offset.dx)};
}

}  // namespace wsis
