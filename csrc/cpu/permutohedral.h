// A permutohedral lattice over the pixels of one image, and filtering with it.
#pragma once

#include <cstdint>
#include <vector>

#include "common/dense_crf.h"
#include "cpu/buffer.h"

namespace wsis {

constexpr int kNormPadding = 16;  // norms that may be read beyond the last pixel

// Vertices are numbered 0..vertices-1 in the order in which the pixels, row by row, touch them.
struct Lattice {
  int corners = 0;                // d + 1: vertices around a pixel, and axes to blur along
  int64_t pixels = 0, vertices = 0;
  Buffer<int32_t> ids;            // [pixels, corners] vertex
  Buffer<float> weights;          // [pixels, corners] its barycentric weight
  // Runs of neighbouring vertices along each axis, one after the other, the last of a run as ~vertex. A vertex
  // without neighbour on an axis is not in its list: blurring leaves it as it is.
  std::vector<std::vector<int32_t>> runs;  // [corners]
  Buffer<float> norm;             // [pixels + kNormPadding] m = 1 / sqrt(G(1) + 1e-20)

  // For splatting with several threads: the entries (pixel * corners + corner) of each vertex in pixel order.
  std::vector<int64_t> entry_start;  // [vertices + 1]
  std::vector<int32_t> entries;
};

// Pixels of an image of size h x w, taken from planes [3, *, W] with `plane` bytes between them.
struct PixelSource {
  const uint8_t* image;
  int64_t plane, stride;
  int h, w;
};

// `split` prepares the lattice for filtering by several threads.
Lattice build_spatial_lattice(const PixelSource& source, float sxy, bool split);
Lattice build_bilateral_lattice(const PixelSource& source, float sxy, float srgb, bool split);

// Values travel in rows of `width` floats, a multiple of 4, up to 4, or a multiple of 8.

// values [vertices, width] += weights * (norm * rows), pixels [first, first + count), rows [count, width]
void splat(const Lattice& lattice, int64_t first, int64_t count, const float* rows, int width, float* values);

// The same for the vertices [begin, end) and all pixels, in the same order of additions; rows [pixels, width].
// Sets the values, which need no clearing before.
void splat_vertices(const Lattice& lattice, int64_t begin, int64_t end, const float* rows, int width, float* values);

// Blurs along one axis, in place: the runs that begin in [begin, end) of the list.
void blur_axis(const Lattice& lattice, int axis, int64_t begin, int64_t end, int width, float* values);

// rows [count, width] = sum of weights * values
void slice(const Lattice& lattice, int64_t first, int64_t count, const float* values, int width, float* rows);

}  // namespace wsis
