// A grid over the planes [B, P] of pairs (blocks along y) and the pixels of an image (along x).
#pragma once

#include "common/macros.h"
#include "cuda/planes.h"

namespace wsis {

constexpr int64_t kMostPlanes = 65535;  // blocks along y; further planes are taken in turn

inline dim3 pair_grid(int64_t planes, int64_t area, int block) {
  return dim3(grid_for(area, block), static_cast<unsigned>(planes < kMostPlanes ? planes : kMostPlanes));
}

// Where a thread of such a grid is: entry `at` = y W + x of plane b P + p. Divisions in 32 bits: an image has fewer
// than 2^31 pixels, a batch fewer than 2^32 planes.
struct PairPixel {
  int64_t b, y, x, at;
  int p;

  __device__ __forceinline__ PairPixel(int64_t plane, unsigned pixel, int64_t W, int offsets) {
    const Place place = place_of(pixel, W);
    at = pixel;
    y = place.y;
    x = place.x;
    b = static_cast<unsigned>(plane) / static_cast<unsigned>(offsets);
    p = static_cast<int>(plane - b * offsets);
  }
};

}  // namespace wsis
