#include "common/cuda_launch.h"
#include "common/trace_displacement.h"

namespace wsis {
namespace {

constexpr int kBlock = 128;

// displacement, ends: [B, 2, h, w]. One thread follows one pixel; neighbours stay close to each other, so the field
// is read through the first-level cache, which holds the part around them. Small blocks, because a block ends with its
// longest trace.
__global__ void __launch_bounds__(kBlock)
    trace_displacement_kernel(const float* RESTRICT displacement, const int32_t* RESTRICT sizes,
                              int32_t* RESTRICT ends, int64_t total, int64_t h, int64_t w, int64_t num_steps) {
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < total; i += int64_t(gridDim.x) * kBlock) {
    const int64_t x = i % w, y = i / w % h, b = i / (w * h), plane = h * w;
    const int32_t height = true_length(sizes, b, 0, h), width = true_length(sizes, b, 1, w);
    const float* dy = displacement + 2 * b * plane;
    Position<float> p{static_cast<float>(y), static_cast<float>(x)};
    if (y < height && x < width) p = trace(p, dy, dy + plane, w, height, width, num_steps);
    int32_t* end = ends + 2 * b * plane + y * w + x;
    end[0] = nearest_cell(p.y);
    end[plane] = nearest_cell(p.x);
  }
}

}  // namespace

int trace_displacement_cuda(const float* displacement, const int32_t* sizes, int32_t* ends, int64_t B, int64_t h,
                            int64_t w, int64_t num_steps, void* stream) {
  const int64_t total = B * h * w;
  return CUDA_LAUNCH(trace_displacement_kernel, dim3(grid_for(total, kBlock)), dim3(kBlock), 0,
                     static_cast<cudaStream_t>(stream), displacement, sizes, ends, total, h, w, num_steps);
}

}  // namespace wsis
