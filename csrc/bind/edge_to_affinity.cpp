#include "common/edge_to_affinity.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "edge_to_affinity";

void check(const Tensor& boundary, int64_t radius) {
  WSIS_CHECK(kOp, boundary.dim() == 3, "boundary must be [B, h, w]");
  WSIS_CHECK(kOp, boundary.size(1) * boundary.size(2) < (int64_t(1) << 31),
             "an image must have fewer than 2^31 pixels");
  WSIS_CHECK(kOp, radius >= 1 && radius <= kMaxRadius, "radius must be 1..", kMaxRadius, ", got ", radius);
}

void check_gradient(const Tensor& grad_affinity, const Tensor& boundary, int64_t offsets) {
  WSIS_CHECK(kOp, grad_affinity.dim() == 4 && grad_affinity.size(0) == boundary.size(0) &&
                      grad_affinity.size(1) == offsets && grad_affinity.size(2) == boundary.size(1) &&
                      grad_affinity.size(3) == boundary.size(2) &&
                      grad_affinity.scalar_type() == boundary.scalar_type(),
             "grad_affinity must be [B, P, h, w] of boundary's dtype");
}

Tensor forward_cpu(const Tensor& boundary, int64_t radius) {
  check(boundary, radius);
  const Tensor in = dense(boundary);
  const int64_t B = in.size(0), h = in.size(1), w = in.size(2), P = path_table(radius).size();
  Tensor affinity = new_result(in, {B, P, h, w}, in.scalar_type());
  if (affinity.numel() == 0) return affinity;
  if (in.scalar_type() == ScalarType::Double)
    edge_to_affinity_cpu(in_ptr<double>(in), out_ptr<double>(affinity), B, h, w, radius);
  else
    edge_to_affinity_cpu(in_ptr<float>(in), out_ptr<float>(affinity), B, h, w, radius);
  return affinity;
}

Tensor backward_cpu(const Tensor& grad_affinity, const Tensor& boundary, int64_t radius) {
  check(boundary, radius);
  check_gradient(grad_affinity, boundary, path_table(radius).size());
  const Tensor grad = dense(grad_affinity), in = dense(boundary);
  const int64_t B = in.size(0), h = in.size(1), w = in.size(2);
  Tensor grad_boundary = new_empty(in, {B, h, w}, in.scalar_type());
  if (in.numel() == 0) return grad_boundary;
  if (in.scalar_type() == ScalarType::Double)
    edge_to_affinity_backward_cpu(in_ptr<double>(grad), in_ptr<double>(in), out_ptr<double>(grad_boundary), B, h, w,
                                  radius);
  else
    edge_to_affinity_backward_cpu(in_ptr<float>(grad), in_ptr<float>(in), out_ptr<float>(grad_boundary), B, h, w,
                                  radius);
  return grad_boundary;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) {
  m.impl("edge_to_affinity", TORCH_BOX(&forward_cpu));
  m.impl("edge_to_affinity_backward", TORCH_BOX(&backward_cpu));
}

#ifdef WSIS_WITH_CUDA
namespace {

Tensor forward_cuda(const Tensor& boundary, int64_t radius) {
  check(boundary, radius);
  const DeviceScope scope(kOp, boundary);
  const Tensor in = dense(boundary);
  const int64_t B = in.size(0), h = in.size(1), w = in.size(2), P = path_table(radius).size();
  Tensor affinity = new_empty(in, {B, P, h, w}, in.scalar_type());
  if (affinity.numel() == 0) return affinity;
  check_cuda(kOp,
             edge_to_affinity_cuda(in_ptr<float>(in), out_ptr<float>(affinity), B, h, w, radius, current_stream(in)),
             in);
  return affinity;
}

Tensor backward_cuda(const Tensor& grad_affinity, const Tensor& boundary, int64_t radius) {
  check(boundary, radius);
  check_gradient(grad_affinity, boundary, path_table(radius).size());
  const DeviceScope scope(kOp, boundary);
  const Tensor grad = dense(grad_affinity), in = dense(boundary);
  const int64_t B = in.size(0), h = in.size(1), w = in.size(2);
  Tensor grad_boundary = new_empty(in, {B, h, w}, in.scalar_type());
  if (in.numel() == 0) return grad_boundary;
  check_cuda(kOp,
             edge_to_affinity_backward_cuda(in_ptr<float>(grad), in_ptr<float>(in), out_ptr<float>(grad_boundary), B,
                                            h, w, radius, current_stream(in)),
             in);
  return grad_boundary;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) {
  m.impl("edge_to_affinity", TORCH_BOX(&forward_cuda));
  m.impl("edge_to_affinity_backward", TORCH_BOX(&backward_cuda));
}
#endif

}  // namespace wsis
