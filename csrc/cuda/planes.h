// One thread, one pixel, for maps of many images: no block belongs to two of them, so that a thread knows where it is
// after divisions of 32 bits, which take a third of the instructions of those of 64.
#pragma once

#include <cstdint>

#include "common/cuda_launch.h"

namespace wsis {
namespace {

struct PlanePixel {
  int64_t plane;
  uint32_t index;  // within the plane; beyond its end in the threads left over in its last block
};

// planes of `pixels` < 2^31, in blocks of `block` threads, each thread with `each` pixels `block` apart.
__device__ __forceinline__ PlanePixel pixel_of_thread(int64_t pixels, uint32_t block, uint32_t each = 1) {
  const uint32_t per_block = block * each, blocks = (static_cast<uint32_t>(pixels) + per_block - 1) / per_block;
  const uint32_t plane = blockIdx.x / blocks;
  return {plane, (blockIdx.x - plane * blocks) * per_block + threadIdx.x};
}

// Row and column of a pixel in an image of this width.
struct Place {
  uint32_t y, x;
};
__device__ __forceinline__ Place place_of(uint32_t index, int64_t width) {
  const auto columns = static_cast<uint32_t>(width);
  return {index / columns, index % columns};
}

// With `first` where runs of a warp's 32 pixels begin: the pixels of the run from this lane on. The whole warp calls it.
__device__ __forceinline__ int run_length(bool first) {
  const int lane = threadIdx.x & 31;
  const unsigned later = __ballot_sync(kFullWarp, first) & ~(kFullWarp >> (31 - lane));
  return (later ? __ffs(static_cast<int>(later)) - 1 : 32) - lane;
}

// The blocks that this takes; 0, which a launch refuses, if they are more than a grid can have.
inline unsigned plane_grid(int64_t planes, int64_t pixels, int block) {
  const int64_t blocks = planes * ((pixels + block - 1) / block);
  return static_cast<unsigned>(blocks > kMaxGrid ? 0 : blocks);
}

}  // namespace
}  // namespace wsis
