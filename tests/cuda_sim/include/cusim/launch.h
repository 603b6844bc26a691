// From a launch macro to cusim::run.
#pragma once

#include <tuple>
#include <utility>

#include "cusim/scheduler.h"

namespace cusim {

template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, unsigned blocks_together,
           bool cooperative, Arguments&&... arguments) {
  using Values = std::tuple<Parameters...>;
  struct Call {
    void (*kernel)(Parameters...);
    Values values;
  } call{kernel, Values(static_cast<Parameters>(arguments)...)};
  const auto body = [](void* context) {
    const Call& call = *static_cast<Call*>(context);
    std::apply(call.kernel, call.values);
  };
  const unsigned all = static_cast<unsigned>(grid.count());
  return run({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, cooperative ? all : blocks_together,
              cooperative},
             body, &call);
}

}  // namespace cusim

#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::cusim::launch((kernel), (grid), (block), (shared_bytes), 1, false __VA_OPT__(, ) __VA_ARGS__)
#define CUDA_LAUNCH_CLUSTER(kernel, grid, block, cluster, shared_bytes, stream, ...) \
  ::cusim::launch((kernel), (grid), (block), (shared_bytes), (cluster), false __VA_OPT__(, ) __VA_ARGS__)
#define CUDA_CLUSTER_READY(kernel, grid, block, cluster, shared_bytes) \
  (::cusim::allow_shared(reinterpret_cast<const void*>(kernel), int(shared_bytes)) == 0)
#define CUDA_LAUNCH_COOPERATIVE(kernel, grid, block, shared_bytes, stream, ...) \
  ::cusim::launch((kernel), (grid), (block), (shared_bytes), 1, true __VA_OPT__(, ) __VA_ARGS__)
#define DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(::cusim::current->block->dynamic_shared)
