// edge_to_affinity: host functions and the per-element bodies that CPU and GPU share.
#pragma once

#include "common/macros.h"
#include "common/neighbors.h"

namespace wsis {

// boundary [B, h, w] -> affinity [B, P, h, w]; T is float or double on the CPU, float on the GPU.
template <class T>
void edge_to_affinity_cpu(const T* boundary, T* affinity, int64_t B, int64_t h, int64_t w, int radius);
int edge_to_affinity_cuda(const float* boundary, float* affinity, int64_t B, int64_t h, int64_t w, int radius,
                          void* stream);

// grad_affinity [B, P, h, w], boundary [B, h, w] -> grad_boundary [B, h, w]
template <class T>
void edge_to_affinity_backward_cpu(const T* grad_affinity, const T* boundary, T* grad_boundary, int64_t B, int64_t h,
                                   int64_t w, int radius);
int edge_to_affinity_backward_cuda(const float* grad_affinity, const float* boundary, float* grad_boundary, int64_t B,
                                   int64_t h, int64_t w, int radius, void* stream);

HOST_DEVICE bool inside(int64_t y, int64_t x, int64_t h, int64_t w) { return y >= 0 && y < h && x >= 0 && x < w; }

// Largest boundary value on a path that starts at (y, x), and which of its cells holds it (the first of equals).
// A NaN on the path is the maximum, as in torch.
template <class T>
struct PathMaximum {
  T value;
  int cell;
};

template <class T>
HOST_DEVICE PathMaximum<T> path_maximum(const T* boundary, int64_t w, int64_t y, int64_t x, const Cell* path,
                                        int length) {
  const T* start = boundary + y * w + x;
  const int row = static_cast<int>(w);  // an image has fewer than 2^31 pixels
  PathMaximum<T> best{start[int64_t(path[0].dy) * row + path[0].dx], 0};
  for (int k = 1; k < length; ++k) {
    const T v = start[int64_t(path[k].dy) * row + path[k].dx];
    if (v > best.value || (v != v && best.value == best.value)) best = {v, k};
  }
  return best;
}

// boundary: [h, w] of one image. Affinity of (y, x) and (y, x) + offsets[p]; 0 where that leaves the image.
template <class T>
HOST_DEVICE T pair_affinity(const T* boundary, int64_t h, int64_t w, int64_t y, int64_t x, const PathView& paths,
                            int p) {
  if (!inside(y + paths.offsets[p].dy, x + paths.offsets[p].dx, h, w)) return T(0);
  return T(1) - path_maximum(boundary, w, y, x, paths.path(p), paths.length(p)).value;
}

// grad_affinity: [P] planes of `plane` values, boundary: one image, both with rows `stride` apart of which h x w count.
// Gathers, in a fixed order, the gradients of all pairs whose path maximum lies at (y, x).
template <class T>
HOST_DEVICE T boundary_gradient(const T* grad_affinity, const T* boundary, int64_t h, int64_t w, int64_t plane,
                                int64_t stride, int64_t y, int64_t x, const PathView& paths) {
  T sum = T(0);
  for (int p = 0; p < paths.size; ++p) {
    const Cell* path = paths.path(p);
    const int length = paths.length(p);
    for (int k = 0; k < length; ++k) {
      const int64_t sy = y - path[k].dy, sx = x - path[k].dx;
      if (!inside(sy, sx, h, w) || !inside(sy + paths.offsets[p].dy, sx + paths.offsets[p].dx, h, w)) continue;
      if (path_maximum(boundary, stride, sy, sx, path, length).cell == k)
        sum -= grad_affinity[p * plane + sy * stride + sx];
    }
  }
  return sum;
}

}  // namespace wsis
