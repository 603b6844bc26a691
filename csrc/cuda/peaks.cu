#include "common/cuda_launch.h"
#include "common/peaks.h"

namespace wsis {
namespace {

constexpr int kRowBlock = 256;                      // outputs of a block along a row
constexpr int kReach = kMaxPeakWindow / 2;          // 50
constexpr int kTileColumns = 32, kTileRows = 64;    // outputs of a block of the column pass
constexpr int kTileThreads = kTileColumns * 8;

__device__ __forceinline__ float lowest() { return -INFINITY; }

// Running maximum of line[0 .. length) over `window` values in place, all threads of the block together: after each
// step line[i * stride] covers twice as many values. log2(window) steps, whatever the window.
// On return the maximum of the window that begins at i is max(line[i], line[i + window - covered]).
template <int kThreads, int kPerThread>
__device__ __forceinline__ int double_up(float* line, int length, int stride, int lanes, int window) {
  int covered = 1;
  for (; 2 * covered <= window; covered *= 2) {
    length -= covered;
    // Every thread reads its values before anybody writes.
    float next[kPerThread];
    for (int k = 0; k < kPerThread; ++k) {
      const int item = k * kThreads + threadIdx.x, i = item / lanes, lane = item % lanes;
      if (i < length) next[k] = fmaxf(line[i * stride + lane], line[(i + covered) * stride + lane]);
    }
    __syncthreads();
    for (int k = 0; k < kPerThread; ++k) {
      const int item = k * kThreads + threadIdx.x, i = item / lanes, lane = item % lanes;
      if (i < length) line[i * stride + lane] = next[k];
    }
    __syncthreads();
  }
  return covered;
}

// heatmap, rows: [planes * H, W]. One block makes the running maximum of kRowBlock columns of one row.
__global__ void __launch_bounds__(kRowBlock)
    row_maximum_kernel(const float* RESTRICT heatmap, float* RESTRICT rows, int64_t chunks, int64_t W, int reach) {
  __shared__ float line[kRowBlock + 2 * kReach];
  const int64_t row = blockIdx.x / chunks, first = blockIdx.x % chunks * kRowBlock;
  const int length = kRowBlock + 2 * reach, window = 2 * reach + 1;
  for (int i = threadIdx.x; i < length; i += kRowBlock) {
    const int64_t x = first + i - reach;
    line[i] = x >= 0 && x < W ? peak_height(heatmap[row * W + x], lowest()) : lowest();
  }
  __syncthreads();
  const int covered = double_up<kRowBlock, 2>(line, length, 1, 1, window);
  const int64_t x = first + threadIdx.x;
  if (x < W) rows[row * W + x] = fmaxf(line[threadIdx.x], line[threadIdx.x + window - covered]);
}

// One block makes the maximum over columns of a tile of one plane of `rows` and compares it with the heatmap.
__global__ void __launch_bounds__(kTileThreads)
    column_maximum_kernel(const float* RESTRICT heatmap, const float* RESTRICT rows, uint8_t* RESTRICT mask,
                          int64_t tiles_x, int64_t tiles_y, int64_t H, int64_t W, int reach, float threshold) {
  __shared__ float tile[(kTileRows + 2 * kReach) * kTileColumns];
  const int64_t tile_x = blockIdx.x % tiles_x, tile_y = blockIdx.x / tiles_x % tiles_y;
  const int64_t plane = blockIdx.x / (tiles_x * tiles_y) * H * W;
  const int64_t x0 = tile_x * kTileColumns, y0 = tile_y * kTileRows;
  const int length = kTileRows + 2 * reach, window = 2 * reach + 1;
  for (int i = threadIdx.x; i < length * kTileColumns; i += kTileThreads) {
    const int64_t y = y0 + i / kTileColumns - reach, x = x0 + i % kTileColumns;
    tile[i] = y >= 0 && y < H && x < W ? rows[plane + y * W + x] : lowest();
  }
  __syncthreads();
  constexpr int kPerThread = ((kTileRows + 2 * kReach) * kTileColumns + kTileThreads - 1) / kTileThreads;
  const int covered = double_up<kTileThreads, kPerThread>(tile, length, kTileColumns, kTileColumns, window);
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
                          int64_t total, int64_t C, int64_t H, int64_t W, int reach, float threshold) {
  for (int64_t i = int64_t(blockIdx.x) * kRowBlock + threadIdx.x; i < total; i += int64_t(gridDim.x) * kRowBlock) {
    const int64_t pixel = i % (H * W), plane = i / (H * W);
    mask[i] = is_confined_peak(heatmap + plane * H * W, ids + plane / C * H * W, H, W, pixel / W, pixel % W,
                               int64_t(reach), threshold);
  }
}

}  // namespace

int peak_mask_cuda(const float* heatmap, const int32_t* ids, uint8_t* mask, float* scratch, int64_t B, int64_t C,
                   int64_t H, int64_t W, int window, float threshold, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const int reach = window / 2;
  if (ids)
    return CUDA_LAUNCH(confined_peaks_kernel, dim3(grid_for(B * C * H * W, kRowBlock)), dim3(kRowBlock), 0, s, heatmap,
                       ids, mask, B * C * H * W, C, H, W, reach, threshold);
  const int64_t chunks = (W + kRowBlock - 1) / kRowBlock;
  const int code = CUDA_LAUNCH(row_maximum_kernel, dim3(static_cast<unsigned>(B * C * H * chunks)), dim3(kRowBlock), 0,
                               s, heatmap, scratch, chunks, W, reach);
  if (code) return code;
  const int64_t tiles_x = (W + kTileColumns - 1) / kTileColumns, tiles_y = (H + kTileRows - 1) / kTileRows;
  return CUDA_LAUNCH(column_maximum_kernel, dim3(static_cast<unsigned>(B * C * tiles_x * tiles_y)), dim3(kTileThreads),
                     0, s, heatmap, scratch, mask, tiles_x, tiles_y, H, W, reach, threshold);
}

}  // namespace wsis
