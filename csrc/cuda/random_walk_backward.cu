// The formulas stand in csrc/cpu/random_walk_backward.cpp; here each sum over terms and channels belongs to one thread.
#include "cuda/random_walk_terms.cuh"

namespace wsis {
namespace walk {
namespace {

// Terms t_(first - 1) .. and adjoints q_first .. of one segment; [M, H, W] each, `size` apart.
struct Segment {
  const float *t, *q;
  int64_t size, first, count;
  bool chebyshev;

  __device__ float scale(int64_t i) const { return chebyshev && first + i > 0 ? 2.0f : 1.0f; }
  __device__ float previous_scale(int64_t i) const { return chebyshev && first + i > 0 ? 1.0f : 0.0f; }
  __device__ const float* term(int64_t i) const { return t + (i + 1) * size; }
  __device__ const float* adjoint(int64_t i) const { return q + (i + 1) * size; }
};

// source = grad / degree, and the first terms: before = t_(-1) = 0, now = t_0 = seeds; 0 outside the image.
__global__ void __launch_bounds__(kThreads)
    start_kernel(const float* RESTRICT grad, const float* RESTRICT seeds, const int64_t* RESTRICT image_index,
                 const int32_t* RESTRICT sizes, const float* RESTRICT inverse, float* RESTRICT source,
                 float* RESTRICT before, float* RESTRICT now, WalkShape shape) {
  const int64_t total = shape.M * shape.H * shape.W;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const ChannelPixel pixel(i, image_index, sizes, shape);
    source[i] = pixel.exists ? grad[i] * inverse[pixel.at] : 0.0f;
    now[i] = pixel.exists ? seeds[i] : 0.0f;
    before[i] = 0;
  }
}

// to = factor source
__global__ void __launch_bounds__(kThreads)
    scale_kernel(const float* RESTRICT source, float factor, float* RESTRICT to, int64_t total) {
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads)
    to[i] = factor == 0.0f ? 0.0f : factor * source[i];
}

// grad_weights: [B, P, H, W] += sum over channels and terms of s_k (q_i t_j + q_j t_i).
template <class Param>
__global__ void __launch_bounds__(kThreads)
    pair_gradient_kernel(const int32_t* RESTRICT sizes, int64_t* table, float* RESTRICT grad_weights, WalkShape shape,
                         Segment segment, const __grid_constant__ Param param) {
  const PathView paths = param.view();
  const ChannelChunks chunks(table, shape.M, shape.B);
  const int64_t area = shape.H * shape.W;
  const unsigned at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= area) return;
  for (int64_t plane = blockIdx.y; plane < shape.B * paths.size; plane += gridDim.y) {
    const PairPixel pixel(plane, at, shape.W, paths.size);
    const int64_t i = plane * area + at;
    const Cell o = paths.offsets[pixel.p];
    const ImageSize size = image_size(sizes, shape, pixel.b);
    if (pixel.y >= size.h || pixel.x >= size.w || !inside(pixel.y + o.dy, pixel.x + o.dx, size.h, size.w)) continue;
    const int64_t far = o.dy * shape.W + o.dx, last = chunks.start[pixel.b + 1];
    float sum = grad_weights[i];
    for (int64_t k = 0; k < segment.count; ++k) {
      const float scale = segment.scale(k);
      for (int64_t c = chunks.start[pixel.b]; c < last; ++c) {
        const int64_t here = chunks.channels[c] * area + pixel.at;
        const float *t = segment.term(k) + here, *q = segment.adjoint(k) + here;
        sum += scale * (q[0] * t[far] + q[far] * t[0]);
      }
    }
    grad_weights[i] = sum;
  }
}

// grad_degree: [B, H, W] -= sum over channels and terms of q_i (t_(k+1) + r_k t_(k-1))_i.
__global__ void __launch_bounds__(kThreads)
    degree_gradient_kernel(const int32_t* RESTRICT sizes, int64_t* table, float* RESTRICT grad_degree,
                           WalkShape shape, Segment segment) {
  const ChannelChunks chunks(table, shape.M, shape.B);
  const int64_t area = shape.H * shape.W, total = shape.B * area;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const int64_t b = i / area, pixel = i % area;
    const ImageSize size = image_size(sizes, shape, b);
    if (pixel / shape.W >= size.h || pixel % shape.W >= size.w) continue;
    float sum = grad_degree[i];
    for (int64_t k = 0; k < segment.count; ++k)
      for (int64_t c = chunks.start[b]; c < chunks.start[b + 1]; ++c) {
        const int64_t j = chunks.channels[c] * area + pixel;
        sum -= segment.adjoint(k)[j] * (segment.term(k + 1)[j] + segment.previous_scale(k) * segment.term(k - 1)[j]);
      }
    grad_degree[i] = sum;
  }
}

// grad_weights becomes the gradient of the affinities: both degrees of a pair, then the power.
template <class Param>
__global__ void __launch_bounds__(kThreads)
    affinity_gradient_kernel(const float* RESTRICT boundary, const int32_t* RESTRICT sizes,
                             const float* RESTRICT grad_degree, float* RESTRICT grad_weights, WalkShape shape,
                             double beta, const __grid_constant__ Param param) {
  const PathView paths = param.view();
  const int64_t area = shape.H * shape.W;
  const unsigned at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= area) return;
  for (int64_t plane = blockIdx.y; plane < shape.B * paths.size; plane += gridDim.y) {
    const PairPixel pixel(plane, at, shape.W, paths.size);
    const int64_t i = plane * area + at;
    const Cell o = paths.offsets[pixel.p];
    const ImageSize size = image_size(sizes, shape, pixel.b);
    if (pixel.y >= size.h || pixel.x >= size.w || !inside(pixel.y + o.dy, pixel.x + o.dx, size.h, size.w)) continue;
    const float affinity = 1.0f - path_maximum(boundary + pixel.b * area, shape.W, pixel.y, pixel.x,
                                               paths.path(pixel.p), paths.length(pixel.p))
                                      .value;
    const float* degree = grad_degree + pixel.b * area + pixel.at;
    const float grad = grad_weights[i] + degree[0] + degree[o.dy * shape.W + o.dx];
    grad_weights[i] = grad * edge_weight_derivative(affinity, beta);
  }
}

template <class Param>
__global__ void __launch_bounds__(kThreads)
    boundary_gradient_kernel(const float* RESTRICT grad_affinity, const float* RESTRICT boundary,
                             const int32_t* RESTRICT sizes, float* RESTRICT grad_boundary, WalkShape shape,
                             const __grid_constant__ Param param) {
  const PathView paths = param.view();
  const int64_t area = shape.H * shape.W, total = shape.B * area;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const int64_t x = i % shape.W, y = i / shape.W % shape.H, b = i / area;
    const ImageSize size = image_size(sizes, shape, b);
    float sum = 0;
    if (y < size.h && x < size.w)
      sum = boundary_gradient(grad_affinity + b * paths.size * area, boundary + b * area, size.h, size.w, area,
                              shape.W, y, x, paths);
    grad_boundary[i] = sum;
  }
}

// grad_seeds = q_0 / inverse; 0 outside the image, where q_0 was never written
__global__ void __launch_bounds__(kThreads)
    seeds_gradient_kernel(const float* RESTRICT q, const int64_t* RESTRICT image_index, const int32_t* RESTRICT sizes,
                          const float* RESTRICT inverse, float* RESTRICT grad_seeds, WalkShape shape) {
  const int64_t total = shape.M * shape.H * shape.W;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < total; i += int64_t(gridDim.x) * kThreads) {
    const ChannelPixel pixel(i, image_index, sizes, shape);
    grad_seeds[i] = pixel.exists ? q[i] / inverse[pixel.at] : 0.0f;
  }
}

template <class Param>
struct Adjoint {
  const Walker<Param>& walker;
  const WalkPolynomial& polynomial;
  const WalkGradientScratch& gradient;
  const int64_t size, length, segments;  // values of a term, terms of a segment, segments
  float *kept, *t, *q, *source;

  Adjoint(const Walker<Param>& w, const WalkPolynomial& p, const WalkGradientScratch& g)
      : walker(w),
        polynomial(p),
        gradient(g),
        size(w.shape.M * w.shape.H * w.shape.W),
        length(walk_segment(p.degree)),
        segments((p.degree + length - 1) / length),
        kept(g.terms),
        t(kept + 2 * (segments < 1 ? 1 : segments) * size),
        q(t + (length + 2) * size),
        source(q + (length + 2) * size) {}

  double scale(int64_t k) const { return polynomial.chebyshev && k > 0 ? 2.0 : 1.0; }
  double previous_scale(int64_t k) const { return polynomial.chebyshev && k > 0 ? 1.0 : 0.0; }
  float* slot(float* terms, int64_t i) const { return terms + i * size; }
  int64_t count(int64_t segment) const {
    const int64_t rest = polynomial.degree - segment * length;
    return rest < length ? rest : length;
  }
  int copy(const float* from, float* to) const {
    return CUDA_LAUNCH(scale_kernel, dim3(grid_for(size, kThreads)), dim3(kThreads), 0, walker.stream, from, 1.0f, to,
                       size);
  }
  int set_source(int64_t k, float* to) const {
    return CUDA_LAUNCH(scale_kernel, dim3(grid_for(size, kThreads)), dim3(kThreads), 0, walker.stream,
                       static_cast<const float*>(source), static_cast<float>(polynomial.coefficients[k]), to, size);
  }

  // t slots i and i + 1 hold t_(first - 1 + i), t_(first + i); makes the slots up to count + 1
  int make_terms(int64_t segment, int64_t terms) const {
    for (int64_t i = 0; i < terms; ++i) {
      const int64_t k = segment * length + i;
      const TermArrays arrays{slot(t, i + 1), slot(t, i), slot(t, i + 2), nullptr, nullptr, 0.0f, 0.0f};
      if (const int code = walker.term(arrays, scale(k), previous_scale(k))) return code;
    }
    return 0;
  }

  // Keeps t_(k-1) and t_k at the start of each segment.
  int forward() const {
    for (int64_t segment = 0; segment < segments; ++segment) {
      if (segment > 0) {
        if (const int code = copy(slot(t, length), slot(t, 0))) return code;
        if (const int code = copy(slot(t, length + 1), slot(t, 1))) return code;
      }
      if (const int code = copy(slot(t, 0), slot(kept, 2 * segment))) return code;
      if (const int code = copy(slot(t, 1), slot(kept, 2 * segment + 1))) return code;
      if (segment + 1 == segments) return 0;
      if (const int code = make_terms(segment, length)) return code;
    }
    return 0;
  }

  int add_segment(int64_t segment) const {
    const WalkShape& shape = walker.shape;
    const int64_t area = shape.H * shape.W;
    const Segment part{t, q, size, segment * length, count(segment), polynomial.chebyshev};
    if (walker.param.size > 0)
      if (const int code = CUDA_LAUNCH(pair_gradient_kernel<Param>,
                                       pair_grid(shape.B * walker.param.size, area, kThreads), dim3(kThreads), 0,
                                       walker.stream, walker.sizes, walker.scratch.table, gradient.grad_weights, shape,
                                       part, walker.param))
        return code;
    return CUDA_LAUNCH(degree_gradient_kernel, dim3(grid_for(shape.B * area, kThreads)), dim3(kThreads), 0,
                       walker.stream, walker.sizes, walker.scratch.table, gradient.grad_degree, shape, part);
  }

  // q slot i holds q_(first + i); on return slot 0 holds q_0.
  int backward() const {
    if (polynomial.degree == 0) return set_source(0, slot(q, 0));
    const int64_t last = count(segments - 1);
    if (const int code = set_source(polynomial.degree, slot(q, last))) return code;
    if (const int code = CUDA_LAUNCH(scale_kernel, dim3(grid_for(size, kThreads)), dim3(kThreads), 0, walker.stream,
                                     static_cast<const float*>(source), 0.0f, slot(q, last + 1), size))
      return code;
    for (int64_t segment = segments - 1; segment >= 0; --segment) {
      if (const int code = copy(slot(kept, 2 * segment), slot(t, 0))) return code;
      if (const int code = copy(slot(kept, 2 * segment + 1), slot(t, 1))) return code;
      if (const int code = make_terms(segment, count(segment))) return code;
      for (int64_t i = count(segment) - 1; i >= 0; --i) {
        const int64_t k = segment * length + i;
        const float factor = static_cast<float>(polynomial.coefficients[k]);
        const TermArrays arrays{slot(q, i + 1),                   slot(q, i + 2), slot(q, i), nullptr,
                                factor != 0 ? source : nullptr, 0.0f,           factor};
        if (const int code = walker.term(arrays, scale(k), polynomial.chebyshev ? 1.0 : 0.0)) return code;
      }
      if (const int code = add_segment(segment)) return code;
      if (segment == 0) break;
      if (const int code = copy(slot(q, 1), slot(q, length + 1))) return code;
      if (const int code = copy(slot(q, 0), slot(q, length))) return code;
    }
    return 0;
  }
};

template <class Param>
int run(const Walker<Param>& walker, const float* grad, const float* seeds, const float* boundary,
        const int64_t* image_index, float* grad_seeds, float* grad_boundary, double beta,
        const WalkPolynomial& polynomial, const WalkGradientScratch& gradient) {
  const WalkShape& shape = walker.shape;
  const int64_t area = shape.H * shape.W, pairs = shape.B * walker.param.size * area;
  const Adjoint<Param> adjoint(walker, polynomial, gradient);
  const dim3 block(kThreads), channels(grid_for(adjoint.size, kThreads)), pixels(grid_for(shape.B * area, kThreads));
  const auto clear = [&](float* values, int64_t count) {
    return CUDA_LAUNCH(scale_kernel, dim3(grid_for(count, kThreads)), block, 0, walker.stream,
                       static_cast<const float*>(values), 0.0f, values, count);
  };
  if (pairs > 0)
    if (const int code = clear(gradient.grad_weights, pairs)) return code;
  if (const int code = clear(gradient.grad_degree, shape.B * area)) return code;
  if (const int code = walker.prepare(boundary, image_index, beta)) return code;
  if (shape.M > 0) {
    const size_t terms = walk_gradient_terms(polynomial.degree) * adjoint.size * sizeof(float);
    if (walker.sizes)  // no term is ever written outside an image, but all of it is copied
      if (const int code = cudaMemsetAsync(gradient.terms, 0, terms, walker.stream)) return code;
    if (const int code = CUDA_LAUNCH(start_kernel, channels, block, 0, walker.stream, grad, seeds, image_index,
                                     walker.sizes, walker.scratch.inverse, adjoint.source, adjoint.slot(adjoint.t, 0),
                                     adjoint.slot(adjoint.t, 1), shape))
      return code;
    if (const int code = adjoint.forward()) return code;
    if (const int code = adjoint.backward()) return code;
    if (const int code = CUDA_LAUNCH(seeds_gradient_kernel, channels, block, 0, walker.stream,
                                     static_cast<const float*>(adjoint.q), image_index, walker.sizes,
                                     walker.scratch.inverse, grad_seeds, shape))
      return code;
  }
  if (pairs > 0)
    if (const int code = CUDA_LAUNCH(affinity_gradient_kernel<Param>,
                                     pair_grid(shape.B * walker.param.size, area, kThreads), block, 0, walker.stream,
                                     boundary, walker.sizes, gradient.grad_degree,
                                     gradient.grad_weights, shape, beta, walker.param))
      return code;
  return CUDA_LAUNCH(boundary_gradient_kernel<Param>, pixels, block, 0, walker.stream, gradient.grad_weights, boundary,
                     walker.sizes, grad_boundary, shape, walker.param);
}

}  // namespace
}  // namespace walk

int random_walk_backward_cuda(const float* grad, const float* seeds, const float* boundary,
                              const int64_t* image_index, const int32_t* sizes, float* grad_seeds,
                              float* grad_boundary, const WalkShape& shape, double beta,
                              const WalkPolynomial& polynomial, const WalkScratch& scratch,
                              const WalkGradientScratch& gradient, void* stream) {
  const PathTable& table = path_table(shape.radius);
  const auto s = static_cast<cudaStream_t>(stream);
  const auto with = [&](auto param) {
    const walk::Walker<decltype(param)> walker{shape, sizes, scratch, param, s};
    return walk::run(walker, grad, seeds, boundary, image_index, grad_seeds, grad_boundary, beta, polynomial,
                     gradient);
  };
  if (shape.radius <= 5) return with(PathParam5(table));
  if (shape.radius <= 10) return with(PathParam10(table));
  return with(PathParam16(table));
}

}  // namespace wsis
