#include "common/cuda_launch.h"
#include "common/weighted_error.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;
constexpr int kSums = 2 * kErrorTargets;  // a sum and a count for each target

// One thread a pixel, its channels in order; a block's threads meet pairwise, the blocks in finish_kernel: the sums
// have the same bits whatever is done first. partial: [gridDim.x, kSums].
__global__ void __launch_bounds__(kBlock) error_kernel(ErrorProblem<float> p, double* RESTRICT partial) {
  __shared__ double shared[kSums][kBlock];
  double own[kSums] = {};
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < p.B * p.plane; i += int64_t(gridDim.x) * kBlock) {
    const int64_t at = i / p.plane * p.K * p.plane + i % p.plane;
    for (int t = 0; t < kErrorTargets; ++t) {
      const float weight = p.target[t] ? p.weight[t][i] : 0.0f;
      if (weight == 0.0f) continue;
      float error = 0.0f;
      for (int64_t k = 0; k < p.K; ++k)
        error += error_of(p.prediction[at + k * p.plane] - p.target[t][at + k * p.plane], p.squared);
      own[2 * t] += static_cast<double>(weight * error);
      own[2 * t + 1] += weight > 0.0f;
    }
  }
  for (int s = 0; s < kSums; ++s) shared[s][threadIdx.x] = own[s];
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      for (int s = 0; s < kSums; ++s) shared[s][threadIdx.x] += shared[s][threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  for (int s = 0; s < kSums; ++s) partial[int64_t(blockIdx.x) * kSums + s] = shared[s][0];
}

// One block. A thread adds every kBlock / kSums-th row of one column, then the threads of a column meet pairwise.
__global__ void __launch_bounds__(kBlock)
    finish_kernel(const double* RESTRICT partial, double* RESTRICT sums, int64_t* RESTRICT counts, int blocks) {
  __shared__ double shared[kBlock];
  double sum = 0;
  for (int k = threadIdx.x; k < blocks * kSums; k += kBlock) sum += partial[k];
  shared[threadIdx.x] = sum;
  for (int half = kBlock / 2; half >= kSums; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  const int s = threadIdx.x;
  if (s >= kSums) return;
  if (s % 2 == 0)
    sums[s / 2] = shared[s];
  else
    counts[s / 2] = static_cast<int64_t>(shared[s]);
}
static_assert(kBlock % kSums == 0 && (kSums & (kSums - 1)) == 0);

__global__ void __launch_bounds__(kBlock)
    slope_kernel(ErrorProblem<float> p, const double* RESTRICT factor, float* RESTRICT gradient) {
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < p.B * p.plane; i += int64_t(gridDim.x) * kBlock) {
    const int64_t at = i / p.plane * p.K * p.plane + i % p.plane;
    float weight[kErrorTargets], scale[kErrorTargets];
    for (int t = 0; t < kErrorTargets; ++t) {
      weight[t] = p.target[t] ? p.weight[t][i] : 0.0f;
      scale[t] = static_cast<float>(factor[t]) * weight[t];
    }
    for (int64_t k = 0; k < p.K; ++k) {
      const int64_t cell = at + k * p.plane;
      float slope = 0.0f;
      for (int t = 0; t < kErrorTargets; ++t)
        if (weight[t] != 0.0f) slope += scale[t] * slope_of(p.prediction[cell] - p.target[t][cell], p.squared);
      gradient[cell] = slope;
    }
  }
}

}  // namespace

int weighted_error_cuda(const ErrorProblem<float>& problem, double* partial, double* sums, int64_t* counts,
                        void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const unsigned wanted = grid_for(problem.B * problem.plane, kBlock);
  const unsigned blocks = wanted < kErrorBlocks ? wanted : kErrorBlocks;
  const int summed = CUDA_LAUNCH(error_kernel, dim3(blocks), dim3(kBlock), 0, s, problem, partial);
  if (summed != 0) return summed;
  return CUDA_LAUNCH(finish_kernel, dim3(1), dim3(kBlock), 0, s, partial, sums, counts, static_cast<int>(blocks));
}

int weighted_error_backward_cuda(const ErrorProblem<float>& problem, const double* factor, float* gradient,
                                 void* stream) {
  return CUDA_LAUNCH(slope_kernel, dim3(grid_for(problem.B * problem.plane, kBlock)), dim3(kBlock), 0,
                     static_cast<cudaStream_t>(stream), problem, factor, gradient);
}

}  // namespace wsis
