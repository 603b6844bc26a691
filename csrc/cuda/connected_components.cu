// Union-find on pixels (after Playne and Hawick 2018, and Hennequin, Lacassagne, Cabaret and Meunier 2018 for the runs
// within a warp), for any number of labels: neighbours join where their labels are equal.
#include "common/connected_components.h"
#include "cuda/planes.h"
#include "cuda/scan.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;
constexpr int kRounds = kComponentChunk / kBlock;
// Entries of `parent` (pixel indices within the image): a smaller index of the same component, or its own index at a
// root. Below zero there are final answers: kNone for background, -id at numbered roots.
constexpr int32_t kNone = INT32_MIN;

// One chunk of one image, and how to look at its pixels.
template <class T>
struct ChunkView {
  const T* labels;
  int32_t* parent;
  int64_t b, first, pixels, W, height, width;

  __device__ ChunkView(const ComponentProblem<T>& p, int32_t* parents) {
    pixels = p.H * p.W;
    const PlanePixel pixel = pixel_of_thread(pixels, kBlock, kRounds);
    b = pixel.plane;
    first = pixel.index - threadIdx.x;
    labels = p.labels + b * pixels;
    parent = parents + b * pixels;
    W = p.W;
    height = p.sizes ? p.sizes[2 * b] : p.H;
    width = p.sizes ? p.sizes[2 * b + 1] : p.W;
  }
};

__device__ __forceinline__ int32_t find_root(const int32_t* parent, int32_t i) {
  for (int32_t up = parent[i]; up != i; up = parent[i]) i = up;
  return i;
}

// Joins the sets of a and b. Parents only ever become smaller, so a stale read is still an ancestor, and every turn of
// the loop either ends or goes on from a smaller index.
__device__ __forceinline__ void join(int32_t* parent, int32_t a, int32_t b) {
  a = find_root(parent, a);
  b = find_root(parent, b);
  while (a != b) {
    if (a < b) {
      const int32_t swap = a;
      a = b;
      b = swap;
    }
    const int32_t old = atomicMin(parent + a, b);
    if (old == a) return;
    a = find_root(parent, old);
    b = find_root(parent, b);
  }
}

// Every pixel points to the first pixel of its run within the warp's 32 pixels; a run that came in from the left of
// them is linked there. No atomics: these links already are a forest.
template <class T>
__global__ void __launch_bounds__(kBlock) link_runs_kernel(const ComponentProblem<T> p, int32_t* parents) {
  const ChunkView<T> view(p, parents);
  const int lane = threadIdx.x & 31;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = view.first + round * kBlock + threadIdx.x;
    const auto [y, x] = place_of(static_cast<uint32_t>(i), view.W);
    const bool inside = y < view.height && x < view.width;
    const T label = inside ? view.labels[i] : T(0);
    const bool active = inside && !p.is_background(label);
    const bool joins_left = active && x > 0 && view.labels[i - 1] == label;
    const unsigned starts = __ballot_sync(kFullWarp, !joins_left) | 1u;
    const int start = 31 - __clz(static_cast<int>(starts & (kFullWarp >> (31 - lane))));
    if (i < view.pixels)
      view.parent[i] = active ? static_cast<int32_t>(i - (lane == 0 && joins_left ? 1 : lane - start)) : kNone;
  }
}

// Joins each run with the runs above it, once for each pair that touches (and seldom twice).
template <class T>
__global__ void __launch_bounds__(kBlock) join_rows_kernel(const ComponentProblem<T> p, int32_t* parents) {
  const ChunkView<T> view(p, parents);
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = view.first + round * kBlock + threadIdx.x;
    const auto [y, x] = place_of(static_cast<uint32_t>(i), view.W);
    if (y == 0 || y >= view.height || x >= view.width) continue;
    const T* here = view.labels + i;
    const T* above = here - view.W;
    const T label = *here;
    if (p.is_background(label)) continue;
    const auto self = static_cast<int32_t>(i), up = static_cast<int32_t>(i - view.W);
    const bool left = x > 0 && here[-1] == label;
    const bool up_left = x > 0 && above[-1] == label;
    if (*above == label) {
      // With a left neighbour of the same label that touches the same run above, that one has joined them.
      if (!left || (!p.diagonal && !up_left)) join(view.parent, self, up);
    } else if (p.diagonal) {
      if (up_left && !left) join(view.parent, self, up - 1);
      if (x + 1 < view.width && above[1] == label) join(view.parent, self, up + 1);
    }
  }
}

// Flattens the trees and counts the roots of each chunk.
template <class T>
__global__ void __launch_bounds__(kBlock)
    count_roots_kernel(const ComponentProblem<T> p, int32_t* parents, int32_t* RESTRICT chunk_counts) {
  const ChunkView<T> view(p, parents);
  int count = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = view.first + round * kBlock + threadIdx.x;
    bool is_root = false;
    if (i < view.pixels && view.parent[i] >= 0) {
      const int32_t root = find_root(view.parent, static_cast<int32_t>(i));
      is_root = root == i;
      if (!is_root) view.parent[i] = root;
    }
    count += __syncthreads_count(is_root);
  }
  if (threadIdx.x == 0) chunk_counts[blockIdx.x] = count;
}

// A root's id is its rank among the roots of its image in raster order, from 1; it is stored as -id.
template <class T>
__global__ void __launch_bounds__(kBlock)
    number_roots_kernel(const ComponentProblem<T> p, int32_t* parents, const int64_t* RESTRICT offsets) {
  __shared__ int64_t warp_sums[kScanBlock / 32];
  const ChunkView<T> view(p, parents);
  const int64_t chunks = component_chunks(p.H, p.W), image_start = offsets[view.b * chunks];
  int64_t next = offsets[blockIdx.x] - image_start + 1;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = view.first + round * kBlock + threadIdx.x;
    const bool is_root = i < view.pixels && view.parent[i] == i;
    int64_t total;
    const int64_t before = block_exclusive_scan(is_root, warp_sums, &total);
    if (is_root) view.parent[i] = static_cast<int32_t>(-(next + before));
    next += total;
  }
  if (view.first == 0 && threadIdx.x == 0)
    p.counts[view.b] = static_cast<int32_t>(offsets[(view.b + 1) * chunks] - image_start);
}

// A separate output, so that nobody walks over an entry that has just become an id.
template <class T>
__global__ void __launch_bounds__(kBlock) write_ids_kernel(const ComponentProblem<T> p, int32_t* parents) {
  const ChunkView<T> view(p, parents);
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = view.first + round * kBlock + threadIdx.x;
    if (i >= view.pixels) continue;
    int32_t entry = view.parent[i];
    while (entry >= 0) entry = view.parent[entry];
    p.ids[view.b * view.pixels + i] = entry == kNone ? 0 : -entry;
  }
}

}  // namespace

template <class T>
int connected_components_cuda(const ComponentProblem<T>& p, const ComponentScratch& scratch, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const int64_t chunks = p.B * component_chunks(p.H, p.W);
  const dim3 grid(plane_grid(p.B, p.H * p.W, kComponentChunk)), block(kBlock);
  int32_t* parent = scratch.parent;
  if (int code = CUDA_LAUNCH(link_runs_kernel<T>, grid, block, 0, s, p, parent)) return code;
  if (int code = CUDA_LAUNCH(join_rows_kernel<T>, grid, block, 0, s, p, parent)) return code;
  if (int code = CUDA_LAUNCH(count_roots_kernel<T>, grid, block, 0, s, p, parent, scratch.chunk_counts)) return code;
  if (int code = exclusive_scan(scratch.chunk_counts, chunks, scratch.offsets, scratch.partial, s)) return code;
  if (int code = CUDA_LAUNCH(number_roots_kernel<T>, grid, block, 0, s, p, parent, scratch.offsets)) return code;
  return CUDA_LAUNCH(write_ids_kernel<T>, grid, block, 0, s, p, parent);
}

template int connected_components_cuda(const ComponentProblem<uint8_t>&, const ComponentScratch&, void*);
template int connected_components_cuda(const ComponentProblem<uint16_t>&, const ComponentScratch&, void*);
template int connected_components_cuda(const ComponentProblem<uint32_t>&, const ComponentScratch&, void*);
template int connected_components_cuda(const ComponentProblem<uint64_t>&, const ComponentScratch&, void*);

}  // namespace wsis
