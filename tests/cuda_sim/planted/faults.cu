// Kernels with one fault each, chosen by `fault`; fault 0 is the sound kernel. The simulator must notice all of them.
#include <cooperative_groups.h>

#include "common/cuda_launch.h"

namespace wsis {
namespace {

enum Fault {
  kSound,
  kDroppedBarrier,       // a thread reads shared memory before another has written it
  kDroppedSecondBarrier, // a thread overwrites shared memory before another has read it
  kRace,                 // neighbours read and write the same global cells
  kUnwrittenShared,      // shared memory taken for zero
  kWriteBehindShared,
  kWriteBehindGlobal,
  kReadBehindGlobal,     // only AddressSanitizer can see this
  kDivergentBarrier,
  kMissingLane,          // half a warp never comes to the shuffle
  kDifferentWarpWords,   // half a warp votes, half shuffles
  kDroppedClusterSync,
  kOffByOneLoop
};

constexpr int kThreads = 64;

// Sum of each block's `in`, into out [blocks]; in: [blocks * kThreads].
__global__ void sum_kernel(const int* in, int* out, int fault) {
  DYN_SHARED(int, shared);
  const int t = static_cast<int>(threadIdx.x);
  const int* own = in + blockIdx.x * kThreads;
  if (fault != kUnwrittenShared || t != 5) shared[t] = own[fault == kReadBehindGlobal ? t + 1 : t];
  if (fault == kWriteBehindShared && t == 0) shared[kThreads] = 0;
  if (fault != kDroppedBarrier) __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (t < width) shared[t] += shared[t + width];
    if (fault == kDivergentBarrier && t % 2) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
  if (t == 0) out[blockIdx.x + (fault == kWriteBehindGlobal ? 1 : 0)] = shared[0];
}

// Each value plus its right neighbour's, cyclic in the block.
__global__ void neighbour_kernel(int* values, int fault) {
  __shared__ int before[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  int* own = values + blockIdx.x * kThreads;
  if (fault == kRace) {
    own[t] += own[(t + 1) % kThreads];
    return;
  }
  before[t] = own[t];
  __syncthreads();
  const int last = fault == kOffByOneLoop ? kThreads - 1 : kThreads;
  const int right = before[(t + 1) % last];
  if (fault != kDroppedSecondBarrier) __syncthreads();
  before[t] += right;
  own[t] = before[t];
}

__global__ void warp_kernel(int* out, int fault) {
  const int t = static_cast<int>(threadIdx.x);
  if (fault == kMissingLane && t >= 16) return;
  out[t] = fault == kDifferentWarpWords && t < 16 ? static_cast<int>(__ballot_sync(~0u, t))
                                                  : __shfl_sync(~0u, t, 0) + t;
}

// Exclusive prefix of the blocks of a cluster. out: [blocks]
__global__ void cluster_kernel(int* out, int fault) {
  DYN_SHARED(int, shared);
  const auto cluster = cooperative_groups::this_cluster();
  if (threadIdx.x == 0) shared[0] = static_cast<int>(blockIdx.x) + 1;
  if (fault != kDroppedClusterSync) cluster.sync();
  int sum = 0;
  if (threadIdx.x == 0)
    for (unsigned rank = 0; rank < cluster.block_rank(); ++rank) sum += *cluster.map_shared_rank(shared, rank);
  cluster.sync();
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

}  // namespace

int faulty_sum_cuda(const int* in, int* out, int blocks, int fault) {
  return CUDA_LAUNCH(sum_kernel, dim3(blocks), dim3(kThreads), kThreads * sizeof(int), nullptr, in, out, fault);
}
int faulty_neighbour_cuda(int* values, int blocks, int fault) {
  return CUDA_LAUNCH(neighbour_kernel, dim3(blocks), dim3(kThreads), 0, nullptr, values, fault);
}
int faulty_warp_cuda(int* out, int fault) {
  return CUDA_LAUNCH(warp_kernel, dim3(1), dim3(32), 0, nullptr, out, fault);
}
int faulty_cluster_cuda(int* out, int blocks, int fault) {
  return CUDA_LAUNCH_CLUSTER(cluster_kernel, dim3(blocks), dim3(32), 4, sizeof(int), nullptr, out, fault);
}
int faulty_launch_cuda(int* out, int threads) {
  return CUDA_LAUNCH(warp_kernel, dim3(1), dim3(threads), 0, nullptr, out, 0);
}

}  // namespace wsis
