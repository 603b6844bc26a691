#include "common/inter_pixel_loss.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "inter_pixel_loss";
using Losses = std::tuple<Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor>;

bool same_grid(const Tensor& t, const Tensor& logits, int64_t leading, int64_t channels) {
  return t.dim() == (channels ? 4 : 3) && t.size(0) == leading && (!channels || t.size(1) == channels) &&
         t.size(t.dim() - 2) == logits.size(1) && t.size(t.dim() - 1) == logits.size(2);
}

void check(const Tensor& logits, const Tensor& displacement, const Tensor& seeds, int64_t radius) {
  WSIS_CHECK(kOp, logits.dim() == 3, "boundary_logits must be [B, h, w]");
  WSIS_CHECK(kOp, same_grid(displacement, logits, logits.size(0), 2) &&
                      displacement.scalar_type() == logits.scalar_type(),
             "displacement must be [B, 2, h, w] of boundary_logits' dtype");
  WSIS_CHECK(kOp, same_grid(seeds, logits, logits.size(0), 0) && seeds.scalar_type() == ScalarType::Byte,
             "seeds must be [B, h, w] uint8");
  WSIS_CHECK(kOp, radius >= 1 && radius <= kMaxRadius, "radius must be 1..", kMaxRadius, ", got ", radius);
}

void check_backward(const Tensor& grad_losses, const Tensor& logits, const Tensor& seeds, const Tensor& counts,
                    const Tensor& state) {
  WSIS_CHECK(kOp, logits.dim() == 3, "boundary_logits must be [B, h, w]");
  WSIS_CHECK(kOp, grad_losses.dim() == 1 && grad_losses.size(0) == 4 &&
                      grad_losses.scalar_type() == logits.scalar_type(),
             "grad_losses must be [4] of boundary_logits' dtype");
  WSIS_CHECK(kOp, same_grid(seeds, logits, logits.size(0), 0) && seeds.scalar_type() == ScalarType::Byte,
             "seeds must be [B, h, w] uint8");
  WSIS_CHECK(kOp, counts.dim() == 1 && counts.size(0) == 3 && counts.scalar_type() == ScalarType::Long,
             "counts must be [3] int64");
  WSIS_CHECK(kOp, same_grid(state, logits, logits.size(0), kStateWords) && state.scalar_type() == ScalarType::Int,
             "state must be [B, 3, h, w] int32");
}

Losses forward_cpu(const Tensor& logits_, const Tensor& displacement_, const Tensor& seeds_, int64_t radius) {
  check(logits_, displacement_, seeds_, radius);
  const Tensor logits = dense(logits_), displacement = dense(displacement_), seeds = dense(seeds_);
  const int64_t B = logits.size(0), h = logits.size(1), w = logits.size(2);
  Tensor losses = new_zeros(logits, {4}, logits.scalar_type()), counts = new_zeros(logits, {3}, ScalarType::Long);
  Tensor state = new_zero_result(logits, {B, kStateWords, h, w}, ScalarType::Int);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    inter_pixel_loss_cpu(in_ptr<T>(logits), in_ptr<T>(displacement), in_ptr<uint8_t>(seeds), out_ptr<int32_t>(state),
                         out_ptr<T>(losses), out_ptr<int64_t>(counts), B, h, w, static_cast<int>(radius));
  };
  if (logits.numel() == 0) return {losses, counts, state};
  logits.scalar_type() == ScalarType::Double ? run(0.0) : run(0.0f);
  return {losses, counts, state};
}

Gradients backward_cpu(const Tensor& grad_losses_, const Tensor& logits_, const Tensor& seeds_, const Tensor& counts_,
                       const Tensor& state_) {
  check_backward(grad_losses_, logits_, seeds_, counts_, state_);
  const Tensor grad_losses = dense(grad_losses_), logits = dense(logits_), seeds = dense(seeds_),
               counts = dense(counts_), state = dense(state_);
  const int64_t B = logits.size(0), h = logits.size(1), w = logits.size(2);
  Tensor grad_logits = new_result(logits, {B, h, w}, logits.scalar_type());
  Tensor grad_displacement = new_result(logits, {B, 2, h, w}, logits.scalar_type());
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    inter_pixel_loss_backward_cpu(in_ptr<T>(grad_losses), in_ptr<T>(logits), in_ptr<uint8_t>(seeds),
                                  in_ptr<int32_t>(state), in_ptr<int64_t>(counts), out_ptr<T>(grad_logits),
                                  out_ptr<T>(grad_displacement), B, h, w);
  };
  if (logits.numel() == 0) return {grad_logits, grad_displacement};
  logits.scalar_type() == ScalarType::Double ? run(0.0) : run(0.0f);
  return {grad_logits, grad_displacement};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) {
  m.impl("inter_pixel_loss", TORCH_BOX(&forward_cpu));
  m.impl("inter_pixel_loss_backward", TORCH_BOX(&backward_cpu));
}

#ifdef WSIS_WITH_CUDA
namespace {

Losses forward_cuda(const Tensor& logits_, const Tensor& displacement_, const Tensor& seeds_, int64_t radius) {
  check(logits_, displacement_, seeds_, radius);
  const DeviceScope scope(kOp, logits_);
  const Tensor logits = dense(logits_), displacement = dense(displacement_), seeds = dense(seeds_);
  const int64_t B = logits.size(0), h = logits.size(1), w = logits.size(2);
  Tensor losses = new_zeros(logits, {4}, logits.scalar_type()), counts = new_zeros(logits, {3}, ScalarType::Long);
  Tensor state = new_zeros(logits, {B, kStateWords, h, w}, ScalarType::Int);
  if (logits.numel() == 0) return {losses, counts, state};
  Tensor offset_sum = new_zeros(logits, {1}, ScalarType::Long);
  Tensor partial = new_empty(logits, {kLossBlocks, kLossTerms}, ScalarType::Double);
  check_cuda(kOp,
             inter_pixel_loss_cuda(in_ptr<float>(logits), in_ptr<float>(displacement), in_ptr<uint8_t>(seeds),
                                   out_ptr<int32_t>(state), out_ptr<int64_t>(offset_sum), out_ptr<double>(partial),
                                   out_ptr<float>(losses), out_ptr<int64_t>(counts), B, h, w,
                                   static_cast<int>(radius), current_stream(logits)),
             logits);
  return {losses, counts, state};
}

Gradients backward_cuda(const Tensor& grad_losses_, const Tensor& logits_, const Tensor& seeds_,
                        const Tensor& counts_, const Tensor& state_) {
  check_backward(grad_losses_, logits_, seeds_, counts_, state_);
  const DeviceScope scope(kOp, logits_);
  const Tensor grad_losses = dense(grad_losses_), logits = dense(logits_), seeds = dense(seeds_),
               counts = dense(counts_), state = dense(state_);
  const int64_t B = logits.size(0), h = logits.size(1), w = logits.size(2);
  Tensor grad_logits = new_empty(logits, {B, h, w}, logits.scalar_type());
  Tensor grad_displacement = new_empty(logits, {B, 2, h, w}, logits.scalar_type());
  if (logits.numel() == 0) return {grad_logits, grad_displacement};
  check_cuda(kOp,
             inter_pixel_loss_backward_cuda(in_ptr<float>(grad_losses), in_ptr<float>(logits), in_ptr<uint8_t>(seeds),
                                            in_ptr<int32_t>(state), in_ptr<int64_t>(counts),
                                            out_ptr<float>(grad_logits), out_ptr<float>(grad_displacement), B, h, w,
                                            current_stream(logits)),
             logits);
  return {grad_logits, grad_displacement};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) {
  m.impl("inter_pixel_loss", TORCH_BOX(&forward_cuda));
  m.impl("inter_pixel_loss_backward", TORCH_BOX(&backward_cuda));
}
#endif

}  // namespace wsis
