// The only way a kernel is launched, so that the CPU simulator of the tests can run every .cu file unchanged.
// A host function returns the code of CUDA_LAUNCH (0 = no error); csrc/bind turns it into an exception.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifndef CUSIM  // set by the simulator's own cuda_runtime.h, which defines these words itself
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), static_cast<int>(cudaGetLastError()))
#define CUDA_LAUNCH_CLUSTER(kernel, grid, block, cluster, shared_bytes, stream, ...) \
  ::wsis::launch_cluster((kernel), (grid), (block), (cluster), (shared_bytes), (stream), __VA_ARGS__)
#define CUDA_CLUSTER_READY(kernel, grid, block, cluster, shared_bytes) \
  ::wsis::cluster_ready((kernel), (grid), (block), (cluster), (shared_bytes))
#define DYN_SHARED(T, name)                                       \
  extern __shared__ __align__(16) unsigned char wsis_dyn_shared[]; \
  T* name = reinterpret_cast<T*>(wsis_dyn_shared)
#endif

namespace wsis {

constexpr int64_t kMaxGrid = 2147483647;
constexpr unsigned kFullWarp = 0xffffffffu;

// Blocks of `block` threads that cover `count` items.
inline unsigned grid_for(int64_t count, int block) {
  const int64_t blocks = (count + block - 1) / block;
  return static_cast<unsigned>(blocks > kMaxGrid ? kMaxGrid : blocks);
}

#ifndef CUSIM
// A launch in clusters of `cluster` blocks along x (sm_90 and above).
struct ClusterLaunch {
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};

  ClusterLaunch(dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes, cudaStream_t stream) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster, 1, 1};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;
};

template <class... Parameters, class... Arguments>
int launch_cluster(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes,
                   cudaStream_t stream, Arguments&&... arguments) {
  const ClusterLaunch launch(grid, block, cluster, shared_bytes, stream);
  return cudaLaunchKernelEx(&launch.config, kernel, static_cast<Parameters>(arguments)...);
}

// Whether the current device can run such a launch: code for sm_90, and room for one cluster at least. The kernel may
// then use all the shared memory there is, not just `shared_bytes`: the permission belongs to the kernel, and another
// thread may be about to launch it with more.
template <class... Parameters>
bool cluster_ready(void (*kernel)(Parameters...), dim3 grid, dim3 block, unsigned cluster, size_t shared_bytes) {
  cudaFuncAttributes attributes{};
  const ClusterLaunch launch(grid, block, cluster, shared_bytes, nullptr);
  int device = 0, most = 0, clusters = 0;
  const bool ready =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess &&
      cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion >= 90 &&
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           most - static_cast<int>(attributes.sharedSizeBytes)) == cudaSuccess &&
      (cluster <= 8 ||
       cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) == cudaSuccess) &&
      cudaOccupancyMaxActiveClusters(&clusters, kernel, &launch.config) == cudaSuccess && clusters > 0;
  if (!ready) cudaGetLastError();  // the refusal is the answer and must not surface at a later launch
  return ready;
}
#endif

}  // namespace wsis
