#include <algorithm>

#include "common/cuda_launch.h"
#include "common/inter_pixel_loss.h"
#include "cuda/pair_grid.cuh"

namespace wsis {
namespace {

constexpr int kTileRows = 8, kTileColumns = 32, kTileThreads = kTileRows * kTileColumns;
constexpr int kSumThreads = 256, kWarp = 32;

// The cells that the pairs of one tile of sources touch: radius - 1 more rows below, radius - 1 more columns on either
// side. Planes of `cells` entries in shared memory.
struct Tile {
  float *logits, *dy, *dx;
  int32_t *same, *different, *signs;
  uint8_t* seeds;
  int pitch, cells;

  __device__ Tile(unsigned char* memory, int radius)
      : pitch(pitch_for(radius)), cells((kTileRows + radius - 1) * pitch) {
    logits = reinterpret_cast<float*>(memory);
    dy = logits + cells;
    dx = dy + cells;
    same = reinterpret_cast<int32_t*>(dx + cells);
    different = same + cells;
    signs = different + cells;
    seeds = reinterpret_cast<uint8_t*>(signs + cells);
  }
  HOST_DEVICE static int pitch_for(int radius) { return kTileColumns + 2 * (radius - 1); }
  static size_t bytes(int radius) {
    const size_t cells = static_cast<size_t>(kTileRows + radius - 1) * pitch_for(radius);
    return cells * (3 * sizeof(float) + 3 * sizeof(int32_t) + 1);
  }
};

// A PathTable by value, as a __grid_constant__ kernel parameter, its cells as distances in a plane of a tile.
template <int kOffsets, int kCells>
struct TilePaths {
  Cell offsets[kOffsets];
  int16_t targets[kOffsets], cells[kCells];
  uint16_t start[kOffsets + 1];
  int size;

  TilePaths(const PathTable& table, int pitch) : size(static_cast<int>(table.size())) {
    const auto distance = [pitch](Cell c) { return static_cast<int16_t>(c.dy * pitch + c.dx); };
    std::copy(table.offsets.begin(), table.offsets.end(), offsets);
    std::transform(table.offsets.begin(), table.offsets.end(), targets, distance);
    std::transform(table.cells.begin(), table.cells.end(), cells, distance);
    std::copy(table.start.begin(), table.start.end(), start);
  }
};
using TilePaths5 = TilePaths<34, 242>;
using TilePaths10 = TilePaths<152, 2134>;
using TilePaths16 = TilePaths<396, 8736>;

// All pairs of one source, in the tile's shared memory; returns its sum of sign * offset.
template <class Paths>
__device__ int count_source(const Tile& tile, const Paths& paths, int source) {
  const uint8_t own = tile.seeds[source];
  if (own == kIgnoreSeed) return 0;
  const float own_dy = tile.dy[source], own_dx = tile.dx[source];
  const float* logits = tile.logits + source;
  int own_signs = 0, offset_sum = 0;
  for (int p = 0; p < paths.size; ++p) {
    const int target = source + paths.targets[p];
    const Pair kind = pair_kind(own, tile.seeds[target]);
    if (kind == Pair::kNone) continue;
    const int end = paths.start[p + 1];
    int peak = paths.cells[paths.start[p]];
    float maximum = logits[peak];
    for (int k = paths.start[p] + 1; k < end; ++k) {
      const int cell = paths.cells[k];
      const float v = logits[cell];
      peak = v > maximum ? cell : peak;
      maximum = v > maximum ? v : maximum;
    }
    peak += source;
    if (kind == Pair::kDifferent) {
      atomicAdd(&tile.different[peak], 1);
      continue;
    }
    const bool foreground = kind == Pair::kForeground;
    atomicAdd(&tile.same[peak], PairState::pack_counts(!foreground, foreground));
    const Cell offset = paths.offsets[p];
    const int step_y = foreground ? offset.dy : 0, step_x = foreground ? offset.dx : 0;
    const int sign_y = sign(own_dy - tile.dy[target] - static_cast<float>(step_y));
    const int sign_x = sign(own_dx - tile.dx[target] - static_cast<float>(step_x));
    const int signs = PairState::pack_signs(sign_y, sign_x);
    own_signs += signs;
    offset_sum += sign_y * step_y + sign_x * step_x;
    atomicAdd(&tile.signs[target], -signs);
  }
  atomicAdd(&tile.signs[source], own_signs);
  return offset_sum;
}

// logits [B, h, w], displacement [B, 2, h, w], seeds [B, h, w] -> added to state [B, 3, h, w] and offset_sum [1].
// One block counts the pairs of a tile of 8 x 32 sources, one thread those of one source: a warp is a row, so that
// its reads of a path cell are consecutive words of shared memory. All sums are whole numbers, so that the atomics
// give the same result in any order; a tile adds to the image once for each cell it has counted in.
template <class Paths>
__global__ void __launch_bounds__(kTileThreads)
    count_pairs_kernel(const float* RESTRICT logits, const float* RESTRICT displacement, const uint8_t* RESTRICT seeds,
                       int32_t* RESTRICT state, int64_t* RESTRICT offset_sum, int64_t h, int64_t w, int radius,
                       int tile_rows, int tile_columns, const __grid_constant__ Paths paths) {
  DYN_SHARED(unsigned char, memory);
  const Tile tile(memory, radius);
  const int64_t b = blockIdx.x / (tile_rows * tile_columns), plane = h * w;
  const int64_t top = int64_t(blockIdx.x / tile_columns % tile_rows) * kTileRows;
  const int64_t left = int64_t(blockIdx.x % tile_columns) * kTileColumns;
  const int thread = static_cast<int>(threadIdx.x);

  for (int i = thread; i < tile.cells; i += kTileThreads) {
    const int64_t y = top + i / tile.pitch, x = left + i % tile.pitch, at = y * w + x;
    const bool inside = y < h && x < w;
    tile.logits[i] = inside ? logits[b * plane + at] : 0.f;
    tile.dy[i] = inside ? displacement[2 * b * plane + at] : 0.f;
    tile.dx[i] = inside ? displacement[(2 * b + 1) * plane + at] : 0.f;
    tile.seeds[i] = inside ? seeds[b * plane + at] : kIgnoreSeed;
    tile.same[i] = tile.different[i] = tile.signs[i] = 0;
  }
  __syncthreads();

  const int row = thread / kTileColumns, column = thread % kTileColumns;
  int offsets = 0;
  if (top + row + radius <= h && left + column + 2 * radius - 1 <= w)
    offsets = count_source(tile, paths, row * tile.pitch + column + radius - 1);
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) offsets += __shfl_down_sync(kFullWarp, offsets, lanes);
  if (thread % kWarp == 0 && offsets != 0)
    atomicAdd(reinterpret_cast<unsigned long long*>(offset_sum), static_cast<unsigned long long>(int64_t(offsets)));
  __syncthreads();

  for (int i = thread; i < tile.cells; i += kTileThreads) {
    int32_t* cell = state + kStateWords * b * plane + (top + i / tile.pitch) * w + left + i % tile.pitch;
    if (tile.same[i] != 0) atomicAdd(cell, tile.same[i]);
    if (tile.different[i] != 0) atomicAdd(cell + plane, tile.different[i]);
    if (tile.signs[i] != 0) atomicAdd(cell + 2 * plane, tile.signs[i]);
  }
}

// The same tree of additions every time; the sum of the warp in lane 0.
__device__ void add_warp(LossTerms& terms) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    LossTerms other;
    for (int i = 0; i < kLossTerms; ++i) other.sum[i] = __shfl_down_sync(kFullWarp, terms.sum[i], lanes);
    terms.add(other.sum);
  }
}

// partial: [gridDim.x, kLossTerms], the terms of the cells that each block visited.
__global__ void __launch_bounds__(kSumThreads)
    sum_cells_kernel(const float* RESTRICT logits, const float* RESTRICT displacement, const uint8_t* RESTRICT seeds,
                     const int32_t* RESTRICT state, double* RESTRICT partial, int64_t total, int64_t plane) {
  __shared__ double warps[kSumThreads / kWarp][kLossTerms];
  LossTerms terms;
  for (int64_t i = int64_t(blockIdx.x) * kSumThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kSumThreads) {
    const int64_t b = i / plane, at = i % plane;
    const float* moved = displacement + 2 * b * plane + at;
    terms.add_cell(PairState::unpack(state + kStateWords * b * plane + at, plane), logits[i], moved[0], moved[plane],
                   seeds[i]);
  }
  add_warp(terms);
  const int warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0)
    for (int i = 0; i < kLossTerms; ++i) warps[warp][i] = terms.sum[i];
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int k = 1; k < kSumThreads / kWarp; ++k) terms.add(warps[k]);
  for (int i = 0; i < kLossTerms; ++i) partial[blockIdx.x * kLossTerms + i] = terms.sum[i];
}

// One warp adds the partial sums and makes the losses.
__global__ void __launch_bounds__(kWarp)
    finish_kernel(const double* RESTRICT partial, const int64_t* RESTRICT offset_sum, float* RESTRICT losses,
                  int64_t* RESTRICT counts, int blocks) {
  LossTerms terms;
  for (int k = threadIdx.x; k < blocks; k += kWarp) terms.add(partial + k * kLossTerms);
  add_warp(terms);
  if (threadIdx.x == 0) terms.finish(*offset_sum, losses, counts);
}

__global__ void __launch_bounds__(kSumThreads)
    backward_kernel(const float* RESTRICT grad_losses, const float* RESTRICT logits, const uint8_t* RESTRICT seeds,
                    const int32_t* RESTRICT state, const int64_t* RESTRICT counts, float* RESTRICT grad_logits,
                    float* RESTRICT grad_displacement, int64_t B, int64_t plane) {
  const int64_t at = int64_t(blockIdx.x) * kSumThreads + threadIdx.x;
  if (at >= plane) return;
  const LossGradient gradient = LossGradient::make(grad_losses, counts);
  for (int64_t b = blockIdx.y; b < B; b += gridDim.y) {
    const int64_t i = b * plane + at;
    const PairState cell = PairState::unpack(state + kStateWords * b * plane + at, plane);
    float* moved = grad_displacement + 2 * b * plane + at;
    grad_logits[i] = static_cast<float>(gradient.logit(cell, logits[i]));
    moved[0] = static_cast<float>(gradient.displacement(cell.sign_y, seeds[i]));
    moved[plane] = static_cast<float>(gradient.displacement(cell.sign_x, seeds[i]));
  }
}

template <class Paths>
int count_pairs(const float* logits, const float* displacement, const uint8_t* seeds, int32_t* state,
                int64_t* offset_sum, int64_t B, int64_t h, int64_t w, int radius, cudaStream_t stream) {
  const int64_t rows = h - radius + 1, columns = w - 2 * (radius - 1);
  if (rows <= 0 || columns <= 0) return cudaSuccess;
  const int64_t tile_rows = (rows + kTileRows - 1) / kTileRows, tile_columns = (columns + kTileColumns - 1) / kTileColumns;
  const int64_t tiles = B * tile_rows * tile_columns;
  if (tiles > kMaxGrid) return cudaErrorInvalidConfiguration;
  return CUDA_LAUNCH(count_pairs_kernel<Paths>, dim3(static_cast<unsigned>(tiles)), dim3(kTileThreads),
                     Tile::bytes(radius), stream, logits, displacement, seeds, state, offset_sum, h, w, radius,
                     static_cast<int>(tile_rows), static_cast<int>(tile_columns),
                     Paths(path_table(radius), Tile::pitch_for(radius)));
}

}  // namespace

int inter_pixel_loss_cuda(const float* logits, const float* displacement, const uint8_t* seeds, int32_t* state,
                          int64_t* offset_sum, double* partial, float* losses, int64_t* counts, int64_t B, int64_t h,
                          int64_t w, int radius, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const auto count = radius <= 5    ? count_pairs<TilePaths5>
                     : radius <= 10 ? count_pairs<TilePaths10>
                                    : count_pairs<TilePaths16>;
  const int counted = count(logits, displacement, seeds, state, offset_sum, B, h, w, radius, s);
  if (counted != 0) return counted;
  const int64_t total = B * h * w;
  const unsigned blocks = grid_for(total, kSumThreads) < kLossBlocks ? grid_for(total, kSumThreads) : kLossBlocks;
  const int summed = CUDA_LAUNCH(sum_cells_kernel, dim3(blocks), dim3(kSumThreads), 0, s, logits, displacement, seeds,
                                 state, partial, total, h * w);
  if (summed != 0) return summed;
  return CUDA_LAUNCH(finish_kernel, dim3(1), dim3(kWarp), 0, s, partial, offset_sum, losses, counts,
                     static_cast<int>(blocks));
}

int inter_pixel_loss_backward_cuda(const float* grad_losses, const float* logits, const uint8_t* seeds,
                                   const int32_t* state, const int64_t* counts, float* grad_logits,
                                   float* grad_displacement, int64_t B, int64_t h, int64_t w, void* stream) {
  const dim3 grid = pair_grid(B, h * w, kSumThreads);
  return CUDA_LAUNCH(backward_kernel, grid, dim3(kSumThreads), 0, static_cast<cudaStream_t>(stream), grad_losses,
                     logits, seeds, state, counts, grad_logits, grad_displacement, B, h * w);
}

}  // namespace wsis
