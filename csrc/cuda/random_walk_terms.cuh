// What forward and backward of random_walk share on the GPU: weights, degrees, channel table, one term.
#pragma once

#include <algorithm>

#include "common/cuda_launch.h"
#include "common/edge_to_affinity.h"
#include "common/random_walk.h"
#include "cuda/pair_grid.cuh"

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
  const int64_t area = shape.H * shape.W;
  const unsigned at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= area) return;
  for (int64_t b = blockIdx.y; b < shape.B; b += gridDim.y) {
    const PairPixel pixel(b, at, shape.W, 1);
    const float* planes = weights + b * paths.size * area + at;
    double sum = 0;
    for (int p = 0; p < paths.size; ++p) {
      const Cell o = paths.offsets[p];
      sum += planes[p * area];
      if (inside(pixel.y - o.dy, pixel.x - o.dx, shape.H, shape.W))
        sum += planes[p * area - o.dy * shape.W - o.dx];
    }
    degree[b * area + at] = static_cast<float>(sum);
    inverse[b * area + at] = static_cast<float>(1.0 / (1.0 + sum));
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
  struct Entry {
    Cell offset;
    uint16_t plane;
  };
  Entry entries[sizeof(Param::offsets) / sizeof(Cell)];
  int size;

  explicit RasterOrder(const Param& param) : entries(), size(param.size) {
    for (int p = 0; p < size; ++p) entries[p] = {param.offsets[p], static_cast<uint16_t>(p)};
    std::sort(entries, entries + size, [](const Entry& a, const Entry& b) {
      return a.offset.dy != b.offset.dy ? a.offset.dy < b.offset.dy : a.offset.dx < b.offset.dx;
    });
  }
};

// A block takes kGroup channels of one image through a tile: the tile and what surrounds it go to shared memory, so
// each weight is read once per direction for all the channels and each value once for all its neighbours. Five blocks a
// multiprocessor leave 48 registers: with 40, which the compiler would choose, it spills on sm_80.
template <int kGroup, class Order>
__global__ void __launch_bounds__(kThreads, 5)
    term_kernel(const float* RESTRICT weights, const float* RESTRICT degree, const float* RESTRICT inverse,
                const int32_t* RESTRICT sizes, int64_t* table, WalkShape shape, TermArrays arrays,
                TermFactors<float> factors, const __grid_constant__ Order order) {
  constexpr int kQuads = kGroup / 4;
  DYN_SHARED(float4, tile);  // [kQuads, cells], four channels each
  const ChannelChunks chunks(table, shape.M, shape.B);
  const int64_t chunk = blockIdx.x;  // along x: the one number without a bound, and neighbours share their weights
  const int count = static_cast<int>(chunks.count[chunk]);
  if (count == 0) return;
  const int64_t b = chunks.image[chunk];
  const int64_t* channels = chunks.channels + chunks.first[chunk];
  const ImageSize size = image_size(sizes, shape, b);
  // In 32 bits, with products of 64: an image has fewer than 2^31 pixels.
  const int width = static_cast<int>(shape.W), area = static_cast<int>(shape.H * shape.W);
  const int h = static_cast<int>(size.h), w = static_cast<int>(size.w);
  const int top = static_cast<int>(blockIdx.y) * kTileRows, left = static_cast<int>(blockIdx.z) * kTileColumns;
  if (top >= h || left >= w) return;

  const int reach = shape.radius - 1, rows = kTileRows + 2 * reach;
  const int pitch = kTileColumns + 2 * reach, cells = rows * pitch;
  const int row = threadIdx.x / kTileColumns, column = threadIdx.x % kTileColumns;
  for (int r = row; r < rows; r += kTileRows)
    for (int s = column; s < pitch; s += kTileColumns) {
      const int y = top + r - reach, x = left + s - reach;
      const bool exists = y >= 0 && y < h && x >= 0 && x < w;
      const auto value = [&](int c) {
        return exists && c < count ? arrays.now[channels[c] * area + y * width + x] : 0.0f;
      };
#pragma unroll
      for (int q = 0; q < kQuads; ++q)
        tile[q * cells + r * pitch + s] =
            make_float4(value(4 * q), value(4 * q + 1), value(4 * q + 2), value(4 * q + 3));
    }
  __syncthreads();

  const int y = top + row, x = left + column, pixel = y * width + x;
  if (y >= h || x >= w) return;
  const int center = (row + reach) * pitch + column + reach;
  const float* planes = weights + b * order.size * area + pixel;
  float total[kGroup] = {};
  const auto add = [&](float weight, const float4* from) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const float4 value = from[q * cells];
      total[4 * q] = fmaf(weight, value.x, total[4 * q]);
      total[4 * q + 1] = fmaf(weight, value.y, total[4 * q + 1]);
      total[4 * q + 2] = fmaf(weight, value.z, total[4 * q + 2]);
      total[4 * q + 3] = fmaf(weight, value.w, total[4 * q + 3]);
    }
  };
  for (int i = order.size - 1; i >= 0; --i) {
    const Cell o = order.entries[i].offset;
    if (y < o.dy || x < o.dx || x - o.dx >= w) continue;
    add(planes[int64_t(order.entries[i].plane) * area - (o.dy * width + o.dx)],
        tile + center - (o.dy * pitch + o.dx));
  }
  for (int i = 0; i < order.size; ++i) {
    const Cell o = order.entries[i].offset;
    add(planes[int64_t(order.entries[i].plane) * area], tile + center + (o.dy * pitch + o.dx));
  }
  const int64_t at = b * area + pixel;
  const float here = degree[at], share = inverse[at];
  channels = chunks.channels + chunks.first[chunk];  // read again, to hold no register during the sums
#pragma unroll
  for (int c = 0; c < kGroup; ++c) {
    if (c >= count) break;
    const int64_t i = channels[c] * area + pixel;
    const float now = reinterpret_cast<const float*>(tile + c / 4 * cells + center)[c % 4];
    float next = next_term(total[c], here, share, now, arrays.previous[i], factors);
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
  RasterOrder<Param> order{param};

  // `group`: channels of a chunk
  int prepare(const float* boundary, const int64_t* image_index, double beta, int group = kGroup) const {
    const int64_t area = shape.H * shape.W;
    if (const int code = CUDA_LAUNCH(chunk_kernel, dim3(1), dim3(kThreads), 0, stream, image_index, scratch.table,
                                     shape.M, shape.B, max_chunks(shape, group), group))
      return code;
    if (param.size > 0)  // radius 1 has no neighbours
      if (const int code = CUDA_LAUNCH(weights_kernel<Param>, pair_grid(shape.B * param.size, area, kThreads),
                                       dim3(kThreads), 0, stream, boundary, sizes, scratch.weights, shape, beta, param))
        return code;
    return CUDA_LAUNCH(degree_kernel<Param>, pair_grid(shape.B, area, kThreads), dim3(kThreads), 0, stream,
                       scratch.weights, scratch.degree, scratch.inverse, shape, param);
  }

  int term(const TermArrays& arrays, double scale, double previous_scale) const {
    if (shape.M == 0) return 0;
    const TermFactors<float> factors{static_cast<float>(scale), static_cast<float>(scale - previous_scale),
                                     static_cast<float>(previous_scale)};
    const dim3 grid(static_cast<unsigned>(max_chunks(shape, kGroup)), grid_for(shape.H, kTileRows),
                    grid_for(shape.W, kTileColumns));
    return CUDA_LAUNCH((term_kernel<kGroup, RasterOrder<Param>>), grid, dim3(kThreads), tile_bytes<kGroup>(shape.radius), stream,
                       scratch.weights, scratch.degree, scratch.inverse, sizes, scratch.table, shape, arrays, factors,
                       order);
  }
};

}  // namespace walk
}  // namespace wsis
