#include "common/cuda_launch.h"
#include "common/filter_ids.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;
constexpr int kRun = 16;         // pixels of one thread, so that large components cost few atomics
constexpr int kScanBlock = 512;  // threads that number one image

// ids: [B, plane], table: [B, plane + 1]. One thread counts kRun neighbours, one atomic addition for each run of equal
// ids; sums of integers do not depend on their order.
__global__ void __launch_bounds__(kBlock)
    count_areas_kernel(const int32_t* RESTRICT ids, int32_t* RESTRICT table, int64_t B, int64_t plane) {
  const int64_t strips = (plane + kRun - 1) / kRun;
  for (int64_t k = int64_t(blockIdx.x) * kBlock + threadIdx.x; k < B * strips; k += int64_t(gridDim.x) * kBlock) {
    const int64_t b = k / strips, first = k % strips * kRun;
    const int64_t last = first + kRun < plane ? first + kRun : plane;
    const int32_t* from = ids + b * plane;
    int32_t id = 0, area = 0;
    for (int64_t i = first; i <= last; ++i) {
      const int32_t next = i < last ? from[i] : -1;
      if (i > first && next == id) {
        ++area;
        continue;
      }
      if (i > first && is_named(id, plane)) atomicAdd(table + b * (plane + 1) + id, area);
      id = next;
      area = 1;
    }
  }
}

// table: [B, plane + 1] areas -> new ids, 0 where the area does not fit; counts: [B]. One block, one image: every
// thread counts its own stretch of the table, one thread adds the stretches up, then each numbers its own.
__global__ void __launch_bounds__(kScanBlock)
    number_kernel(int32_t* RESTRICT table, int32_t* RESTRICT counts, int64_t plane, int64_t low, int64_t high) {
  DYN_SHARED(int32_t, before);  // [kScanBlock]
  int32_t* row = table + int64_t(blockIdx.x) * (plane + 1);
  const int64_t stretch = (plane + kScanBlock) / kScanBlock, begin = int64_t(threadIdx.x) * stretch;
  const int64_t end = begin + stretch < plane + 1 ? begin + stretch : plane + 1;
  int32_t mine = 0;
  for (int64_t i = begin; i < end; ++i) mine += area_fits(row[i], low, high) ? 1 : 0;
  before[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t sum = 0;
    for (int k = 0; k < kScanBlock; ++k) {
      const int32_t here = before[k];
      before[k] = sum;
      sum += here;
    }
    counts[blockIdx.x] = sum;
  }
  __syncthreads();
  int32_t next = before[threadIdx.x];
  for (int64_t i = begin; i < end; ++i) row[i] = area_fits(row[i], low, high) ? ++next : 0;
}

// ids, kept: [B, plane]. One thread, one pixel.
__global__ void __launch_bounds__(kBlock) rename_kernel(const int32_t* RESTRICT ids, const int32_t* RESTRICT table,
                                                        int32_t* RESTRICT kept, int64_t total, int64_t plane) {
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < total; i += int64_t(gridDim.x) * kBlock)
    kept[i] = is_named(ids[i], plane) ? table[i / plane * (plane + 1) + ids[i]] : 0;
}

}  // namespace

int filter_ids_cuda(const int32_t* ids, int32_t* table, int32_t* kept, int32_t* counts, int64_t B, int64_t plane,
                    int64_t low, int64_t high, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const int64_t strips = (plane + kRun - 1) / kRun;
  int code = CUDA_LAUNCH(count_areas_kernel, dim3(grid_for(B * strips, kBlock)), dim3(kBlock), 0, on, ids, table, B,
                         plane);
  if (code != 0) return code;
  code = CUDA_LAUNCH(number_kernel, dim3(static_cast<unsigned>(B)), dim3(kScanBlock), kScanBlock * sizeof(int32_t), on,
                     table, counts, plane, low, high);
  if (code != 0) return code;
  return CUDA_LAUNCH(rename_kernel, dim3(grid_for(B * plane, kBlock)), dim3(kBlock), 0, on, ids, table, kept, B * plane,
                     plane);
}

}  // namespace wsis
