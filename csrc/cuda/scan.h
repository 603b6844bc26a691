// Prefix sums in a fixed order, over one block and over an array of any length. All sums are integers.
#pragma once

#include <cstdint>

#include "common/cuda_launch.h"
#include "common/macros.h"
#include "common/scan_scratch.h"

namespace wsis {
namespace {

constexpr int kScanItems = kScanTile / kScanBlock;  // values one thread of the long scan adds up itself

// Sum of the values of all threads before this one, and of all of them; every thread of a block of kScanBlock takes
// part. `warp_sums` is shared memory for kScanBlock / 32 values and may be used again after the next barrier.
__device__ __forceinline__ int64_t block_exclusive_scan(int64_t value, int64_t* warp_sums, int64_t* total) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int64_t inclusive = value;
  for (int step = 1; step < 32; step *= 2) {
    const int64_t before = __shfl_up_sync(kFullWarp, inclusive, step);
    if (lane >= step) inclusive += before;
  }
  __syncthreads();
  if (lane == 31) warp_sums[warp] = inclusive;
  __syncthreads();
  int64_t sum = 0, offset = 0;
  for (int w = 0; w < kScanBlock / 32; ++w) {
    if (w == warp) offset = sum;
    sum += warp_sums[w];
  }
  *total = sum;
  return offset + inclusive - value;
}

// partial[block] = sum of its tile of counts.
__global__ void __launch_bounds__(kScanBlock)
    scan_tiles_kernel(const int32_t* RESTRICT counts, int64_t n, int64_t* RESTRICT partial) {
  __shared__ int64_t warp_sums[kScanBlock / 32];
  const int64_t first = int64_t(blockIdx.x) * kScanTile + threadIdx.x * kScanItems;
  int64_t sum = 0, total;
  for (int64_t i = first; i < first + kScanItems && i < n; ++i) sum += counts[i];
  block_exclusive_scan(sum, warp_sums, &total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// One block: partial[0, tiles) becomes its exclusive prefix sum, in place.
__global__ void __launch_bounds__(kScanBlock) scan_partial_kernel(int64_t* partial, int64_t tiles) {
  __shared__ int64_t warp_sums[kScanBlock / 32];
  int64_t carry = 0;
  for (int64_t base = 0; base < tiles; base += kScanBlock) {
    const int64_t i = base + threadIdx.x;
    int64_t total;
    const int64_t before = block_exclusive_scan(i < tiles ? partial[i] : 0, warp_sums, &total);
    if (i < tiles) partial[i] = carry + before;
    carry += total;
  }
}

// offsets[i] = sum of counts[0, i) for i = 0..n.
__global__ void __launch_bounds__(kScanBlock)
    scan_offsets_kernel(const int32_t* RESTRICT counts, int64_t n, const int64_t* RESTRICT partial,
                        int64_t* RESTRICT offsets) {
  __shared__ int64_t warp_sums[kScanBlock / 32];
  const int64_t first = int64_t(blockIdx.x) * kScanTile + threadIdx.x * kScanItems;
  int64_t sum = 0, total;
  for (int64_t i = first; i < first + kScanItems && i < n; ++i) sum += counts[i];
  int64_t offset = partial[blockIdx.x] + block_exclusive_scan(sum, warp_sums, &total);
  for (int64_t i = first; i < first + kScanItems && i < n; ++i) {
    offsets[i] = offset;
    offset += counts[i];
    if (i == n - 1) offsets[n] = offset;
  }
}

// counts [n], n > 0 -> offsets [n + 1]; partial: scratch of scan_scratch(n) values.
inline int exclusive_scan(const int32_t* counts, int64_t n, int64_t* offsets, int64_t* partial, cudaStream_t stream) {
  const int64_t tiles = scan_scratch(n);
  const dim3 grid(static_cast<unsigned>(tiles)), block(kScanBlock);
  if (int code = CUDA_LAUNCH(scan_tiles_kernel, grid, block, 0, stream, counts, n, partial)) return code;
  if (int code = CUDA_LAUNCH(scan_partial_kernel, dim3(1), block, 0, stream, partial, tiles)) return code;
  return CUDA_LAUNCH(scan_offsets_kernel, grid, block, 0, stream, counts, n, partial, offsets);
}

}  // namespace
}  // namespace wsis
