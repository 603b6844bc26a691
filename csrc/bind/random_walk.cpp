#include "common/random_walk.h"

#include <cstdlib>
#include <string>

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "random_walk";
constexpr int64_t kMaxSteps = 1000000;

WalkShape check(const Tensor& seeds, const Tensor& boundary, const Tensor& image_index,
                const std::optional<Tensor>& sizes, int64_t radius, int64_t num_steps) {
  WSIS_CHECK(kOp, seeds.dim() == 3, "seeds must be [M, h, w]");
  WSIS_CHECK(kOp, boundary.dim() == 3 && boundary.size(1) == seeds.size(1) && boundary.size(2) == seeds.size(2) &&
                      boundary.scalar_type() == seeds.scalar_type(),
             "boundary must be [B, h, w] of seeds' size and dtype");
  WSIS_CHECK(kOp, image_index.dim() == 1 && image_index.size(0) == seeds.size(0) &&
                      image_index.scalar_type() == ScalarType::Long,
             "image_index must be [M] int64");
  WSIS_CHECK(kOp, !sizes || (sizes->dim() == 2 && sizes->size(0) == boundary.size(0) && sizes->size(1) == 2 &&
                             sizes->scalar_type() == ScalarType::Int),
             "sizes must be [B, 2] int32");
  WSIS_CHECK(kOp, seeds.size(1) * seeds.size(2) < (int64_t(1) << 31), "an image must have fewer than 2^31 pixels");
  WSIS_CHECK(kOp, radius >= 1 && radius <= kMaxRadius, "radius must be 1..", kMaxRadius, ", got ", radius);
  WSIS_CHECK(kOp, num_steps >= 0 && num_steps <= kMaxSteps, "num_steps must be 0..", kMaxSteps, ", got ", num_steps);
  return {seeds.size(0), boundary.size(0), seeds.size(1), seeds.size(2), static_cast<int>(radius)};
}

// Indices and sizes steer memory accesses, so the CPU kernel trusts none that it has not seen.
void check_tables(const int64_t* image_index, const int32_t* sizes, const WalkShape& shape) {
  for (int64_t m = 0; m < shape.M; ++m)
    WSIS_CHECK(kOp, image_index[m] >= 0 && image_index[m] < shape.B, "image_index must be 0..", shape.B - 1, ", got ",
               image_index[m]);
  for (int64_t b = 0; sizes && b < shape.B; ++b)
    WSIS_CHECK(kOp, sizes[2 * b] >= 0 && sizes[2 * b] <= shape.H && sizes[2 * b + 1] >= 0 &&
                        sizes[2 * b + 1] <= shape.W,
               "sizes must be at most the padded size");
}

void check_gradient(const Tensor& grad, const Tensor& seeds) {
  WSIS_CHECK(kOp, grad.dim() == 3 && grad.size(0) == seeds.size(0) && grad.size(1) == seeds.size(1) &&
                      grad.size(2) == seeds.size(2) && grad.scalar_type() == seeds.scalar_type(),
             "grad must be [M, h, w] of seeds' dtype");
}

WalkSeries series_of(int64_t num_steps, double tol, bool exact) {
  return exact ? exact_series(num_steps) : chebyshev_series(num_steps, tol);
}

std::optional<Tensor> dense(const std::optional<Tensor>& t) {
  return t ? std::optional<Tensor>(wsis::dense(*t)) : std::nullopt;
}

Tensor forward_cpu(const Tensor& seeds, const Tensor& boundary, const Tensor& image_index,
                   std::optional<Tensor> sizes, int64_t radius, double beta, int64_t num_steps, double tol,
                   bool exact) {
  const WalkShape shape = check(seeds, boundary, image_index, sizes, radius, num_steps);
  const Tensor x = wsis::dense(seeds), edge = wsis::dense(boundary), index = wsis::dense(image_index);
  const std::optional<Tensor> table = dense(sizes);
  Tensor walked = new_result(x, {shape.M, shape.H, shape.W}, x.scalar_type());
  if (walked.numel() == 0) return walked;
  check_tables(in_ptr<int64_t>(index), in_ptr<int32_t>(table), shape);
  const WalkSeries series = series_of(num_steps, tol, exact);
  if (x.scalar_type() == ScalarType::Double)
    random_walk_cpu(in_ptr<double>(x), in_ptr<double>(edge), in_ptr<int64_t>(index), in_ptr<int32_t>(table),
                    out_ptr<double>(walked), shape, beta, series);
  else
    random_walk_cpu(in_ptr<float>(x), in_ptr<float>(edge), in_ptr<int64_t>(index), in_ptr<int32_t>(table),
                    out_ptr<float>(walked), shape, beta, series);
  return walked;
}

// -> gradients of seeds and, if asked for, of the boundary (otherwise of size 0)
std::tuple<Tensor, Tensor> backward_cpu(const Tensor& grad, const Tensor& seeds, const Tensor& boundary,
                                        const Tensor& image_index, std::optional<Tensor> sizes, int64_t radius,
                                        double beta, int64_t num_steps, double tol, bool exact, bool need_boundary) {
  const WalkShape shape = check(seeds, boundary, image_index, sizes, radius, num_steps);
  check_gradient(grad, seeds);
  const Tensor g = wsis::dense(grad), x = wsis::dense(seeds), edge = wsis::dense(boundary),
               index = wsis::dense(image_index);
  const std::optional<Tensor> table = dense(sizes);
  Tensor grad_seeds = new_result(x, {shape.M, shape.H, shape.W}, x.scalar_type());
  Tensor grad_boundary = need_boundary ? new_empty(x, {shape.B, shape.H, shape.W}, x.scalar_type())
                                       : new_empty(x, {0}, x.scalar_type());
  if (shape.B * shape.H * shape.W == 0) return {grad_seeds, grad_boundary};
  check_tables(in_ptr<int64_t>(index), in_ptr<int32_t>(table), shape);
  const WalkSeries series = series_of(num_steps, tol, exact);
  const auto run = [&]<class T>(T) {
    if (need_boundary)
      random_walk_backward_cpu(in_ptr<T>(g), in_ptr<T>(x), in_ptr<T>(edge), in_ptr<int64_t>(index),
                               in_ptr<int32_t>(table), out_ptr<T>(grad_seeds), out_ptr<T>(grad_boundary), shape, beta,
                               series);
    else
      random_walk_transposed_cpu(in_ptr<T>(g), in_ptr<T>(edge), in_ptr<int64_t>(index), in_ptr<int32_t>(table),
                                 out_ptr<T>(grad_seeds), shape, beta, series);
  };
  x.scalar_type() == ScalarType::Double ? run(double()) : run(float());
  return {grad_seeds, grad_boundary};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) {
  m.impl("random_walk", TORCH_BOX(&forward_cpu));
  m.impl("random_walk_backward", TORCH_BOX(&backward_cpu));
}

#ifdef WSIS_WITH_CUDA
namespace {

// The device memory of one call; the tensors own what `pointers` names.
struct DeviceScratch {
  Tensor weights, degree, inverse, current, previous, table;
  WalkScratch pointers;

  DeviceScratch(const Tensor& like, const WalkShape& s)
      : weights(new_empty(like, {s.B, path_table(s.radius).size(), s.H, s.W}, ScalarType::Float)),
        degree(new_empty(like, {s.B, s.H, s.W}, ScalarType::Float)),
        inverse(new_empty(like, {s.B, s.H, s.W}, ScalarType::Float)),
        current(new_empty(like, {s.M, s.H, s.W}, ScalarType::Float)),
        previous(new_empty(like, {s.M, s.H, s.W}, ScalarType::Float)),
        table(new_empty(like, {walk_table_size(s.M, s.B)}, ScalarType::Long)),
        pointers{out_ptr<float>(weights), out_ptr<float>(degree),   out_ptr<float>(inverse),
                 out_ptr<float>(current), out_ptr<float>(previous), out_ptr<int64_t>(table)} {}
};

WalkPolynomial polynomial_of(const WalkSeries& series) {
  return {series.coefficients.data(), series.degree(), series.chebyshev};
}

// WSIS_WALK_BLOCKS chooses the design by hand, for measurements: see random_walk_cuda.
int wanted_blocks() {
  const char* text = std::getenv("WSIS_WALK_BLOCKS");
  if (!text || !*text) return -1;
  for (const int blocks : {0, 1, 2, 4, 8, 16})
    if (std::to_string(blocks) == text) return blocks;
  WSIS_CHECK(kOp, false, "WSIS_WALK_BLOCKS must be 0, 1, 2, 4, 8 or 16, got ", text);
  return -1;
}

Tensor forward_cuda(const Tensor& seeds, const Tensor& boundary, const Tensor& image_index,
                    std::optional<Tensor> sizes, int64_t radius, double beta, int64_t num_steps, double tol,
                    bool exact) {
  const WalkShape shape = check(seeds, boundary, image_index, sizes, radius, num_steps);
  const DeviceScope scope(kOp, seeds);
  const Tensor x = wsis::dense(seeds), edge = wsis::dense(boundary), index = wsis::dense(image_index);
  const std::optional<Tensor> table = dense(sizes);
  Tensor walked = new_empty(x, {shape.M, shape.H, shape.W}, ScalarType::Float);
  if (walked.numel() == 0) return walked;
  const WalkSeries series = series_of(num_steps, tol, exact);
  const DeviceScratch scratch(x, shape);
  check_cuda(kOp,
             random_walk_cuda(in_ptr<float>(x), in_ptr<float>(edge), in_ptr<int64_t>(index), in_ptr<int32_t>(table),
                              out_ptr<float>(walked), shape, beta, polynomial_of(series), false, wanted_blocks(),
                              scratch.pointers,
                              current_stream(x)),
             x);
  return walked;
}

std::tuple<Tensor, Tensor> backward_cuda(const Tensor& grad, const Tensor& seeds, const Tensor& boundary,
                                         const Tensor& image_index, std::optional<Tensor> sizes, int64_t radius,
                                         double beta, int64_t num_steps, double tol, bool exact, bool need_boundary) {
  const WalkShape shape = check(seeds, boundary, image_index, sizes, radius, num_steps);
  check_gradient(grad, seeds);
  const DeviceScope scope(kOp, seeds);
  const Tensor g = wsis::dense(grad), x = wsis::dense(seeds), edge = wsis::dense(boundary),
               index = wsis::dense(image_index);
  const std::optional<Tensor> table = dense(sizes);
  Tensor grad_seeds = new_empty(x, {shape.M, shape.H, shape.W}, ScalarType::Float);
  Tensor grad_boundary = need_boundary ? new_empty(x, {shape.B, shape.H, shape.W}, ScalarType::Float)
                                       : new_empty(x, {0}, ScalarType::Float);
  if (grad_seeds.numel() + grad_boundary.numel() == 0) return {grad_seeds, grad_boundary};
  const WalkSeries series = series_of(num_steps, tol, exact);
  const DeviceScratch scratch(x, shape);
  if (!need_boundary) {
    check_cuda(kOp,
               random_walk_cuda(in_ptr<float>(g), in_ptr<float>(edge), in_ptr<int64_t>(index), in_ptr<int32_t>(table),
                                out_ptr<float>(grad_seeds), shape, beta, polynomial_of(series), true,
                                wanted_blocks(), scratch.pointers, current_stream(x)),
               x);
    return {grad_seeds, grad_boundary};
  }
  Tensor terms = new_empty(x, {walk_gradient_terms(series.degree()), shape.M, shape.H, shape.W}, ScalarType::Float);
  Tensor grad_weights =
      new_empty(x, {shape.B, path_table(shape.radius).size(), shape.H, shape.W}, ScalarType::Float);
  Tensor grad_degree = new_empty(x, {shape.B, shape.H, shape.W}, ScalarType::Float);
  const WalkGradientScratch gradient{out_ptr<float>(terms), out_ptr<float>(grad_weights),
                                     out_ptr<float>(grad_degree)};
  check_cuda(kOp,
             random_walk_backward_cuda(in_ptr<float>(g), in_ptr<float>(x), in_ptr<float>(edge), in_ptr<int64_t>(index),
                                       in_ptr<int32_t>(table), out_ptr<float>(grad_seeds),
                                       out_ptr<float>(grad_boundary), shape, beta, polynomial_of(series),
                                       scratch.pointers, gradient, current_stream(x)),
             x);
  return {grad_seeds, grad_boundary};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) {
  m.impl("random_walk", TORCH_BOX(&forward_cuda));
  m.impl("random_walk_backward", TORCH_BOX(&backward_cuda));
}
#endif

}  // namespace wsis
