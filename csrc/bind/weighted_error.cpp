#include "common/weighted_error.h"

#include "bind/pages.h"
#include "bind/tensor.h"

namespace wsis {
namespace {

constexpr const char* kOp = "weighted_error";
using Sums = std::tuple<Tensor, Tensor>;

// The tensors that the pointers of a problem lead to.
struct Inputs {
  Tensor prediction;
  std::optional<Tensor> target[kErrorTargets], weight[kErrorTargets];
  bool squared;

  template <class T>
  ErrorProblem<T> problem() const {
    return {in_ptr<T>(prediction), {in_ptr<T>(target[0]), in_ptr<T>(target[1])},
            {in_ptr<T>(weight[0]), in_ptr<T>(weight[1])},
            prediction.size(0), prediction.size(1), prediction.size(2) * prediction.size(3), squared};
  }
};

Inputs checked(const Tensor& prediction, const Tensor& target, const Tensor& weight,
               const std::optional<Tensor>& target_b, const std::optional<Tensor>& weight_b, int64_t power) {
  WSIS_CHECK(kOp, prediction.dim() == 4, "prediction must be [B, K, H, W]");
  const auto fits = [&](const Tensor& t, int64_t channels) {
    return t.dim() == 4 && t.size(0) == prediction.size(0) && t.size(1) == channels &&
           t.size(2) == prediction.size(2) && t.size(3) == prediction.size(3) &&
           t.scalar_type() == prediction.scalar_type();
  };
  WSIS_CHECK(kOp, target_b.has_value() == weight_b.has_value(), "a second target needs a weight");
  WSIS_CHECK(kOp, fits(target, prediction.size(1)) && (!target_b || fits(*target_b, prediction.size(1))),
             "targets must have the shape and dtype of prediction");
  WSIS_CHECK(kOp, fits(weight, 1) && (!weight_b || fits(*weight_b, 1)), "weights must be [B, 1, H, W] of its dtype");
  WSIS_CHECK(kOp, power == 1 || power == 2, "power must be 1 or 2, got ", power);
  return {dense(prediction), {dense(target), dense(target_b)}, {dense(weight), dense(weight_b)}, power == 2};
}

void check_factor(const Tensor& factor) {
  WSIS_CHECK(kOp, factor.dim() == 1 && factor.size(0) == kErrorTargets && factor.scalar_type() == ScalarType::Double,
             "factor must be [2] float64");
}

Sums forward_cpu(const Tensor& prediction, const Tensor& target, const Tensor& weight,
                 const std::optional<Tensor>& target_b, const std::optional<Tensor>& weight_b, int64_t power) {
  const Inputs in = checked(prediction, target, weight, target_b, weight_b, power);
  Tensor sums = new_zeros(prediction, {kErrorTargets}, ScalarType::Double);
  Tensor counts = new_zeros(prediction, {kErrorTargets}, ScalarType::Long);
  if (in.weight[0]->numel() == 0) return {sums, counts};
  in.prediction.scalar_type() == ScalarType::Double
      ? weighted_error_cpu(in.problem<double>(), out_ptr<double>(sums), out_ptr<int64_t>(counts))
      : weighted_error_cpu(in.problem<float>(), out_ptr<double>(sums), out_ptr<int64_t>(counts));
  return {sums, counts};
}

Tensor backward_cpu(const Tensor& factor, const Tensor& prediction, const Tensor& target, const Tensor& weight,
                    const std::optional<Tensor>& target_b, const std::optional<Tensor>& weight_b, int64_t power) {
  const Inputs in = checked(prediction, target, weight, target_b, weight_b, power);
  check_factor(factor);
  const int64_t B = prediction.size(0), K = prediction.size(1), H = prediction.size(2), W = prediction.size(3);
  if (prediction.scalar_type() == ScalarType::Double) {
    Tensor gradient = new_zeros(prediction, {B, K, H, W}, ScalarType::Double);
    if (gradient.numel() > 0)
      weighted_error_backward_cpu(in.problem<double>(), in_ptr<double>(dense(factor)), out_ptr<double>(gradient));
    return gradient;
  }
  Tensor gradient = lazy_zeros(prediction, {B, K, H, W});
  prefer_huge_pages(gradient);
  if (gradient.numel() > 0)
    weighted_error_backward_cpu(in.problem<float>(), in_ptr<double>(dense(factor)), out_ptr<float>(gradient));
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) {
  m.impl("weighted_error", TORCH_BOX(&forward_cpu));
  m.impl("weighted_error_backward", TORCH_BOX(&backward_cpu));
}

#ifdef WSIS_WITH_CUDA
namespace {

Sums forward_cuda(const Tensor& prediction, const Tensor& target, const Tensor& weight,
                  const std::optional<Tensor>& target_b, const std::optional<Tensor>& weight_b, int64_t power) {
  const DeviceScope scope(kOp, prediction);
  const Inputs in = checked(prediction, target, weight, target_b, weight_b, power);
  Tensor sums = new_zeros(prediction, {kErrorTargets}, ScalarType::Double);
  Tensor counts = new_zeros(prediction, {kErrorTargets}, ScalarType::Long);
  if (in.weight[0]->numel() == 0) return {sums, counts};
  Tensor partial = new_empty(prediction, {kErrorBlocks, 2 * kErrorTargets}, ScalarType::Double);
  check_cuda(kOp,
             weighted_error_cuda(in.problem<float>(), out_ptr<double>(partial), out_ptr<double>(sums),
                                 out_ptr<int64_t>(counts), current_stream(prediction)),
             prediction);
  return {sums, counts};
}

Tensor backward_cuda(const Tensor& factor, const Tensor& prediction, const Tensor& target, const Tensor& weight,
                     const std::optional<Tensor>& target_b, const std::optional<Tensor>& weight_b, int64_t power) {
  const DeviceScope scope(kOp, prediction);
  const Inputs in = checked(prediction, target, weight, target_b, weight_b, power);
  check_factor(factor);
  const int64_t B = prediction.size(0), K = prediction.size(1), H = prediction.size(2), W = prediction.size(3);
  Tensor gradient = new_empty(prediction, {B, K, H, W}, ScalarType::Float);
  const Tensor scale = dense(factor);
  if (gradient.numel() > 0)
    check_cuda(kOp,
               weighted_error_backward_cuda(in.problem<float>(), in_ptr<double>(scale), out_ptr<float>(gradient),
                                            current_stream(prediction)),
               prediction);
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) {
  m.impl("weighted_error", TORCH_BOX(&forward_cuda));
  m.impl("weighted_error_backward", TORCH_BOX(&backward_cuda));
}
#endif

}  // namespace wsis
