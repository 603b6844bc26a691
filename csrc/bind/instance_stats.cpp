#include "common/instance_stats.h"

#include "bind/id_map.h"

namespace wsis {
namespace {

constexpr const char* kOp = "instance_stats";

using Table = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

void check(const Tensor& ids, const std::optional<Tensor>& scores, const std::optional<Tensor>& sizes,
           int64_t capacity) {
  WSIS_CHECK(kOp, ids.dim() == 3 && ids.scalar_type() == ScalarType::Int, "ids must be [B, H, W] int32");
  WSIS_CHECK(kOp, ids.size(1) == 0 || ids.size(2) <= INT32_MAX / ids.size(1),
             "ids must have fewer than 2^31 pixels an image");
  WSIS_CHECK(kOp, capacity >= 0 && capacity <= INT32_MAX, "capacity must be 0..2^31 - 1, got ", capacity);
  WSIS_CHECK(kOp, !scores || (scores->dim() == 3 && scores->size(0) == ids.size(0) && scores->size(1) == ids.size(1) &&
                              scores->size(2) == ids.size(2) && scores->device() == ids.device()),
             "scores must have the shape and device of ids");
  check_sizes_table(kOp, ids, sizes);
}

// Allocates the table and calls run(problem, ids) on it.
template <class T, class F>
Table fill(const Tensor& ids, const std::optional<Tensor>& scores, const std::optional<Tensor>& sizes, int64_t capacity,
           ScalarType dtype, const F& run) {
  const Tensor map = dense(ids);
  const std::optional<Tensor> values = dense(scores), extents = dense(sizes);
  const int64_t B = map.size(0);
  Tensor area = new_empty(map, {B, capacity}, ScalarType::Long);
  Tensor box = new_empty(map, {B, capacity, 4}, ScalarType::Int);
  Tensor moment = new_empty(map, {B, capacity, 2}, ScalarType::Long);
  Tensor score_max = new_empty(map, {B, capacity}, dtype);
  Tensor score_sum = new_empty(map, {B, capacity}, ScalarType::Double);
  Tensor peak = new_empty(map, {B, capacity}, ScalarType::Long);
  Tensor outside = new_empty(map, {B}, ScalarType::Long);
  if (B > 0)
    run(StatsProblem<T>{in_ptr<int32_t>(map), in_ptr<T>(values), in_ptr<int32_t>(extents), B, map.size(1), map.size(2),
                        capacity, out_ptr<int64_t>(area), out_ptr<int32_t>(box), out_ptr<int64_t>(moment),
                        out_ptr<T>(score_max), out_ptr<double>(score_sum), out_ptr<int64_t>(peak),
                        out_ptr<int64_t>(outside)},
        map);
  return {area, box, moment, score_max, score_sum, peak, outside};
}

Table stats_cpu(const Tensor& ids, const std::optional<Tensor>& scores, const std::optional<Tensor>& sizes,
                int64_t capacity) {
  check(ids, scores, sizes, capacity);
  const auto run = [](const auto& problem, const Tensor&) { instance_stats_cpu(problem); };
  if (scores && scores->scalar_type() == ScalarType::Double)
    return fill<double>(ids, scores, sizes, capacity, ScalarType::Double, run);
  WSIS_CHECK(kOp, !scores || scores->scalar_type() == ScalarType::Float, "scores must be float32 or float64");
  return fill<float>(ids, scores, sizes, capacity, ScalarType::Float, run);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("instance_stats", TORCH_BOX(&stats_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Table stats_cuda(const Tensor& ids, const std::optional<Tensor>& scores, const std::optional<Tensor>& sizes,
                 int64_t capacity) {
  check(ids, scores, sizes, capacity);
  WSIS_CHECK(kOp, !scores || scores->scalar_type() == ScalarType::Float, "scores on a CUDA device must be float32");
  const DeviceScope scope(kOp, ids);
  return fill<float>(ids, scores, sizes, capacity, ScalarType::Float, [](const auto& problem, const Tensor& map) {
    check_cuda(kOp, instance_stats_cuda(problem, current_stream(map)), map);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("instance_stats", TORCH_BOX(&stats_cuda)); }
#endif

}  // namespace wsis
