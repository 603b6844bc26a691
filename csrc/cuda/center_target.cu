#include "common/center_target.h"
#include "cuda/planes.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;

// One block raises one instance's window. Heights are not negative, so their order is that of their bits, and the
// integer maximum has one result whatever the order of the blocks.
__global__ void __launch_bounds__(kBlock)
    splat_kernel(const int64_t* RESTRICT key, const int64_t* RESTRICT label, const int64_t* RESTRICT center_yx,
                 const float* RESTRICT bell, float* center, CenterTargetShape shape) {
  const int64_t m = blockIdx.x, cy = center_yx[2 * m], cx = center_yx[2 * m + 1];
  const Window window = window_of(cy, cx, shape);
  const int64_t width = window.right - window.left + 1, height = window.bottom - window.top + 1;
  if (width <= 0 || height <= 0 || label[m] < 0 || label[m] >= shape.C) return;
  float* heat = center + ((key[m] >> 32) * shape.C + label[m]) * shape.H * shape.W;
  // A window is at most 2 reach + 1 = 603 pixels wide and high.
  for (uint32_t i = threadIdx.x; i < static_cast<uint32_t>(width * height); i += kBlock) {
    const Place place = place_of(i, width);
    const int64_t y = window.top + place.y, x = window.left + place.x;
    const float value = bell[(y - cy) * (y - cy) + (x - cx) * (x - cx)];
    atomicMax(reinterpret_cast<int*>(heat + y * shape.W + x), __float_as_int(value));
  }
}

// One thread writes offset and weight of one pixel.
__global__ void __launch_bounds__(kBlock)
    pixel_target_kernel(const int32_t* RESTRICT ids, const int64_t* RESTRICT key, const float* RESTRICT score,
                        const int64_t* RESTRICT center_yx, float* RESTRICT offset, float* RESTRICT weight,
                        CenterTargetShape shape) {
  const PlanePixel pixel = pixel_of_thread(shape.H * shape.W, kBlock);
  if (pixel.index >= shape.H * shape.W) return;
  const Place place = place_of(pixel.index, shape.W);
  pixel_target(pixel.plane, place.y, place.x, ids, key, score, center_yx, offset, weight, shape);
}

}  // namespace

int center_target_cuda(const int32_t* ids, const int64_t* key, const int64_t* label, const float* score,
                       const int64_t* center_yx, const float* bell, float* center, float* offset, float* weight,
                       const CenterTargetShape& shape, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  if (shape.M > 0) {
    const int code = CUDA_LAUNCH(splat_kernel, dim3(static_cast<unsigned>(shape.M)), dim3(kBlock), 0, s, key, label,
                                 center_yx, bell, center, shape);
    if (code) return code;
  }
  return CUDA_LAUNCH(pixel_target_kernel, dim3(plane_grid(shape.B, shape.H * shape.W, kBlock)), dim3(kBlock), 0, s,
                     ids, key, score, center_yx, offset, weight, shape);
}

}  // namespace wsis
