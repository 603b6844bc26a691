#include "common/connected_components.h"

#include "bind/id_map.h"
#include "bind/pages.h"
#include "common/scan_scratch.h"

namespace wsis {
namespace {

constexpr const char* kOp = "connected_components";

void check(const Tensor& labels, const std::optional<Tensor>& sizes, int64_t connectivity) {
  WSIS_CHECK(kOp, labels.dim() == 3, "labels must be [B, H, W]");
  WSIS_CHECK(kOp, labels.size(1) == 0 || labels.size(2) <= INT32_MAX / labels.size(1),
             "labels must have fewer than 2^31 pixels an image");
  WSIS_CHECK(kOp, connectivity == 4 || connectivity == 8, "connectivity must be 4 or 8, got ", connectivity);
  check_sizes_table(kOp, labels, sizes);
}

template <class T>
ComponentProblem<T> make_problem(const Tensor& labels, const std::optional<Tensor>& sizes, Tensor& ids, Tensor& counts,
                                 int64_t connectivity, std::optional<int64_t> background) {
  return {in_ptr<T>(labels),
          in_ptr<int32_t>(sizes),
          out_ptr<int32_t>(ids),
          out_ptr<int32_t>(counts),
          labels.size(0),
          labels.size(1),
          labels.size(2),
          static_cast<T>(background.value_or(0)),
          background.has_value(),
          connectivity == 8};
}

// Calls run(problem) with the problem typed by the width of the labels.
template <class F>
std::tuple<Tensor, Tensor> dispatch(const Tensor& labels, const std::optional<Tensor>& sizes, int64_t connectivity,
                                    std::optional<int64_t> background, const F& run) {
  const Tensor in = dense(labels);
  const std::optional<Tensor> table = dense(sizes);
  Tensor ids = new_result(in, {in.size(0), in.size(1), in.size(2)}, ScalarType::Int);
  if (in.numel() == 0) return {ids, new_zeros(in, {in.size(0)}, ScalarType::Int)};
  Tensor counts = new_empty(in, {in.size(0)}, ScalarType::Int);
  switch (in.element_size()) {
    case 1: run(make_problem<uint8_t>(in, table, ids, counts, connectivity, background), in); break;
    case 2: run(make_problem<uint16_t>(in, table, ids, counts, connectivity, background), in); break;
    case 4: run(make_problem<uint32_t>(in, table, ids, counts, connectivity, background), in); break;
    default: run(make_problem<uint64_t>(in, table, ids, counts, connectivity, background), in); break;
  }
  return {ids, counts};
}

std::tuple<Tensor, Tensor> components_cpu(const Tensor& labels, const std::optional<Tensor>& sizes,
                                          int64_t connectivity, std::optional<int64_t> background) {
  check(labels, sizes, connectivity);
  return dispatch(labels, sizes, connectivity, background,
                  [](const auto& problem, const Tensor&) { connected_components_cpu(problem); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("connected_components", TORCH_BOX(&components_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

std::tuple<Tensor, Tensor> components_cuda(const Tensor& labels, const std::optional<Tensor>& sizes,
                                           int64_t connectivity, std::optional<int64_t> background) {
  check(labels, sizes, connectivity);
  const DeviceScope scope(kOp, labels);
  return dispatch(labels, sizes, connectivity, background, [](const auto& problem, const Tensor& in) {
    const int64_t chunks = problem.B * component_chunks(problem.H, problem.W);
    Tensor parent = new_empty(in, {problem.B, problem.H, problem.W}, ScalarType::Int);
    Tensor chunk_counts = new_empty(in, {chunks}, ScalarType::Int);
    Tensor offsets = new_empty(in, {chunks + 1}, ScalarType::Long);
    Tensor partial = new_empty(in, {scan_scratch(chunks)}, ScalarType::Long);
    const ComponentScratch scratch{out_ptr<int32_t>(parent), out_ptr<int32_t>(chunk_counts), out_ptr<int64_t>(offsets),
                                   out_ptr<int64_t>(partial)};
    check_cuda(kOp, connected_components_cuda(problem, scratch, current_stream(in)), in);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("connected_components", TORCH_BOX(&components_cuda)); }
#endif

}  // namespace wsis
