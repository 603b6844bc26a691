#include "common/cuda_launch.h"
#include "common/edge_to_affinity.h"
#include "cuda/pair_grid.cuh"

namespace wsis {
namespace {

constexpr int kBlock = 256;

// boundary: [B, h, w], affinity: [B, P, h, w]. One thread makes one affinity; neighbouring threads share a row, so the
// path cells of a warp are coalesced reads that the first-level cache serves again for the next offset.
template <class Param>
__global__ void __launch_bounds__(kBlock)
    edge_to_affinity_kernel(const float* RESTRICT boundary, float* RESTRICT affinity, int64_t planes, int64_t h,
                            int64_t w, const __grid_constant__ Param param) {
  const PathView paths = param.view();
  const int64_t area = h * w;
  const unsigned at = blockIdx.x * kBlock + threadIdx.x;
  if (at >= area) return;
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const PairPixel pixel(plane, at, w, paths.size);
    affinity[plane * area + at] = pair_affinity(boundary + pixel.b * area, h, w, pixel.y, pixel.x, paths, pixel.p);
  }
}

// One thread gathers the gradient of one boundary cell: no atomics, so the sum has one order.
template <class Param>
__global__ void __launch_bounds__(kBlock)
    edge_to_affinity_backward_kernel(const float* RESTRICT grad_affinity, const float* RESTRICT boundary,
                                     float* RESTRICT grad_boundary, int64_t total, int64_t h, int64_t w,
                                     const __grid_constant__ Param param) {
  const PathView paths = param.view();
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < total; i += int64_t(gridDim.x) * kBlock) {
    const int64_t x = i % w, y = i / w % h, b = i / (w * h);
    grad_boundary[i] = boundary_gradient(grad_affinity + b * paths.size * h * w, boundary + b * h * w, h, w, h * w, w,
                                         y, x, paths);
  }
}

template <class Param>
int forward(const float* boundary, float* affinity, int64_t B, int64_t h, int64_t w, const PathTable& table,
            cudaStream_t stream) {
  const int64_t planes = B * table.size();
  return CUDA_LAUNCH(edge_to_affinity_kernel<Param>, pair_grid(planes, h * w, kBlock), dim3(kBlock), 0, stream,
                     boundary, affinity, planes, h, w, Param(table));
}

template <class Param>
int backward(const float* grad_affinity, const float* boundary, float* grad_boundary, int64_t B, int64_t h, int64_t w,
             const PathTable& table, cudaStream_t stream) {
  const int64_t total = B * h * w;
  return CUDA_LAUNCH(edge_to_affinity_backward_kernel<Param>, dim3(grid_for(total, kBlock)), dim3(kBlock), 0, stream,
                     grad_affinity, boundary, grad_boundary, total, h, w, Param(table));
}

}  // namespace

int edge_to_affinity_cuda(const float* boundary, float* affinity, int64_t B, int64_t h, int64_t w, int radius,
                          void* stream) {
  const PathTable& table = path_table(radius);
  const auto s = static_cast<cudaStream_t>(stream);
  if (radius <= 5) return forward<PathParam5>(boundary, affinity, B, h, w, table, s);
  if (radius <= 10) return forward<PathParam10>(boundary, affinity, B, h, w, table, s);
  return forward<PathParam16>(boundary, affinity, B, h, w, table, s);
}

int edge_to_affinity_backward_cuda(const float* grad_affinity, const float* boundary, float* grad_boundary, int64_t B,
                                   int64_t h, int64_t w, int radius, void* stream) {
  const PathTable& table = path_table(radius);
  const auto s = static_cast<cudaStream_t>(stream);
  if (radius <= 5) return backward<PathParam5>(grad_affinity, boundary, grad_boundary, B, h, w, table, s);
  if (radius <= 10) return backward<PathParam10>(grad_affinity, boundary, grad_boundary, B, h, w, table, s);
  return backward<PathParam16>(grad_affinity, boundary, grad_boundary, B, h, w, table, s);
}

}  // namespace wsis
