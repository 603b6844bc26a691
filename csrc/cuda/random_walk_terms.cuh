// What forward and backward of random_walk share on the GPU: weights, degrees, channel table, one term.
#pragma once

#include <algorithm>

#include "common/cuda_launch.h"
#include "common/edge_to_affinity.h"
#include "common/random_walk.h"

namespace wsis {
namespace walk {

constexpr int kThreads = 256;
constexpr int kTileRows = 8, kTileColumns = 32;

struct ImageSize {
  int64_t h, w;
};

__device__ __forceinline__ ImageSize image_size(const int32_t* sizes, const WalkShape& shape, int64_t b) {
  if (!sizes) return {shape.H, shape.W};
  const int64_t h = sizes[2 * b], w = sizes[2 * b + 1];
  return {h < shape.H ? h : shape.H, w < shape.W ? w : shape.W};
}

// Entry i of [M, H, W]: its channel, image, and pixel y W + x; `exists` says whether it lies inside that image.
struct ChannelPixel {
  int64_t image, at;  // at: the pixel's place in [B, H, W]
  bool exists;

  __device__ __forceinline__ ChannelPixel(int64_t i, const int64_t* image_index, const int32_t* sizes,
                                          const WalkShape& shape) {
    const int64_t area = shape.H * shape.W, channel = i / area;
    const unsigned pixel = static_cast<unsigned>(i - channel * area), row = pixel / static_cast<unsigned>(shape.W);
    image = image_index[channel];
    at = image * area + pixel;
    exists = image >= 0 && image < shape.B;
    if (!exists) return;
    const ImageSize size = image_size(sizes, shape, image);
    exists = row < size.h && pixel - row * static_cast<unsigned>(shape.W) < size.w;
  }
};

// Where a thread of a grid over the planes [B, P] (y) and their pixels (x) is: entry `at` = y W + x of plane b P + p.
// Divisions in 32 bits: an image has fewer than 2^31 pixels.
struct PairPixel {
  int64_t b, y, x, at;
  int p;

  __device__ __forceinline__ PairPixel(int64_t plane, unsigned pixel, int64_t W, int offsets) {
    const unsigned row = pixel / static_cast<unsigned>(W);
    at = pixel;
    y = row;
    x = pixel - row * static_cast<unsigned>(W);
    b = static_cast<unsigned>(plane) / static_cast<unsigned>(offsets);
    p = static_cast<int>(plane - b * offsets);
  }
};

inline dim3 pair_grid(int64_t planes, int64_t area) {
  return dim3(grid_for(area, kThreads), static_cast<unsigned>(planes < 65535 ? planes : 65535));
}

// The channels of each image, in chunks that one block takes through a term. `memory` holds walk_table_size entries.
struct ChannelChunks {
  int64_t *channels, *start, *chunk_start, *image, *first, *count;

  HOST_DEVICE ChannelChunks(int64_t* memory, int64_t M, int64_t B)
      : channels(memory),
        start(channels + M),
        chunk_start(start + B + 1),
        image(chunk_start + B + 1),
        first(image + M + B),
        count(first + M + B) {}
};

// Most chunks there can be: one is left incomplete by each image.
inline int64_t max_chunks(const WalkShape& shape, int group) {
  return shape.M / group + (shape.B < shape.M ? shape.B : shape.M);
}

// One block. image_index: [M]; entries that name no image are left out.
static __global__ void __launch_bounds__(kThreads)
    chunk_kernel(const int64_t* RESTRICT image_index, int64_t* memory, int64_t M, int64_t B, int64_t chunks,
                 int group) {
  const ChannelChunks t(memory, M, B);
  for (int64_t b = threadIdx.x; b < B; b += kThreads) {
    int64_t count = 0;
    for (int64_t m = 0; m < M; ++m) count += image_index[m] == b;
    t.start[b + 1] = count;
  }
  for (int64_t i = threadIdx.x; i < chunks; i += kThreads) t.count[i] = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    t.start[0] = t.chunk_start[0] = 0;
    for (int64_t b = 0; b < B; ++b) {
      t.chunk_start[b + 1] = t.chunk_start[b] + (t.start[b + 1] + group - 1) / group;
      t.start[b + 1] += t.start[b];
    }
  }
  __syncthreads();
  for (int64_t b = threadIdx.x; b < B; b += kThreads) {
    int64_t next = t.start[b];
    for (int64_t m = 0; m < M; ++m)
      if (image_index[m] == b) t.channels[next++] = m;
    for (int64_t i = t.chunk_start[b]; i < t.chunk_start[b + 1]; ++i) {
      t.image[i] = b;
      t.first[i] = t.start[b] + (i - t.chunk_start[b]) * group;
      t.count[i] = t.start[b + 1] - t.first[i] < group ? t.start[b + 1] - t.first[i] : group;
    }
  }
}

// boundary: [B, H, W] -> weights: [B, P, H, W]; 0 where the pair leaves the image.
template <class Param>
__global__ void __launch_bounds__(kThreads)
    weights_kernel(const float* RESTRICT boundary, const int32_t* RESTRICT sizes, float* RESTRICT weights,
                   WalkShape shape, double beta, const __grid_constant__ Param param) {
  const PathView paths = param.view();
  const int64_t area = shape.H * shape.W;
  const unsigned at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= area) return;
  for (int64_t plane = blockIdx.y; plane < shape.B * paths.size; plane += gridDim.y) {
    const PairPixel pixel(plane, at, shape.W, paths.size);
    const Cell o = paths.offsets[pixel.p];
    const ImageSize size = image_size(sizes, shape, pixel.b);
    float weight = 0;
    if (pixel.y < size.h && pixel.x < size.w && inside(pixel.y + o.dy, pixel.x + o.dx, size.h, size.w)) {
      const float maximum = path_maximum(boundary + pixel.b * area, shape.W, pixel.y, pixel.x, paths.path(pixel.p),
                                         paths.length(pixel.p))
                                .value;
      weight = edge_weight(1.0f - maximum, beta);
    }
    weights[plane * area + at] = weight;
  }
}

// degree: sum of the weights at a pixel without itself; inverse: 1 / (1 + degree). Summed in double.
template <class Param>
__global__ void __launch_bounds__(kThreads)
    degree_kernel(const float* RESTRICT weights, float* RESTRICT degree, float* RESTRICT inverse, WalkShape shape,
                  const __grid_constant__ Param param) {
  const PathView paths = param.view();
  const int64_t area = shape.H * shape.W, total = shape.B * area;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const int64_t x = i % shape.W, y = i / shape.W % shape.H, b = i / area;
    const float* planes = weights + b * paths.size * area;
    double sum = 0;
    for (int p = 0; p < paths.size; ++p) {
      const int64_t sy = y - paths.offsets[p].dy, sx = x - paths.offsets[p].dx;
      sum += planes[p * area + y * shape.W + x];
      if (inside(sy, sx, shape.H, shape.W)) sum += planes[p * area + sy * shape.W + sx];
    }
    degree[i] = static_cast<float>(sum);
    inverse[i] = static_cast<float>(1.0 / (1.0 + sum));
  }
}

// One term for all channels: next = scale W now - previous_scale previous + source_weight source, sum += weight next.
// [M, H, W] each; `next` may be `previous`; `sum` and `source` may be null.
struct TermArrays {
  const float* now;
  const float* previous;
  float* next;
  float* sum;
  const float* source;
  float weight, source_weight;
};

template <int kGroup>
inline int64_t tile_bytes(int radius) {
  return int64_t(kGroup) * (kTileRows + 2 * (radius - 1)) * (kTileColumns + 2 * (radius - 1)) * sizeof(float);
}

// The offsets of a Param in raster order, in which neighbours are summed: then every design rounds alike.
template <class Param>
struct RasterOrder {
  uint16_t p[sizeof(Param::offsets) / sizeof(Cell)];

  explicit RasterOrder(const Param& param) : p() {
    for (int i = 0; i < param.size; ++i) p[i] = static_cast<uint16_t>(i);
    std::sort(p, p + param.size, [&](int a, int b) {
      const Cell m = param.offsets[a], n = param.offsets[b];
      return m.dy != n.dy ? m.dy < n.dy : m.dx < n.dx;
    });
  }
};

// A block takes kGroup channels of one image through a tile: the tile and what surrounds it go to shared memory, so
// each weight is read once per direction for all the channels and each value once for all its neighbours.
template <int kGroup, class Param>
__global__ void __launch_bounds__(kThreads)
    term_kernel(const float* RESTRICT weights, const float* RESTRICT degree, const float* RESTRICT inverse,
                const int32_t* RESTRICT sizes, int64_t* table, WalkShape shape, TermArrays arrays,
                TermFactors<float> factors, const __grid_constant__ Param param,
                const __grid_constant__ RasterOrder<Param> order) {
  DYN_SHARED(float, tile);
  const PathView paths = param.view();
  const ChannelChunks chunks(table, shape.M, shape.B);
  const int64_t chunk = blockIdx.z;
  const int count = static_cast<int>(chunks.count[chunk]);
  if (count == 0) return;
  const int64_t b = chunks.image[chunk], area = shape.H * shape.W;
  const int64_t* channels = chunks.channels + chunks.first[chunk];
  const ImageSize size = image_size(sizes, shape, b);
  const int64_t top = int64_t(blockIdx.y) * kTileRows, left = int64_t(blockIdx.x) * kTileColumns;
  if (top >= size.h || left >= size.w) return;

  const int reach = shape.radius - 1;
  const int pitch = kTileColumns + 2 * reach, cells = (kTileRows + 2 * reach) * pitch;
  for (int i = threadIdx.x; i < cells; i += kThreads) {
    const int64_t y = top + i / pitch - reach, x = left + i % pitch - reach;
    const bool exists = inside(y, x, size.h, size.w);
    for (int c = 0; c < kGroup; ++c)
      tile[c * cells + i] = exists && c < count ? arrays.now[channels[c] * area + y * shape.W + x] : 0.0f;
  }
  __syncthreads();

  const int row = threadIdx.x / kTileColumns, column = threadIdx.x % kTileColumns;
  const int64_t y = top + row, x = left + column, pixel = y * shape.W + x;
  if (y >= size.h || x >= size.w) return;
  const int center = (row + reach) * pitch + column + reach;
  const float* planes = weights + b * paths.size * area + pixel;
  float total[kGroup] = {};
  for (int i = paths.size - 1; i >= 0; --i) {
    const int p = order.p[i];
    const Cell o = paths.offsets[p];
    if (!inside(y - o.dy, x - o.dx, size.h, size.w)) continue;
    const float above = planes[p * area - o.dy * shape.W - o.dx];
    const float* from = tile + center - (o.dy * pitch + o.dx);
#pragma unroll
    for (int c = 0; c < kGroup; ++c) total[c] = fmaf(above, from[c * cells], total[c]);
  }
  for (int i = 0; i < paths.size; ++i) {
    const int p = order.p[i];
    const float below = planes[p * area];
    const float* from = tile + center + (paths.offsets[p].dy * pitch + paths.offsets[p].dx);
#pragma unroll
    for (int c = 0; c < kGroup; ++c) total[c] = fmaf(below, from[c * cells], total[c]);
  }
#pragma unroll
  for (int c = 0; c < kGroup; ++c) {
    if (c >= count) break;
    const int64_t i = channels[c] * area + pixel, j = b * area + pixel;
    float next = next_term(total[c], degree[j], inverse[j], tile[c * cells + center], arrays.previous[i], factors);
    if (arrays.source) next += arrays.source_weight * arrays.source[i];
    arrays.next[i] = next;
    if (arrays.sum) arrays.sum[i] += arrays.weight * next;
  }
}

// What a call computes once: host-side view used to launch everything else.
template <class Param>
struct Walker {
  static constexpr int kGroup = sizeof(Param) == sizeof(PathParam5) ? 8 : 4;
  WalkShape shape;
  const int32_t* sizes;
  WalkScratch scratch;
  Param param;
  cudaStream_t stream;

  // `group`: channels of a chunk
  int prepare(const float* boundary, const int64_t* image_index, double beta, int group = kGroup) const {
    const int64_t area = shape.H * shape.W;
    if (const int code = CUDA_LAUNCH(chunk_kernel, dim3(1), dim3(kThreads), 0, stream, image_index, scratch.table,
                                     shape.M, shape.B, max_chunks(shape, group), group))
      return code;
    if (param.size > 0)  // radius 1 has no neighbours
      if (const int code = CUDA_LAUNCH(weights_kernel<Param>, pair_grid(shape.B * param.size, area), dim3(kThreads), 0,
                                       stream, boundary, sizes, scratch.weights, shape, beta, param))
        return code;
    return CUDA_LAUNCH(degree_kernel<Param>, dim3(grid_for(shape.B * area, kThreads)), dim3(kThreads), 0, stream,
                       scratch.weights, scratch.degree, scratch.inverse, shape, param);
  }

  int term(const TermArrays& arrays, double scale, double previous_scale) const {
    if (shape.M == 0) return 0;
    const TermFactors<float> factors{static_cast<float>(scale), static_cast<float>(scale - previous_scale),
                                     static_cast<float>(previous_scale)};
    const dim3 grid(grid_for(shape.W, kTileColumns), grid_for(shape.H, kTileRows),
                    static_cast<unsigned>(max_chunks(shape, kGroup)));
    return CUDA_LAUNCH((term_kernel<kGroup, Param>), grid, dim3(kThreads), tile_bytes<kGroup>(shape.radius), stream,
                       scratch.weights, scratch.degree, scratch.inverse, sizes, scratch.table, shape, arrays, factors,
                       param, RasterOrder<Param>(param));
  }
};

}  // namespace walk
}  // namespace wsis
