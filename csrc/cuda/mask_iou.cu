#include "common/mask_iou.h"
#include "cuda/planes.h"

namespace wsis {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// One warp makes one word of 32 pixels. words: [N + M, count].
__global__ void __launch_bounds__(kThreads) pack_kernel(MaskSets sets, uint32_t* RESTRICT words, int64_t count) {
  const auto [mask, pixel] = pixel_of_thread(32 * count, kThreads);
  const uint8_t* plane = mask < sets.N ? sets.a + mask * sets.plane : sets.b + (mask - sets.N) * sets.plane;
  const unsigned bits = __ballot_sync(kFullWarp, pixel < sets.plane && plane[pixel] != 0);
  if (threadIdx.x % 32 == 0 && pixel / 32 < count) words[mask * count + pixel / 32] = bits;
}

// The sum of a value over the block, in thread 0.
__device__ __forceinline__ unsigned block_sum(unsigned value, unsigned* shared) {
  value = __reduce_add_sync(kFullWarp, value);
  __syncthreads();  // the sum of the round before has been read
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  unsigned sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += shared[w];
  return sum;
}

// One block counts one pair: entries 0 .. N M - 1 are `common`, the next N + M the masks with themselves.
__global__ void __launch_bounds__(kThreads)
    count_kernel(MaskSets sets, const uint32_t* RESTRICT words, int64_t* RESTRICT common, int64_t* RESTRICT area_a,
                 int64_t* RESTRICT area_b, int64_t count) {
  DYN_SHARED(unsigned, shared);  // [kWarps]
  const int64_t pairs = sets.N * sets.M, total = pairs + sets.N + sets.M;
  for (int64_t k = blockIdx.x; k < total; k += gridDim.x) {
    const int64_t n = k < pairs ? k / sets.M : k - pairs, m = k < pairs ? sets.N + k % sets.M : n;
    const bool counts = k >= pairs || sets.same_image(n, m - sets.N);
    unsigned sum = 0;
    for (int64_t i = threadIdx.x; counts && i < count; i += kThreads)
      sum += __popc(words[n * count + i] & words[m * count + i]);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *(k < pairs ? common + k : n < sets.N ? area_a + n : area_b + (n - sets.N)) = sum;
  }
}

}  // namespace

int mask_iou_cuda(const MaskSets& sets, uint32_t* packed, int64_t* common, int64_t* area_a, int64_t* area_b,
                  void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const int64_t masks = sets.N + sets.M, count = 2 * mask_words(sets.plane);
  if (const int code = CUDA_LAUNCH(pack_kernel, dim3(plane_grid(masks, 32 * count, kThreads)), dim3(kThreads), 0, on,
                                   sets, packed, count))
    return code;
  return CUDA_LAUNCH(count_kernel, dim3(grid_for(sets.N * sets.M + masks, 1)), dim3(kThreads),
                     kWarps * sizeof(unsigned), on, sets, packed, common, area_a, area_b, count);
}

}  // namespace wsis
