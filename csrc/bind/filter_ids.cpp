#include "common/filter_ids.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "filter_ids";

using Filtered = std::tuple<Tensor, Tensor>;

void check(const Tensor& ids) {
  WSIS_CHECK(kOp, ids.dim() == 3 && ids.scalar_type() == ScalarType::Int, "ids must be [B, H, W] int32");
  WSIS_CHECK(kOp, ids.size(1) == 0 || ids.size(2) < INT32_MAX / ids.size(1),
             "ids must have fewer than 2^31 - 1 pixels an image");
}

Filtered filter_ids_on_cpu(const Tensor& ids, int64_t min_area, int64_t max_area) {
  check(ids);
  const Tensor map = dense(ids);
  const int64_t B = map.size(0), H = map.size(1), W = map.size(2);
  Tensor kept = new_result(map, {B, H, W}, ScalarType::Int), counts = new_zeros(map, {B}, ScalarType::Int);
  if (kept.numel() > 0)
    filter_ids_cpu(in_ptr<int32_t>(map), out_ptr<int32_t>(kept), out_ptr<int32_t>(counts), B, H * W, min_area,
                   max_area);
  return {kept, counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("filter_ids", TORCH_BOX(&filter_ids_on_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Filtered filter_ids_on_cuda(const Tensor& ids, int64_t min_area, int64_t max_area) {
  check(ids);
  const DeviceScope scope(kOp, ids);
  const Tensor map = dense(ids);
  const int64_t B = map.size(0), H = map.size(1), W = map.size(2);
  Tensor kept = new_empty(map, {B, H, W}, ScalarType::Int), counts = new_zeros(map, {B}, ScalarType::Int);
  if (kept.numel() == 0) return {kept, counts};
  Tensor table = new_zeros(map, {B, H * W + 1}, ScalarType::Int);
  check_cuda(kOp,
             filter_ids_cuda(in_ptr<int32_t>(map), out_ptr<int32_t>(table), out_ptr<int32_t>(kept),
                             out_ptr<int32_t>(counts), B, H * W, min_area, max_area, current_stream(map)),
             map);
  return {kept, counts};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("filter_ids", TORCH_BOX(&filter_ids_on_cuda)); }
#endif

}  // namespace wsis
