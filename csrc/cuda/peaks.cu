#include "common/peaks.h"
#include "cuda/planes.h"

namespace wsis {
namespace {

constexpr int kRowBlock = 256;                      // outputs of a block along a row
constexpr int kReach = kMaxPeakWindow / 2;          // 50
constexpr int kTileColumns = 32, kTileRows = 64;    // outputs of a block of the column pass
constexpr int kTileThreads = kTileColumns * 8;

__device__ __forceinline__ float lowest() { return -INFINITY; }

// Running maxima down the columns of line[rows][columns] over `window` values in place, all threads of the block
// together: after each step a cell covers twice as many values. log2(window) steps, whatever the window.
// On return the maximum of the window that begins in row i is that of the cells in rows i and i + window - covered.
template <int kThreads, int kPerThread, int kColumns>
__device__ __forceinline__ int double_up(float* line, int rows, int window) {
  int covered = 1;
  for (; 2 * covered <= window; covered *= 2) {
    rows -= covered;
    // Every thread reads its values before anybody writes.
    float next[kPerThread];
    for (int k = 0; k < kPerThread; ++k) {
      const int cell = k * kThreads + threadIdx.x;
      if (cell < rows * kColumns) next[k] = fmaxf(line[cell], line[cell + covered * kColumns]);
    }
    __syncthreads();
    for (int k = 0; k < kPerThread; ++k) {
      const int cell = k * kThreads + threadIdx.x;
      if (cell < rows * kColumns) line[cell] = next[k];
    }
    __syncthreads();
  }
  return covered;
}

// heatmap, rows: [planes * H, W]. One block makes the running maximum of kRowBlock columns of one row.
__global__ void __launch_bounds__(kRowBlock)
    row_maximum_kernel(const float* RESTRICT heatmap, float* RESTRICT rows, unsigned chunks, int64_t W, int reach) {
  __shared__ float line[kRowBlock + 2 * kReach];
  const int64_t row = blockIdx.x / chunks, first = int64_t(blockIdx.x % chunks) * kRowBlock;
  const int length = kRowBlock + 2 * reach, window = 2 * reach + 1;
  for (int i = threadIdx.x; i < length; i += kRowBlock) {
    const int64_t x = first + i - reach;
    line[i] = x >= 0 && x < W ? peak_height(heatmap[row * W + x], lowest()) : lowest();
  }
  __syncthreads();
  const int covered = double_up<kRowBlock, 2, 1>(line, length, window);
  const int64_t x = first + threadIdx.x;
  if (x < W) rows[row * W + x] = fmaxf(line[threadIdx.x], line[threadIdx.x + window - covered]);
}

// One block makes the maximum over columns of a tile of one plane of `rows` and compares it with the heatmap.
__global__ void __launch_bounds__(kTileThreads)
    column_maximum_kernel(const float* RESTRICT heatmap, const float* RESTRICT rows, uint8_t* RESTRICT mask,
                          unsigned tiles_x, unsigned tiles_y, int64_t H, int64_t W, int reach, float threshold) {
  __shared__ float tile[(kTileRows + 2 * kReach) * kTileColumns];
  const int64_t tile_x = blockIdx.x % tiles_x, tile_y = blockIdx.x / tiles_x % tiles_y;
  const int64_t plane = int64_t(blockIdx.x / (tiles_x * tiles_y)) * H * W;
  const int64_t x0 = tile_x * kTileColumns, y0 = tile_y * kTileRows;
  const int length = kTileRows + 2 * reach, window = 2 * reach + 1;
  for (int i = threadIdx.x; i < length * kTileColumns; i += kTileThreads) {
    const int64_t y = y0 + i / kTileColumns - reach, x = x0 + i % kTileColumns;
    tile[i] = y >= 0 && y < H && x < W ? rows[plane + y * W + x] : lowest();
  }
  __syncthreads();
  constexpr int kPerThread = ((kTileRows + 2 * kReach) * kTileColumns + kTileThreads - 1) / kTileThreads;
  const int covered = double_up<kTileThreads, kPerThread, kTileColumns>(tile, length, window);
  for (int i = threadIdx.x; i < kTileRows * kTileColumns; i += kTileThreads) {
    const int64_t y = y0 + i / kTileColumns, x = x0 + i % kTileColumns;
    if (y >= H || x >= W) continue;
    const float highest = fmaxf(tile[i], tile[i + (window - covered) * kTileColumns]);
    const float height = heatmap[plane + y * W + x];
    mask[plane + y * W + x] = height > threshold && height == highest;
  }
}

// heatmap, mask: [B, C, H, W]; ids: [B, H, W]. One thread judges one pixel; all but the tops of hills leave after at
// most nine reads.
__global__ void __launch_bounds__(kRowBlock)
    confined_peaks_kernel(const float* RESTRICT heatmap, const int32_t* RESTRICT ids, uint8_t* RESTRICT mask,
                          uint32_t C, int64_t H, int64_t W, int reach, float threshold) {
  const PlanePixel pixel = pixel_of_thread(H * W, kRowBlock);
  if (pixel.index >= H * W) return;
  const Place place = place_of(pixel.index, W);
  const int64_t image = static_cast<uint32_t>(pixel.plane) / C;
  mask[pixel.plane * H * W + pixel.index] =
      is_confined_peak(heatmap + pixel.plane * H * W, ids + image * H * W, H, W, int64_t(place.y), int64_t(place.x),
                       int64_t(reach), threshold);
}

}  // namespace

int peak_mask_cuda(const float* heatmap, const int32_t* ids, uint8_t* mask, float* scratch, int64_t B, int64_t C,
                   int64_t H, int64_t W, int window, float threshold, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const int reach = window / 2;
  if (ids)
    return CUDA_LAUNCH(confined_peaks_kernel, dim3(plane_grid(B * C, H * W, kRowBlock)), dim3(kRowBlock), 0, s, heatmap,
                       ids, mask, static_cast<uint32_t>(C), H, W, reach, threshold);
  const unsigned chunks = grid_for(W, kRowBlock);
  const int code = CUDA_LAUNCH(row_maximum_kernel, dim3(plane_grid(B * C * H, W, kRowBlock)), dim3(kRowBlock), 0, s,
                               heatmap, scratch, chunks, W, reach);
  if (code) return code;
  const unsigned tiles_x = grid_for(W, kTileColumns), tiles_y = grid_for(H, kTileRows);
  return CUDA_LAUNCH(column_maximum_kernel, dim3(plane_grid(B * C, int64_t(tiles_x) * tiles_y, 1)), dim3(kTileThreads),
                     0, s, heatmap, scratch, mask, tiles_x, tiles_y, H, W, reach, threshold);
}

}  // namespace wsis
