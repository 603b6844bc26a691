// Segmented reduction over an id map. A warp looks at 32 successive pixels and adds up each run of equal ids by
// shuffles, so one atomic per run and quantity remains. All atomics are on integers, hence exact and in no order:
// maxima as an order-preserving key with the position below it, sums of scores in fixed point with a scale of their own
// for every instance. The outputs themselves serve as accumulators and are decoded in place at the end.
#include "common/instance_stats.h"
#include "cuda/planes.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;
using Wide = unsigned long long;  // what the 64-bit atomics take

// Monotone in the score, and never 0 for a number; -0 becomes +0.
__device__ __forceinline__ unsigned score_key(float score) {
  const unsigned bits = __float_as_uint(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float key_score(unsigned key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Scores of an instance with `area` pixels and magnitudes up to `largest` are added up in units of 2^-shift: below
// 2^(62 - log2 area) each, so the sum fits 63 bits, and at least 2^30 units for the largest score.
__device__ __forceinline__ int fixed_shift(int64_t area, float largest) {
  int exponent = 0, area_bits = 0;
  frexp(static_cast<double>(largest), &exponent);  // largest < 2^exponent
  frexp(static_cast<double>(area), &area_bits);    // area < 2^area_bits
  return 62 - area_bits - exponent;
}

// The pixel of this thread, the run of equal ids around it within the warp, and its table row (-1: counted nowhere).
struct RunView {
  int64_t b, i, y, x, row;
  int length;   // pixels of the run from this lane on
  bool first;   // this lane starts the run
  bool outside;  // the id fits no row

  __device__ explicit RunView(const StatsProblem<float>& p) {
    const int64_t pixels = p.H * p.W;
    const int lane = threadIdx.x & 31;
    const PlanePixel pixel = pixel_of_thread(pixels, kBlock);
    const Place place = place_of(pixel.index, p.W);
    b = pixel.plane;
    i = pixel.index;
    y = place.y;
    x = place.x;
    const bool inside = y < (p.sizes ? p.sizes[2 * b] : p.H) && x < (p.sizes ? p.sizes[2 * b + 1] : p.W);
    const int32_t id = inside ? p.ids[b * pixels + i] : 0;
    outside = id < 0 || id > p.capacity;
    row = id > 0 && id <= p.capacity ? b * p.capacity + id - 1 : -1;
    const int32_t left = __shfl_up_sync(kFullWarp, id, 1);
    first = lane == 0 || x == 0 || left != id;
    length = run_length(first);
  }
};

__global__ void __launch_bounds__(kBlock) clear_rows_kernel(const StatsProblem<float> p) {
  const int64_t m = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (m < p.B) p.outside[m] = 0;
  if (m >= p.B * p.capacity) return;
  p.area[m] = 0;
  p.box[4 * m] = p.box[4 * m + 1] = INT32_MAX;
  p.box[4 * m + 2] = p.box[4 * m + 3] = 0;
  p.moment[2 * m] = p.moment[2 * m + 1] = 0;
  p.score_max[m] = 0.0f;
  p.score_sum[m] = 0.0;  // all bits zero: the fixed-point accumulator
  p.peak[m] = p.scores ? 0 : -1;
}

// Shapes, the key of the maximum (in peak) and the largest magnitude (in score_max).
__global__ void __launch_bounds__(kBlock) shapes_kernel(const StatsProblem<float> p) {
  const RunView run(p);
  if (run.first && run.outside) atomicAdd(reinterpret_cast<Wide*>(p.outside + run.b), static_cast<Wide>(run.length));
  if (run.first && run.row >= 0) {
    const int64_t n = run.length;
    const auto x = static_cast<int32_t>(run.x), y = static_cast<int32_t>(run.y);
    atomicAdd(reinterpret_cast<Wide*>(p.area + run.row), static_cast<Wide>(n));
    atomicAdd(reinterpret_cast<Wide*>(p.moment + 2 * run.row), static_cast<Wide>(n * run.y));
    atomicAdd(reinterpret_cast<Wide*>(p.moment + 2 * run.row + 1), static_cast<Wide>((2 * run.x + n - 1) * n / 2));
    atomicMin(p.box + 4 * run.row, x);
    atomicMin(p.box + 4 * run.row + 1, y);
    atomicMax(p.box + 4 * run.row + 2, x + run.length);
    atomicMax(p.box + 4 * run.row + 3, y + 1);
  }
  if (!p.scores) return;
  const float score = run.row >= 0 ? p.scores[run.b * p.H * p.W + run.i] : 0.0f;
  Wide key = (static_cast<Wide>(score_key(score)) << 32) | (0xffffffffu - static_cast<unsigned>(run.i));
  unsigned magnitude = __float_as_uint(score) & 0x7fffffffu;
  for (int step = 1; step < 32; step *= 2) {
    const Wide other_key = __shfl_down_sync(kFullWarp, key, step);
    const unsigned other = __shfl_down_sync(kFullWarp, magnitude, step);
    if (step < run.length) {
      key = other_key > key ? other_key : key;
      magnitude = other > magnitude ? other : magnitude;
    }
  }
  if (!run.first || run.row < 0) return;
  atomicMax(reinterpret_cast<Wide*>(p.peak + run.row), key);
  atomicMax(reinterpret_cast<unsigned*>(p.score_max + run.row), magnitude);
}

// Sums in fixed point (in score_sum), now that area and largest magnitude of every instance are known.
__global__ void __launch_bounds__(kBlock) sums_kernel(const StatsProblem<float> p) {
  const RunView run(p);
  long long sum = 0;
  if (run.row >= 0) {
    const int shift = fixed_shift(p.area[run.row], p.score_max[run.row]);
    sum = llrint(ldexp(static_cast<double>(p.scores[run.b * p.H * p.W + run.i]), shift));
  }
  for (int step = 1; step < 32; step *= 2) {
    const long long other = __shfl_down_sync(kFullWarp, sum, step);
    if (step < run.length) sum += other;
  }
  if (run.first && run.row >= 0) atomicAdd(reinterpret_cast<Wide*>(p.score_sum + run.row), static_cast<Wide>(sum));
}

__global__ void __launch_bounds__(kBlock) decode_rows_kernel(const StatsProblem<float> p) {
  const int64_t m = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (m >= p.B * p.capacity) return;
  if (p.area[m] == 0) {
    p.box[4 * m] = p.box[4 * m + 1] = 0;
    p.peak[m] = -1;
  } else if (p.scores) {
    const Wide key = static_cast<Wide>(p.peak[m]);
    const long long sum = reinterpret_cast<const long long*>(p.score_sum)[m];
    p.score_sum[m] = ldexp(static_cast<double>(sum), -fixed_shift(p.area[m], p.score_max[m]));
    p.score_max[m] = key_score(static_cast<unsigned>(key >> 32));
    p.peak[m] = 0xffffffffu - static_cast<unsigned>(key);
  }
}

}  // namespace

int instance_stats_cuda(const StatsProblem<float>& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const int64_t rows = p.B * p.capacity;
  const bool pixels = p.H * p.W > 0;
  const dim3 row_grid(grid_for(rows > p.B ? rows : p.B, kBlock)), pixel_grid(plane_grid(p.B, p.H * p.W, kBlock));
  const dim3 block(kBlock);
  if (int code = CUDA_LAUNCH(clear_rows_kernel, row_grid, block, 0, s, p)) return code;
  if (pixels)
    if (int code = CUDA_LAUNCH(shapes_kernel, pixel_grid, block, 0, s, p)) return code;
  if (pixels && p.scores)
    if (int code = CUDA_LAUNCH(sums_kernel, pixel_grid, block, 0, s, p)) return code;
  return CUDA_LAUNCH(decode_rows_kernel, row_grid, block, 0, s, p);
}

}  // namespace wsis
