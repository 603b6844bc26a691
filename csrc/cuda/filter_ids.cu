#include "common/filter_ids.h"
#include "cuda/planes.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;
constexpr int kScanBlock = 1024;  // threads that number one image
constexpr int kScanWarps = kScanBlock / 32;
constexpr int kAhead = 8;  // loads of a thread under way at once, or the table would be waited for word by word

// ids: [B, plane], table: [B, plane + 1]. One thread, one pixel, one atomic addition for each run of equal ids within a
// warp; sums of integers do not depend on their order.
__global__ void __launch_bounds__(kBlock)
    count_areas_kernel(const int32_t* RESTRICT ids, int32_t* RESTRICT table, int64_t plane) {
  const PlanePixel pixel = pixel_of_thread(plane, kBlock);
  const int lane = threadIdx.x & 31;
  const int32_t id = pixel.index < plane ? ids[pixel.plane * plane + pixel.index] : 0;
  const int32_t left = __shfl_up_sync(kFullWarp, id, 1);
  const bool first = lane == 0 || left != id;
  const int length = run_length(first);
  if (first && is_named(id, plane)) atomicAdd(table + pixel.plane * (plane + 1) + id, length);
}

// table: [B, plane + 1] areas -> new ids, 0 where the area does not fit; counts: [B]. One block, one image: every warp
// counts its own stretch of the table, and numbers it from the sum of those before.
__global__ void __launch_bounds__(kScanBlock)
    number_kernel(int32_t* table, int32_t* RESTRICT counts, int64_t plane, int64_t low, int64_t high) {
  DYN_SHARED(int32_t, found);  // [kScanWarps]
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int32_t* row = table + int64_t(blockIdx.x) * (plane + 1);
  const auto entries = static_cast<uint32_t>(plane + 1);
  const uint32_t stretch = (entries + kScanBlock - 1) / kScanBlock * 32, begin = warp * stretch;
  const uint32_t end = begin + stretch < entries ? begin + stretch : entries;
  int32_t mine = 0;
  for (uint32_t i = begin + lane; i < end; i += 32) mine += area_fits(row[i], low, high) ? 1 : 0;
  mine = __reduce_add_sync(kFullWarp, mine);
  if (lane == 0) found[warp] = mine;
  __syncthreads();
  int32_t before = 0, total = 0;
  for (int w = 0; w < kScanWarps; ++w) {
    if (w == warp) before = total;
    total += found[w];
  }
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
  for (uint32_t base = begin; base < end; base += 32 * kAhead) {
    int32_t area[kAhead];
    for (int k = 0; k < kAhead; ++k) area[k] = base + 32 * k + lane < end ? row[base + 32 * k + lane] : 0;
    for (int k = 0; k < kAhead; ++k) {
      const unsigned kept = __ballot_sync(kFullWarp, area_fits(area[k], low, high));
      const int32_t name = before + __popc(kept & (kFullWarp >> (31 - lane)));
      if (base + 32 * k + lane < end) row[base + 32 * k + lane] = kept >> lane & 1 ? name : 0;
      before += __popc(kept);
    }
  }
}

// ids, kept: [B, plane]. One thread, one pixel.
__global__ void __launch_bounds__(kBlock) rename_kernel(const int32_t* RESTRICT ids, const int32_t* RESTRICT table,
                                                        int32_t* RESTRICT kept, int64_t plane) {
  const PlanePixel pixel = pixel_of_thread(plane, kBlock);
  if (pixel.index >= plane) return;
  const int64_t i = pixel.plane * plane + pixel.index;
  const int32_t id = ids[i];
  kept[i] = is_named(id, plane) ? table[pixel.plane * (plane + 1) + id] : 0;
}

}  // namespace

int filter_ids_cuda(const int32_t* ids, int32_t* table, int32_t* kept, int32_t* counts, int64_t B, int64_t plane,
                    int64_t low, int64_t high, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const dim3 grid(plane_grid(B, plane, kBlock));
  int code = CUDA_LAUNCH(count_areas_kernel, grid, dim3(kBlock), 0, on, ids, table, plane);
  if (code != 0) return code;
  code = CUDA_LAUNCH(number_kernel, dim3(static_cast<unsigned>(B)), dim3(kScanBlock), kScanWarps * sizeof(int32_t), on,
                     table, counts, plane, low, high);
  if (code != 0) return code;
  return CUDA_LAUNCH(rename_kernel, grid, dim3(kBlock), 0, on, ids, table, kept, plane);
}

}  // namespace wsis
