// The whole walk of some channels of one image in one launch: the rows are dealt out to the blocks of a cluster, which
// keep weights and terms in shared memory. After each term a pixel is also written into the halo of every block that
// will read it (distributed shared memory), so that one cluster barrier a term is enough. Radius 5, sm_90.
#pragma once

#include <cooperative_groups.h>

#include <utility>

#include "cuda/random_walk_terms.cuh"

namespace wsis {
namespace walk {

constexpr int kClusterRadius = 5, kReach = kClusterRadius - 1;
constexpr int kPlanes = 34, kHaloPlanes = 68;  // weights of a row; of the kReach rows above, those that reach down
constexpr int kStrip = 3;                      // rows that one thread takes at once, so that it reads each term once
constexpr int kClusterThreads = 512, kMaxClusterBlocks = 16, kMaxClusterDegree = 256;

// Largest dx of the disc in row dy.
HOST_DEVICE constexpr int half_width(int dy) {
  const int away = dy < 0 ? -dy : dy;
  return away == 4 ? 2 : away == 3 ? 3 : 4;
}

// Offsets of the half disc with a row above dy; the planes of a row are ordered by falling dy, then dx.
HOST_DEVICE constexpr int planes_above(int dy) {
  return dy >= 4 ? 0 : dy == 3 ? 5 : dy == 2 ? 12 : dy == 1 ? 21 : 30;
}

// Place of an offset of the half disc among the planes of a row.
HOST_DEVICE constexpr int plane_of(int dy, int dx) {
  return planes_above(dy) + (dy == 0 ? dx - 1 : dx + half_width(dy));
}

// Where row l of a block begins, in planes: rows -kReach..-1 hold only the offsets that reach row 0.
HOST_DEVICE constexpr int row_start(int l) {
  return l >= 0 ? kHaloPlanes + kPlanes * l : l == -1 ? 38 : l == -2 ? 17 : l == -3 ? 5 : 0;
}

// A walk on the GPU in one launch, by value: coefficients, and the place of each plane in [B, P, H, W].
struct ClusterWalk {
  float weight[kMaxClusterDegree + 1];
  int degree;
  bool chebyshev, transposed;
  int rows;  // of one block
  uint8_t plane[kPlanes];
};

struct ClusterArrays {
  const float *seeds, *weights, *degree, *inverse;
  const int32_t* sizes;
  float* walked;
};

// Rows of a term in a block: its own up to a whole strip, whose last ones are read and dropped, and both halos.
HOST_DEVICE constexpr int term_rows(int rows) { return (rows + kStrip - 1) / kStrip * kStrip + 2 * kReach; }

// Where everything lies in a block's shared memory, in floats.
struct ClusterLayout {
  int weights, now, previous, sum, degree, inverse, total;

  HOST_DEVICE ClusterLayout(int rows, int channels, int pitch) {
    const int terms = term_rows(rows) * channels * (pitch + 2 * kReach);
    weights = kReach;  // one row's neighbour left of its first pixel, and right of its last, is read and meets a 0
    now = weights + (kHaloPlanes + kPlanes * rows) * pitch + kReach;
    previous = now + terms;
    sum = previous + terms;
    degree = sum + channels * rows * pitch;
    inverse = degree + rows * pitch;
    total = inverse + rows * pitch;
  }
};

template <int kPitch, int kChannels>
struct ClusterBlock {
  static constexpr int kTermPitch = kPitch + 2 * kReach;
  int rows, top, rank, blocks;  // top: first row in the image
  ImageSize size;
  float *weights, *now, *previous, *sum, *degree, *inverse;

  __device__ __forceinline__ int cell(int l, int c, int x) const {
    return ((l + kReach) * kChannels + c) * kTermPitch + x + kReach;
  }

  __device__ __forceinline__ void load(const ClusterArrays& arrays, const WalkShape& shape, const ClusterWalk& walk,
                                       int64_t b, const int64_t* channels, int count) const {
    const int64_t area = shape.H * shape.W;
    const int thread = threadIdx.x, threads = blockDim.x;
    if (thread < kReach) weights[thread - kReach] = weights[row_start(rows) * kPitch + thread] = 0;
    for (int l = -kReach; l < rows; ++l) {
      const int y = top + l, planes = l < 0 ? planes_above(-l - 1) : kPlanes;
      for (int i = thread; i < planes * kPitch; i += threads) {
        const int x = i % kPitch;
        float weight = 0;
        if (y >= 0 && y < shape.H && x < shape.W)
          weight = arrays.weights[(b * kPlanes + walk.plane[i / kPitch]) * area + y * shape.W + x];
        weights[row_start(l) * kPitch + i] = weight;
      }
    }
    for (int i = thread; i < rows * kPitch; i += threads) {
      const int y = top + i / kPitch, x = i % kPitch;
      const bool exists = y < shape.H && x < shape.W;
      degree[i] = exists ? arrays.degree[b * area + y * shape.W + x] : 0.0f;
      inverse[i] = exists ? arrays.inverse[b * area + y * shape.W + x] : 0.0f;
    }
    for (int i = thread; i < term_rows(rows) * kChannels * kTermPitch; i += threads) {
      const int line = i / kTermPitch, c = line % kChannels, x = i % kTermPitch - kReach;
      const int l = line / kChannels - kReach, y = top + l;
      float value = 0;
      if (c < count && inside(y, x, size.h, size.w)) {
        const int64_t at = y * shape.W + x;
        value = arrays.seeds[channels[c] * area + at];
        if (walk.transposed) value *= arrays.inverse[b * area + at];
      }
      now[i] = value;
      previous[i] = 0;
      if (l >= 0 && l < rows && x >= 0 && x < kPitch) sum[(c * rows + l) * kPitch + x] = walk.weight[0] * value;
    }
  }

  // Sums over the neighbours of the kStrip pixels (l.., x), in raster order of the offsets for each of them.
  __device__ __forceinline__ void neighbors(int l, int x, float (&total)[kStrip][kChannels]) const {
    const float* line[kReach + kStrip];  // rows l - kReach .. l + kStrip - 1 of the weights
#pragma unroll
    for (int i = 0; i < kReach + kStrip; ++i)
      line[i] = weights + row_start(l - kReach + i < rows ? l - kReach + i : rows - 1) * kPitch + x;
    const float* center = now + cell(l, 0, x);
#pragma unroll
    for (int r = -kReach; r < kStrip + kReach; ++r)
#pragma unroll
      for (int dx = -kReach; dx <= kReach; ++dx) {
        float value[kChannels];
#pragma unroll
        for (int c = 0; c < kChannels; ++c) value[c] = center[(r * kChannels + c) * kTermPitch + dx];
#pragma unroll
        for (int k = 0; k < kStrip; ++k) {
          const int dy = r - k;
          if (dy < -kReach || dy > kReach || dx < -half_width(dy) || dx > half_width(dy) || (dy == 0 && dx == 0))
            continue;
          const bool below = dy > 0 || (dy == 0 && dx > 0);
          const float weight = below ? line[kReach + k][plane_of(dy, dx) * kPitch]
                                     : line[kReach + k + dy][plane_of(-dy, -dx) * kPitch + dx];
#pragma unroll
          for (int c = 0; c < kChannels; ++c) total[k][c] = fmaf(weight, value[c], total[k][c]);
        }
      }
  }

  // The next term of one pixel replaces its previous one, here and in the halos of the other blocks.
  __device__ __forceinline__ void finish(int l, int x, const float (&total)[kChannels],
                                         const TermFactors<float>& factors, float weight) const {
    const auto cluster = cooperative_groups::this_cluster();
    const int y = top + l, at = l * kPitch + x;
    const int first = y < kReach ? 0 : (y - kReach) / rows;
    const int last = (y + kReach) / rows < blocks ? (y + kReach) / rows : blocks - 1;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const int i = cell(l, c, x);
      const float next = next_term(total[c], degree[at], inverse[at], now[i], previous[i], factors);
      if (weight != 0.0f) sum[c * rows * kPitch + at] += weight * next;
      previous[i] = next;
      for (int other = first; other <= last; ++other)
        if (other != rank) cluster.map_shared_rank(previous, other)[cell(y - other * rows, c, x)] = next;
    }
  }

  __device__ __forceinline__ void term(const TermFactors<float>& factors, float weight) const {
    const int x = threadIdx.x % kPitch, strips = blockDim.x / kPitch;
    if (x >= size.w) return;
    for (int l = threadIdx.x / kPitch * kStrip; l < rows && top + l < size.h; l += strips * kStrip) {
      float total[kStrip][kChannels] = {};
      neighbors(l, x, total);
#pragma unroll
      for (int k = 0; k < kStrip; ++k)
        if (l + k < rows && top + l + k < size.h) finish(l + k, x, total[k], factors, weight);
    }
  }

  __device__ __forceinline__ void store(const ClusterArrays& arrays, const WalkShape& shape, bool transposed,
                                        const int64_t* channels, int count) const {
    for (int i = threadIdx.x; i < count * rows * kPitch; i += blockDim.x) {
      const int line = i / kPitch, c = line / rows, y = top + line % rows, x = i % kPitch;
      if (y >= size.h || x >= size.w) continue;
      const float value = sum[i];
      arrays.walked[(channels[c] * shape.H + y) * shape.W + x] =
          transposed ? value / inverse[line % rows * kPitch + x] : value;
    }
  }
};

template <int kPitch, int kChannels>
__global__ void __launch_bounds__(kClusterThreads)
    cluster_kernel(ClusterArrays arrays, int64_t* table, WalkShape shape, const __grid_constant__ ClusterWalk walk) {
#if defined(CUSIM) || __CUDA_ARCH__ >= 900
  DYN_SHARED(float, shared);
  const auto cluster = cooperative_groups::this_cluster();
  const ChannelChunks chunks(table, shape.M, shape.B);
  const int rank = cluster.block_rank(), blocks = cluster.num_blocks();
  const int64_t chunk = blockIdx.x / blocks;
  const int count = static_cast<int>(chunks.count[chunk]);
  if (count == 0) return;
  const int64_t b = chunks.image[chunk];
  const int64_t* channels = chunks.channels + chunks.first[chunk];
  const ClusterLayout at(walk.rows, kChannels, kPitch);
  ClusterBlock<kPitch, kChannels> block{walk.rows,
                                        rank * walk.rows,
                                        rank,
                                        blocks,
                                        image_size(arrays.sizes, shape, b),
                                        shared + at.weights,
                                        shared + at.now,
                                        shared + at.previous,
                                        shared + at.sum,
                                        shared + at.degree,
                                        shared + at.inverse};
  block.load(arrays, shape, walk, b, channels, count);
  cluster.sync();
  for (int k = 0; k < walk.degree; ++k) {
    const bool three = walk.chebyshev && k > 0;
    block.term(three ? TermFactors<float>{2, 1, 1} : TermFactors<float>{1, 1, 0}, walk.weight[k + 1]);
    cluster.sync();
    float* const next = block.previous;
    block.previous = block.now;
    block.now = next;
  }
  block.store(arrays, shape, walk.transposed, channels, count);
#else
  __trap();  // never chosen: cluster_plan asks for the architecture this was compiled for
#endif
}

// How a walk is dealt out to clusters; no blocks: not at all.
struct ClusterPlan {
  int blocks = 0, rows = 0, channels = 0, pitch = 0;

  size_t bytes() const { return ClusterLayout(rows, channels, pitch).total * sizeof(float); }
  unsigned threads() const {
    const int strips = (rows + kStrip - 1) / kStrip, most = kClusterThreads / pitch;
    return pitch * (strips < most ? strips : most);
  }
  unsigned grid(const WalkShape& shape) const {
    return channels == 0 ? 0 : static_cast<unsigned>(max_chunks(shape, channels)) * blocks;
  }
};

// Runs `work` with the kernel of a plan.
template <class Work>
int with_cluster_kernel(const ClusterPlan& plan, Work work) {
  if (plan.pitch == 64) return plan.channels == 4 ? work(cluster_kernel<64, 4>) : work(cluster_kernel<64, 2>);
  return plan.channels == 4 ? work(cluster_kernel<128, 4>) : work(cluster_kernel<128, 2>);
}

// The widest chunk of channels that fits `blocks` blocks.
inline ClusterPlan plan_for(const WalkShape& shape, int blocks, size_t memory) {
  const int rows = static_cast<int>((shape.H + blocks - 1) / blocks), pitch = shape.W <= 64 ? 64 : 128;
  for (const int channels : {4, 2}) {
    const ClusterPlan plan{blocks, rows, channels, pitch};
    const bool idle = channels == 4 && shape.M <= 2 * shape.B;
    if (!idle && rows <= 4096 && plan.bytes() <= memory) return plan;
  }
  return {};
}

// The plan for the current device. `wanted`: blocks of a cluster, or -1 for the fewest that hold an image, and twice
// as many while the device would not be full otherwise.
inline ClusterPlan cluster_plan(const WalkShape& shape, const WalkPolynomial& polynomial, int wanted) {
  int device = 0, major = 0, memory = 0, processors = 0;
  if (shape.radius != kClusterRadius || shape.W > 128 || shape.M == 0 || polynomial.degree > kMaxClusterDegree ||
      cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess || major < 9)
    return {};
  ClusterPlan plan{};
  for (int blocks = 1; blocks <= kMaxClusterBlocks; blocks *= 2) {
    if (wanted > 0 && blocks != wanted) continue;
    const bool idle = 2 * plan.grid(shape) <= static_cast<unsigned>(processors);
    if (plan.blocks == 0 || (idle && blocks <= 8 && plan.rows > kStrip)) plan = plan_for(shape, blocks, memory);
  }
  if (plan.blocks == 0) return {};
  const int ready = with_cluster_kernel(plan, [&](auto* kernel) {
    return int(CUDA_CLUSTER_READY(kernel, dim3(plan.grid(shape)), dim3(plan.threads()), plan.blocks, plan.bytes()));
  });
  return ready ? plan : ClusterPlan{};
}

// `walker` has prepared weights and degrees with chunks of plan.channels.
template <class Param>
int run_clusters(const Walker<Param>& walker, const ClusterPlan& plan, const float* seeds, float* walked,
                 const WalkPolynomial& polynomial, bool transposed) {
  ClusterWalk walk{};
  for (int64_t k = 0; k <= polynomial.degree; ++k) walk.weight[k] = static_cast<float>(polynomial.coefficients[k]);
  walk.degree = static_cast<int>(polynomial.degree);
  walk.chebyshev = polynomial.chebyshev;
  walk.transposed = transposed;
  walk.rows = plan.rows;
  for (int p = 0; p < walker.param.size; ++p) {
    const Cell o = walker.param.offsets[p];
    walk.plane[plane_of(o.dy, o.dx)] = static_cast<uint8_t>(p);
  }
  const WalkScratch& s = walker.scratch;
  const ClusterArrays arrays{seeds, s.weights, s.degree, s.inverse, walker.sizes, walked};
  const size_t values = walker.shape.M * walker.shape.H * walker.shape.W;
  if (const int code = cudaMemsetAsync(walked, 0, values * sizeof(float), walker.stream)) return code;
  return with_cluster_kernel(plan, [&](auto* kernel) {
    return int(CUDA_LAUNCH_CLUSTER(kernel, dim3(plan.grid(walker.shape)), dim3(plan.threads()), plan.blocks,
                                   plan.bytes(), walker.stream, arrays, s.table, walker.shape, walk));
  });
}

}  // namespace walk
}  // namespace wsis
