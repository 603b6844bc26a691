// The only way a kernel is launched, so that the CPU simulator of the tests can run every .cu file unchanged.
// A host function returns the code of CUDA_LAUNCH (0 = no error); csrc/bind turns it into an exception.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifndef CUSIM  // set by the simulator's own cuda_runtime.h, which defines these words itself
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), static_cast<int>(cudaGetLastError()))
#define DYN_SHARED(T, name)                                       \
  extern __shared__ __align__(16) unsigned char wsis_dyn_shared[]; \
  T* name = reinterpret_cast<T*>(wsis_dyn_shared)
#endif

namespace wsis {

constexpr int64_t kMaxGrid = 2147483647;

// Blocks of `block` threads that cover `count` items.
inline unsigned grid_for(int64_t count, int block) {
  const int64_t blocks = (count + block - 1) / block;
  return static_cast<unsigned>(blocks > kMaxGrid ? kMaxGrid : blocks);
}

}  // namespace wsis
