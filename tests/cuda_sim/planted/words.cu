// Uses every word of CUDA that the simulator knows, so that a test can compare with what CUDA's manual promises.
#include <cooperative_groups.h>

#include "common/cuda_launch.h"

namespace wsis {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kResults = 16;

// out: [threads, kResults]
__global__ void warp_words_kernel(const int* in, int* out) {
  const int v = in[threadIdx.x], lane = threadIdx.x % 32;
  int* result = out + threadIdx.x * kResults;
  result[0] = __shfl_sync(kAll, v, 3);
  result[1] = __shfl_up_sync(kAll, v, 2);
  result[2] = __shfl_down_sync(kAll, v, 2);
  result[3] = __shfl_xor_sync(kAll, v, 5);
  result[4] = __shfl_down_sync(kAll, v, 1, 8);
  result[5] = static_cast<int>(__ballot_sync(kAll, v % 2));
  result[6] = __any_sync(kAll, v == 7);
  result[7] = __all_sync(kAll, v >= 0);
  result[8] = __reduce_add_sync(kAll, v);
  result[9] = __reduce_min_sync(kAll, v);
  result[10] = __reduce_max_sync(kAll, v);
  result[11] = static_cast<int>(__match_any_sync(kAll, v % 4));
  const double wide = __shfl_sync(kAll, v + 0.25, 31);
  result[12] = static_cast<int>(4 * wide);
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  result[13] = lane < 16 ? __reduce_add_sync(half, v) : __reduce_max_sync(half, v);
  __syncwarp();
  result[14] = __popc(v) + 100 * __ffs(v) + 10000 * __clz(v);
  result[15] = __float_as_int(__int_as_float(v));
}

// out: [3, blocks]: how many, whether any, whether all of the block's values are odd.
__global__ void block_words_kernel(const int* in, int* out) {
  const int odd = in[blockIdx.x * blockDim.x + threadIdx.x] % 2;
  const int count = __syncthreads_count(odd), any = __syncthreads_or(odd), all = __syncthreads_and(odd);
  if (threadIdx.x != 0) return;
  out[blockIdx.x] = count;
  out[gridDim.x + blockIdx.x] = any;
  out[2 * gridDim.x + blockIdx.x] = all;
}

// state: [8], each changed by one kind of atomic from every thread.
__global__ void atomic_words_kernel(int* state) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&state[0], i);
  atomicSub(&state[1], 1);
  atomicMin(&state[2], -i);
  atomicMax(&state[3], i);
  atomicOr(&state[4], 1 << i % 31);
  atomicAnd(&state[5], ~(1 << i % 31));
  atomicXor(&state[6], i);
  int seen = state[7];  // a lock-free maximum of a scrambled index
  const int mine = i * 37 % 101;
  while (seen < mine) seen = atomicCAS(&state[7], seen, mine);
}

// Every block counts in static shared memory while its neighbours do the same, and reads the dynamic shared memory of
// the next block of its cluster. out: [2, blocks].
__global__ void cluster_words_kernel(int* out) {
  DYN_SHARED(int, shared);
  __shared__ int counter;
  const auto cluster = cooperative_groups::this_cluster();
  if (threadIdx.x == 0) {
    counter = 0;
    shared[0] = 1000 + static_cast<int>(blockIdx.x);
  }
  __syncthreads();
  atomicAdd(&counter, 1);
  cluster.sync();
  atomicAdd(&counter, static_cast<int>(cluster.block_rank()));
  cluster.sync();
  if (threadIdx.x == 0) {
    out[blockIdx.x] = counter;
    out[gridDim.x + blockIdx.x] = *cluster.map_shared_rank(shared, (cluster.block_rank() + 1) % cluster.num_blocks());
  }
  cluster.sync();
}

// A prefix over the whole grid: every block needs the sums of all others. out: [blocks]
__global__ void grid_words_kernel(const int* in, int* sums, int* out) {
  const auto grid = cooperative_groups::this_grid();
  if (threadIdx.x == 0) sums[blockIdx.x] = in[blockIdx.x];
  grid.sync();
  if (threadIdx.x != 0) return;
  int sum = 0;
  for (unsigned b = 0; b <= blockIdx.x; ++b) sum += sums[b];
  out[blockIdx.x] = sum;
}

// out: [3 * 2 * 2, 6]: index of thread and block of a launch in three dimensions.
__global__ void index_words_kernel(uint3* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  uint3* cell = out + 2 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
  cell[0] = blockIdx;
  cell[1] = threadIdx;
}

}  // namespace

int warp_words_cuda(const int* in, int* out, int threads) {
  return CUDA_LAUNCH(warp_words_kernel, dim3(1), dim3(threads), 0, nullptr, in, out);
}
int block_words_cuda(const int* in, int* out, int blocks, int threads) {
  return CUDA_LAUNCH(block_words_kernel, dim3(blocks), dim3(threads), 0, nullptr, in, out);
}
int atomic_words_cuda(int* state, int blocks, int threads) {
  return CUDA_LAUNCH(atomic_words_kernel, dim3(blocks), dim3(threads), 0, nullptr, state);
}
int cluster_words_cuda(int* out, int blocks, int threads, int cluster) {
  return CUDA_LAUNCH_CLUSTER(cluster_words_kernel, dim3(blocks), dim3(threads), cluster, sizeof(int), nullptr, out);
}
int grid_words_cuda(const int* in, int* sums, int* out, int blocks) {
  return CUDA_LAUNCH_COOPERATIVE(grid_words_kernel, dim3(blocks), dim3(32), 0, nullptr, in, sums, out);
}
int index_words_cuda(uint3* out) {
  return CUDA_LAUNCH(index_words_kernel, dim3(2, 1, 3), dim3(2, 3, 2), 0, nullptr, out);
}
int shared_words_cuda(int* out, int bytes, bool allowed) {
  if (allowed)
    if (const int error = cudaFuncSetAttribute(cluster_words_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes))
      return error;
  return CUDA_LAUNCH_CLUSTER(cluster_words_kernel, dim3(1), dim3(32), 1, bytes, nullptr, out);
}

}  // namespace wsis
