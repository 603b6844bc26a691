#include <utility>

#include "cuda/random_walk_cluster.cuh"
#include "cuda/random_walk_terms.cuh"

namespace wsis {
namespace walk {
namespace {

// current = seeds (seeds / degree for the transposed walk), previous = 0, sum = weight current; 0 outside the image.
__global__ void __launch_bounds__(kThreads)
    start_kernel(const float* RESTRICT seeds, const int64_t* RESTRICT image_index, const int32_t* RESTRICT sizes,
                 const float* RESTRICT inverse, float* RESTRICT current, float* RESTRICT previous, float* RESTRICT sum,
                 WalkShape shape, float weight, bool transposed) {
  const int64_t total = shape.M * shape.H * shape.W;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const ChannelPixel pixel(i, image_index, sizes, shape);
    float value = 0;
    if (pixel.exists) value = transposed ? seeds[i] * inverse[pixel.at] : seeds[i];
    current[i] = value;
    previous[i] = 0;
    sum[i] = weight * value;
  }
}

// walked /= inverse: the last factor of the transposed walk.
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const int64_t* RESTRICT image_index, const int32_t* RESTRICT sizes, const float* RESTRICT inverse,
                  float* RESTRICT walked, WalkShape shape) {
  const int64_t total = shape.M * shape.H * shape.W;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const ChannelPixel pixel(i, image_index, sizes, shape);
    if (pixel.exists) walked[i] = walked[i] / inverse[pixel.at];
  }
}

template <class Param>
int run(const Walker<Param>& walker, const float* seeds, const float* boundary, const int64_t* image_index,
        float* walked, double beta, const WalkPolynomial& polynomial, bool transposed) {
  const WalkShape& shape = walker.shape;
  const WalkScratch& s = walker.scratch;
  const double* c = polynomial.coefficients;
  const dim3 grid(grid_for(shape.M * shape.H * shape.W, kThreads)), block(kThreads);
  if (const int code = walker.prepare(boundary, image_index, beta)) return code;
  if (const int code = CUDA_LAUNCH(start_kernel, grid, block, 0, walker.stream, seeds, image_index, walker.sizes,
                                   s.inverse, s.current, s.previous, walked, shape, static_cast<float>(c[0]),
                                   transposed))
    return code;
  float *now = s.current, *next = s.previous;
  for (int64_t k = 0; k < polynomial.degree; ++k) {
    float* sum = c[k + 1] != 0 ? walked : nullptr;
    const TermArrays arrays{now, next, next, sum, nullptr, static_cast<float>(c[k + 1]), 0.0f};
    const bool three = polynomial.chebyshev && k > 0;
    if (const int code = walker.term(arrays, three ? 2.0 : 1.0, three ? 1.0 : 0.0)) return code;
    std::swap(now, next);
  }
  if (!transposed) return 0;
  return CUDA_LAUNCH(finish_kernel, grid, block, 0, walker.stream, image_index, walker.sizes, s.inverse, walked,
                     shape);
}

}  // namespace
}  // namespace walk

int random_walk_cuda(const float* seeds, const float* boundary, const int64_t* image_index, const int32_t* sizes,
                     float* walked, const WalkShape& shape, double beta, const WalkPolynomial& polynomial,
                     bool transposed, int blocks, const WalkScratch& scratch, void* stream) {
  const PathTable& table = path_table(shape.radius);
  const auto s = static_cast<cudaStream_t>(stream);
  const auto with = [&](auto param) {
    const walk::Walker<decltype(param)> walker{shape, sizes, scratch, param, s};
    return walk::run(walker, seeds, boundary, image_index, walked, beta, polynomial, transposed);
  };
  if (blocks != 0) {
    const walk::ClusterPlan plan = walk::cluster_plan(shape, polynomial, blocks);
    if (plan.blocks > 0) {
      const walk::Walker<PathParam5> walker{shape, sizes, scratch, PathParam5(table), s};
      if (const int code = walker.prepare(boundary, image_index, beta, plan.channels)) return code;
      return walk::run_clusters(walker, plan, seeds, walked, polynomial, transposed);
    }
    if (blocks > 0) return cudaErrorInvalidConfiguration;
  }
  if (shape.radius <= 5) return with(PathParam5(table));
  if (shape.radius <= 10) return with(PathParam10(table));
  return with(PathParam16(table));
}

}  // namespace wsis
