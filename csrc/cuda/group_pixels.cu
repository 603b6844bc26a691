#include "common/group_pixels.h"
#include "cuda/planes.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;

// offsets: [B, 2, H, W], foreground, ids: [B, H, W]. One thread, one pixel: a binary search finds the centres of its
// component, which neighbours share, so that the loop over them reads what the warp has just read.
__global__ void __launch_bounds__(kBlock)
    group_pixels_kernel(const float* RESTRICT offsets, const int32_t* RESTRICT foreground,
                        const float* RESTRICT center_yx, const int64_t* RESTRICT component, const int32_t* RESTRICT id,
                        int32_t* RESTRICT ids, int64_t plane, int64_t W, int64_t N) {
  const PlanePixel pixel = pixel_of_thread(plane, kBlock);
  if (pixel.index >= plane) return;
  const int64_t i = pixel.plane * plane + pixel.index;
  int32_t best = 0;
  if (foreground[i] != 0) {
    const int64_t key = image_key(pixel.plane, foreground[i]);
    const float* offset = offsets + 2 * pixel.plane * plane + pixel.index;
    const Place here = place_of(pixel.index, W);
    const float y = float(here.y) + offset[0], x = float(here.x) + offset[plane];
    float nearest = 0;
    for (int64_t n = lower_bound(component, N, key); n < N && component[n] == key; ++n) {
      const float distance = squared_distance(y, x, center_yx[2 * n], center_yx[2 * n + 1]);
      if (best == 0 || distance < nearest) {
        best = id[n];
        nearest = distance;
      }
    }
  }
  ids[i] = best;
}

}  // namespace

int group_pixels_cuda(const float* offsets, const int32_t* foreground, const float* center_yx,
                      const int64_t* component, const int32_t* id, int32_t* ids, int64_t B, int64_t H, int64_t W,
                      int64_t N, void* stream) {
  return CUDA_LAUNCH(group_pixels_kernel, dim3(plane_grid(B, H * W, kBlock)), dim3(kBlock), 0,
                     static_cast<cudaStream_t>(stream), offsets, foreground, center_yx, component, id, ids, H * W, W,
                     N);
}

}  // namespace wsis
