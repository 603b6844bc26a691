#include "common/group_pixels.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "group_pixels";

void check(const Tensor& offsets, const Tensor& foreground, const Tensor& center_yx, const Tensor& component,
           const Tensor& id) {
  WSIS_CHECK(kOp, offsets.dim() == 4 && offsets.size(1) == 2, "offsets must be [B, 2, H, W]");
  WSIS_CHECK(kOp, foreground.dim() == 3 && foreground.size(0) == offsets.size(0) &&
                      foreground.size(1) == offsets.size(2) && foreground.size(2) == offsets.size(3) &&
                      foreground.scalar_type() == ScalarType::Int,
             "foreground must be [B, H, W] int32");
  const int64_t N = id.numel();
  WSIS_CHECK(kOp, center_yx.dim() == 2 && center_yx.size(0) == N && center_yx.size(1) == 2 &&
                      center_yx.scalar_type() == offsets.scalar_type(),
             "center_yx must be [N, 2] of offsets' dtype");
  WSIS_CHECK(kOp, component.numel() == N && component.scalar_type() == ScalarType::Long, "component must be [N] int64");
  WSIS_CHECK(kOp, id.dim() == 1 && id.scalar_type() == ScalarType::Int, "id must be [N] int32");
}

Tensor group_pixels_on_cpu(const Tensor& offsets, const Tensor& foreground, const Tensor& center_yx,
                           const Tensor& component, const Tensor& id) {
  check(offsets, foreground, center_yx, component, id);
  const Tensor off = dense(offsets), fg = dense(foreground), yx = dense(center_yx), key = dense(component),
               name = dense(id);
  const int64_t B = off.size(0), H = off.size(2), W = off.size(3), N = name.numel();
  Tensor ids = new_result(off, {B, H, W}, ScalarType::Int);
  if (ids.numel() == 0) return ids;
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    group_pixels_cpu(in_ptr<T>(off), in_ptr<int32_t>(fg), in_ptr<T>(yx), in_ptr<int64_t>(key), in_ptr<int32_t>(name),
                     out_ptr<int32_t>(ids), B, H, W, N);
  };
  off.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return ids;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("group_pixels", TORCH_BOX(&group_pixels_on_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Tensor group_pixels_on_cuda(const Tensor& offsets, const Tensor& foreground, const Tensor& center_yx,
                            const Tensor& component, const Tensor& id) {
  check(offsets, foreground, center_yx, component, id);
  const DeviceScope scope(kOp, offsets);
  const Tensor off = dense(offsets), fg = dense(foreground), yx = dense(center_yx), key = dense(component),
               name = dense(id);
  const int64_t B = off.size(0), H = off.size(2), W = off.size(3), N = name.numel();
  Tensor ids = new_empty(off, {B, H, W}, ScalarType::Int);
  if (ids.numel() == 0) return ids;
  WSIS_CHECK(kOp, W <= INT32_MAX / H, "offsets must have fewer than 2^31 pixels an image");
  check_cuda(kOp,
             group_pixels_cuda(in_ptr<float>(off), in_ptr<int32_t>(fg), in_ptr<float>(yx), in_ptr<int64_t>(key),
                               in_ptr<int32_t>(name), out_ptr<int32_t>(ids), B, H, W, N, current_stream(off)),
             off);
  return ids;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("group_pixels", TORCH_BOX(&group_pixels_on_cuda)); }
#endif

}  // namespace wsis
