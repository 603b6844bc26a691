#include "common/trace_displacement.h"

#include "bind/pages.h"

namespace wsis {
namespace {

constexpr const char* kOp = "trace_displacement";
constexpr int64_t kMaxSide = 1 << 24;

void check(const Tensor& displacement, const std::optional<Tensor>& sizes, int64_t num_steps) {
  WSIS_CHECK(kOp, displacement.dim() == 4 && displacement.size(1) == 2, "displacement must be [B, 2, h, w]");
  WSIS_CHECK(kOp, displacement.size(2) < kMaxSide && displacement.size(3) < kMaxSide,
             "displacement must have h and w under ", kMaxSide);
  WSIS_CHECK(kOp, !sizes || (sizes->dim() == 2 && sizes->size(0) == displacement.size(0) && sizes->size(1) == 2 &&
                             sizes->scalar_type() == ScalarType::Int),
             "sizes must be [B, 2] int32");
  WSIS_CHECK(kOp, num_steps >= 0, "num_steps must be >= 0, got ", num_steps);
}

Tensor trace_cpu(const Tensor& displacement, const std::optional<Tensor>& sizes, int64_t num_steps) {
  check(displacement, sizes, num_steps);
  const Tensor in = dense(displacement);
  const std::optional<Tensor> table = dense(sizes);
  const int64_t B = in.size(0), h = in.size(2), w = in.size(3);
  Tensor ends = new_result(in, {B, 2, h, w}, ScalarType::Int);
  if (ends.numel() == 0) return ends;
  if (in.scalar_type() == ScalarType::Double)
    trace_displacement_cpu(in_ptr<double>(in), in_ptr<int32_t>(table), out_ptr<int32_t>(ends), B, h, w, num_steps);
  else
    trace_displacement_cpu(in_ptr<float>(in), in_ptr<int32_t>(table), out_ptr<int32_t>(ends), B, h, w, num_steps);
  return ends;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("trace_displacement", TORCH_BOX(&trace_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Tensor trace_cuda(const Tensor& displacement, const std::optional<Tensor>& sizes, int64_t num_steps) {
  check(displacement, sizes, num_steps);
  const DeviceScope scope(kOp, displacement);
  const Tensor in = dense(displacement);
  const std::optional<Tensor> table = dense(sizes);
  const int64_t B = in.size(0), h = in.size(2), w = in.size(3);
  Tensor ends = new_empty(in, {B, 2, h, w}, ScalarType::Int);
  if (ends.numel() == 0) return ends;
  check_cuda(kOp,
             trace_displacement_cuda(in_ptr<float>(in), in_ptr<int32_t>(table), out_ptr<int32_t>(ends), B, h, w,
                                     num_steps, current_stream(in)),
             in);
  return ends;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("trace_displacement", TORCH_BOX(&trace_cuda)); }
#endif

}  // namespace wsis
