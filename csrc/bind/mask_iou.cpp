#include "common/mask_iou.h"

#include "bind/tensor.h"

namespace wsis {
namespace {

constexpr const char* kOp = "mask_iou";

using Overlap = std::tuple<Tensor, Tensor, Tensor>;

// Dense arguments and zeroed results of one call.
struct Call {
  Tensor a, b;
  std::optional<Tensor> image_a, image_b;
  Tensor common, area_a, area_b;
  MaskSets sets;

  Call(const Tensor& masks_a, const Tensor& masks_b, const std::optional<Tensor>& of_a,
       const std::optional<Tensor>& of_b)
      : a(dense(masks_a)),
        b(dense(masks_b)),
        image_a(dense(of_a)),
        image_b(dense(of_b)),
        common(new_zeros(a, {a.size(0), b.size(0)}, ScalarType::Long)),
        area_a(new_zeros(a, {a.size(0)}, ScalarType::Long)),
        area_b(new_zeros(a, {b.size(0)}, ScalarType::Long)),
        sets{static_cast<const uint8_t*>(a.const_data_ptr()), static_cast<const uint8_t*>(b.const_data_ptr()),
             in_ptr<int64_t>(image_a), in_ptr<int64_t>(image_b), a.size(0), b.size(0), a.size(1) * a.size(2)} {}

  bool empty() const { return sets.plane == 0 || sets.N + sets.M == 0; }
  Overlap result() const { return {common, area_a, area_b}; }
};

bool is_index(const std::optional<Tensor>& t, int64_t count) {
  return t && t->dim() == 1 && t->size(0) == count && t->scalar_type() == ScalarType::Long;
}

void check(const Tensor& a, const Tensor& b, const std::optional<Tensor>& image_a,
           const std::optional<Tensor>& image_b) {
  for (const Tensor* t : {&a, &b})
    WSIS_CHECK(kOp, t->dim() == 3 && (t->scalar_type() == ScalarType::Bool || t->scalar_type() == ScalarType::Byte),
               "masks must be [N, H, W] bool or uint8");
  WSIS_CHECK(kOp, a.size(1) == b.size(1) && a.size(2) == b.size(2), "masks_a and masks_b must have one image size");
  WSIS_CHECK(kOp, a.size(1) == 0 || a.size(2) <= INT32_MAX / a.size(1), "an image must have fewer than 2^31 pixels");
  WSIS_CHECK(kOp, (!image_a && !image_b) || (is_index(image_a, a.size(0)) && is_index(image_b, b.size(0))),
             "image_a and image_b must be [N] and [M] int64, or both left out");
}

Overlap on_cpu(const Tensor& a, const Tensor& b, std::optional<Tensor> image_a, std::optional<Tensor> image_b) {
  check(a, b, image_a, image_b);
  Call call(a, b, image_a, image_b);
  if (!call.empty())
    mask_iou_cpu(call.sets, out_ptr<int64_t>(call.common), out_ptr<int64_t>(call.area_a),
                 out_ptr<int64_t>(call.area_b));
  return call.result();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("mask_iou", TORCH_BOX(&on_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Overlap on_cuda(const Tensor& a, const Tensor& b, std::optional<Tensor> image_a, std::optional<Tensor> image_b) {
  check(a, b, image_a, image_b);
  const DeviceScope scope(kOp, a);
  Call call(a, b, image_a, image_b);
  if (call.empty()) return call.result();
  Tensor packed =
      new_empty(call.a, {call.sets.N + call.sets.M, 2 * mask_words(call.sets.plane)}, ScalarType::Int);
  check_cuda(kOp,
             mask_iou_cuda(call.sets, reinterpret_cast<uint32_t*>(out_ptr<int32_t>(packed)),
                           out_ptr<int64_t>(call.common), out_ptr<int64_t>(call.area_a),
                           out_ptr<int64_t>(call.area_b), current_stream(call.a)),
             call.a);
  return call.result();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("mask_iou", TORCH_BOX(&on_cuda)); }
#endif

}  // namespace wsis
