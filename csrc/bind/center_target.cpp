#include "common/center_target.h"

#include "bind/pages.h"
#include "bind/tensor.h"

namespace wsis {
namespace {

constexpr const char* kOp = "center_target";

struct Inputs {
  Tensor ids, key, label, score, center_yx, bell;
  CenterTargetShape shape;
};

Inputs checked(const Tensor& ids, const Tensor& key, const Tensor& label, const Tensor& score, const Tensor& center_yx,
               const Tensor& bell, int64_t num_classes, int64_t reach) {
  WSIS_CHECK(kOp, ids.dim() == 3 && ids.scalar_type() == ScalarType::Int, "ids must be [B, H, W] int32");
  const int64_t M = key.numel();
  WSIS_CHECK(kOp, key.dim() == 1 && key.scalar_type() == ScalarType::Long, "key must be [M] int64");
  WSIS_CHECK(kOp, label.numel() == M && label.scalar_type() == ScalarType::Long, "label must be [M] int64");
  WSIS_CHECK(kOp, score.numel() == M && score.scalar_type() == ScalarType::Float, "score must be [M] float32");
  WSIS_CHECK(kOp, center_yx.numel() == 2 * M && center_yx.scalar_type() == ScalarType::Long,
             "center_yx must be [M, 2] int64");
  WSIS_CHECK(kOp, reach >= 0 && bell.numel() == 2 * reach * reach + 1 && bell.scalar_type() == ScalarType::Float,
             "bell must be [2 reach^2 + 1] float32");
  WSIS_CHECK(kOp, ids.size(2) < (int64_t(1) << 30), "ids must be less than 2^30 wide");
  WSIS_CHECK(kOp, ids.size(1) == 0 || ids.size(2) <= INT32_MAX / ids.size(1),
             "ids must have fewer than 2^31 pixels an image");
  WSIS_CHECK(kOp, num_classes >= 0, "num_classes must not be negative");
  return {dense(ids),       dense(key),  dense(label),
          dense(score),     dense(center_yx), dense(bell),
          {ids.size(0), num_classes, ids.size(1), ids.size(2), M, reach}};
}

struct Outputs {
  Tensor center, offset, weight;
  std::tuple<Tensor, Tensor, Tensor> tuple() const { return {center, offset, weight}; }
};

std::tuple<Tensor, Tensor, Tensor> center_target_on_cpu(const Tensor& ids, const Tensor& key, const Tensor& label,
                                                        const Tensor& score, const Tensor& center_yx,
                                                        const Tensor& bell, int64_t num_classes, int64_t reach) {
  const Inputs in = checked(ids, key, label, score, center_yx, bell, num_classes, reach);
  const CenterTargetShape& s = in.shape;
  Outputs out{lazy_zeros(in.ids, {s.B, s.C, s.H, s.W}), new_result(in.ids, {s.B, 2, s.H, s.W}, ScalarType::Float),
              new_result(in.ids, {s.B, 1, s.H, s.W}, ScalarType::Float)};
  if (in.ids.numel() > 0)
    center_target_cpu(in_ptr<int32_t>(in.ids), in_ptr<int64_t>(in.key), in_ptr<int64_t>(in.label),
                      in_ptr<float>(in.score), in_ptr<int64_t>(in.center_yx), in_ptr<float>(in.bell),
                      out_ptr<float>(out.center), out_ptr<float>(out.offset), out_ptr<float>(out.weight), in.shape);
  prefer_huge_pages(out.center);  // only now: Gaussians touch little of it, whoever reads it touches all
  return out.tuple();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("center_target", TORCH_BOX(&center_target_on_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

std::tuple<Tensor, Tensor, Tensor> center_target_on_cuda(const Tensor& ids, const Tensor& key, const Tensor& label,
                                                         const Tensor& score, const Tensor& center_yx,
                                                         const Tensor& bell, int64_t num_classes, int64_t reach) {
  const DeviceScope scope(kOp, ids);
  const Inputs in = checked(ids, key, label, score, center_yx, bell, num_classes, reach);
  const CenterTargetShape& s = in.shape;
  Outputs out{new_zeros(in.ids, {s.B, s.C, s.H, s.W}, ScalarType::Float),
              new_empty(in.ids, {s.B, 2, s.H, s.W}, ScalarType::Float),
              new_empty(in.ids, {s.B, 1, s.H, s.W}, ScalarType::Float)};
  if (in.ids.numel() > 0)
    check_cuda(kOp,
               center_target_cuda(in_ptr<int32_t>(in.ids), in_ptr<int64_t>(in.key), in_ptr<int64_t>(in.label),
                                  in_ptr<float>(in.score), in_ptr<int64_t>(in.center_yx), in_ptr<float>(in.bell),
                                  out_ptr<float>(out.center), out_ptr<float>(out.offset), out_ptr<float>(out.weight),
                                  in.shape, current_stream(in.ids)),
               in.ids);
  return out.tuple();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("center_target", TORCH_BOX(&center_target_on_cuda)); }
#endif

}  // namespace wsis
