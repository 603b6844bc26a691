#include "common/peaks.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "peak_mask";

void check(const Tensor& heatmap, const std::optional<Tensor>& ids, int64_t window) {
  WSIS_CHECK(kOp, heatmap.dim() == 4, "heatmap must be [B, C, H, W]");
  WSIS_CHECK(kOp, window >= 1 && window <= kMaxPeakWindow && window % 2 == 1, "window must be odd and 1..",
             kMaxPeakWindow, ", got ", window);
  if (ids)
    WSIS_CHECK(kOp, ids->dim() == 3 && ids->size(0) == heatmap.size(0) && ids->size(1) == heatmap.size(2) &&
                        ids->size(2) == heatmap.size(3) && ids->scalar_type() == ScalarType::Int,
               "ids must be [B, H, W] int32");
}

Tensor peak_mask_on_cpu(const Tensor& heatmap, const std::optional<Tensor>& ids, int64_t window, double threshold) {
  check(heatmap, ids, window);
  const Tensor heat = dense(heatmap);
  const std::optional<Tensor> confine = dense(ids);
  const int64_t B = heat.size(0), C = heat.size(1), H = heat.size(2), W = heat.size(3);
  Tensor mask = new_result(heat, {B, C, H, W}, ScalarType::Bool);
  if (mask.numel() == 0) return mask;
  const auto* id = in_ptr<int32_t>(confine);
  auto* out = out_ptr<uint8_t>(mask);
  if (heat.scalar_type() == ScalarType::Double)
    peak_mask_cpu(in_ptr<double>(heat), id, out, B, C, H, W, window, threshold);
  else
    peak_mask_cpu(in_ptr<float>(heat), id, out, B, C, H, W, window, static_cast<float>(threshold));
  return mask;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("peak_mask", TORCH_BOX(&peak_mask_on_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Tensor peak_mask_on_cuda(const Tensor& heatmap, const std::optional<Tensor>& ids, int64_t window, double threshold) {
  check(heatmap, ids, window);
  const DeviceScope scope(kOp, heatmap);
  const Tensor heat = dense(heatmap);
  const std::optional<Tensor> confine = dense(ids);
  const int64_t B = heat.size(0), C = heat.size(1), H = heat.size(2), W = heat.size(3);
  Tensor mask = new_empty(heat, {B, C, H, W}, ScalarType::Bool);
  if (mask.numel() == 0) return mask;
  WSIS_CHECK(kOp, W <= INT32_MAX / H, "heatmap must have fewer than 2^31 pixels a plane");
  Tensor scratch = new_empty(heat, {ids ? 0 : heat.numel()}, ScalarType::Float);
  check_cuda(kOp,
             peak_mask_cuda(in_ptr<float>(heat), in_ptr<int32_t>(confine), out_ptr<uint8_t>(mask),
                            out_ptr<float>(scratch), B, C, H, W, static_cast<int>(window),
                            static_cast<float>(threshold), current_stream(heat)),
             heat);
  return mask;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("peak_mask", TORCH_BOX(&peak_mask_on_cuda)); }
#endif

}  // namespace wsis
