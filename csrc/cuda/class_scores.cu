#include "common/class_scores.h"
#include "common/cuda_launch.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;
constexpr int64_t kMostImages = 65535;  // blocks along y; further images are taken in turn

// semantic: [B, C + 1, plane], center: [B, C, plane], labels, probability, heat: [B, plane]. One thread, one pixel: a
// warp reads 32 neighbours of each channel at once, twice (the second time from the cache).
__global__ void __launch_bounds__(kBlock)
    class_scores_kernel(const float* RESTRICT semantic, const float* RESTRICT center, const int32_t* RESTRICT labels,
                        float* RESTRICT probability, float* RESTRICT heat, int64_t B, int64_t C, int64_t plane) {
  for (int64_t b = blockIdx.y; b < B; b += gridDim.y)
    for (int64_t pixel = int64_t(blockIdx.x) * kBlock + threadIdx.x; pixel < plane;
         pixel += int64_t(gridDim.x) * kBlock) {
      const int64_t i = b * plane + pixel, label = labels[i];
      const bool labelled = label > 0 && label <= C;
      probability[i] = labelled ? softmax_at(semantic + b * (C + 1) * plane + pixel, C, plane, label) : 0.0f;
      heat[i] = labelled ? center[(b * C + label - 1) * plane + pixel] : 0.0f;
    }
}

}  // namespace

int class_scores_cuda(const float* semantic, const float* center, const int32_t* labels, float* probability,
                      float* heat, int64_t B, int64_t C, int64_t plane, void* stream) {
  const dim3 grid(grid_for(plane, kBlock), static_cast<unsigned>(B < kMostImages ? B : kMostImages));
  return CUDA_LAUNCH(class_scores_kernel, grid, dim3(kBlock), 0, static_cast<cudaStream_t>(stream), semantic, center,
                     labels, probability, heat, B, C, plane);
}

}  // namespace wsis
