#include "common/class_scores.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "class_scores";

using Scores = std::tuple<Tensor, Tensor>;

void check(const Tensor& semantic, const Tensor& center, const Tensor& labels) {
  WSIS_CHECK(kOp, semantic.dim() == 4 && semantic.size(1) >= 1, "semantic must be [B, C + 1, H, W]");
  const int64_t B = semantic.size(0), C = semantic.size(1) - 1, H = semantic.size(2), W = semantic.size(3);
  WSIS_CHECK(kOp, center.dim() == 4 && center.size(0) == B && center.size(1) == C && center.size(2) == H &&
                      center.size(3) == W && center.scalar_type() == semantic.scalar_type(),
             "center must be [B, C, H, W] of semantic's dtype");
  WSIS_CHECK(kOp, labels.dim() == 3 && labels.size(0) == B && labels.size(1) == H && labels.size(2) == W &&
                      labels.scalar_type() == ScalarType::Int,
             "labels must be [B, H, W] int32");
}

Scores class_scores_on_cpu(const Tensor& semantic, const Tensor& center, const Tensor& labels) {
  check(semantic, center, labels);
  const Tensor logits = dense(semantic), heatmap = dense(center), map = dense(labels);
  const int64_t B = logits.size(0), H = logits.size(2), W = logits.size(3);
  Tensor probability = new_result(logits, {B, H, W}, logits.scalar_type());
  Tensor heat = new_result(logits, {B, H, W}, logits.scalar_type());
  if (heat.numel() == 0) return {probability, heat};
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    class_scores_cpu(in_ptr<T>(logits), in_ptr<T>(heatmap), in_ptr<int32_t>(map), out_ptr<T>(probability),
                     out_ptr<T>(heat), B, logits.size(1) - 1, H * W);
  };
  logits.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return {probability, heat};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("class_scores", TORCH_BOX(&class_scores_on_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Scores class_scores_on_cuda(const Tensor& semantic, const Tensor& center, const Tensor& labels) {
  check(semantic, center, labels);
  const DeviceScope scope(kOp, semantic);
  const Tensor logits = dense(semantic), heatmap = dense(center), map = dense(labels);
  const int64_t B = logits.size(0), H = logits.size(2), W = logits.size(3);
  Tensor probability = new_empty(logits, {B, H, W}, ScalarType::Float);
  Tensor heat = new_empty(logits, {B, H, W}, ScalarType::Float);
  if (heat.numel() == 0) return {probability, heat};
  check_cuda(kOp,
             class_scores_cuda(in_ptr<float>(logits), in_ptr<float>(heatmap), in_ptr<int32_t>(map),
                               out_ptr<float>(probability), out_ptr<float>(heat), B, logits.size(1) - 1, H * W,
                               current_stream(logits)),
             logits);
  return {probability, heat};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("class_scores", TORCH_BOX(&class_scores_on_cuda)); }
#endif

}  // namespace wsis
