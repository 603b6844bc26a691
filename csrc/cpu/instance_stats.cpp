#include "common/instance_stats.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "cpu/changes.h"

namespace wsis {
namespace {

// Maximum and sum of scores[0, n). The sum runs over kLanes interleaved partial sums, joined in pairs: one order, which
// depends on n alone, and vector registers can follow it.
constexpr int64_t kLanes = 8;

template <class T>
inline __attribute__((always_inline)) void reduce(const T* scores, int64_t n, T* maximum, double* sum) {
  double lane_sum[kLanes] = {};
  T lane_max[kLanes];
  std::fill(lane_max, lane_max + kLanes, scores[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) {
      lane_sum[k] += static_cast<double>(scores[i + k]);
      lane_max[k] = scores[i + k] > lane_max[k] ? scores[i + k] : lane_max[k];
    }
  for (int64_t k = 0; i + k < n; ++k) {
    lane_sum[k] += static_cast<double>(scores[i + k]);
    lane_max[k] = scores[i + k] > lane_max[k] ? scores[i + k] : lane_max[k];
  }
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t k = 0; k < half; ++k) {
      lane_sum[k] += lane_sum[k + half];
      lane_max[k] = lane_max[k + half] > lane_max[k] ? lane_max[k + half] : lane_max[k];
    }
  *sum = lane_sum[0];
  *maximum = lane_max[0];
}

CPU_CLONES void reduce_scores(const float* scores, int64_t n, float* maximum, double* sum) {
  reduce(scores, n, maximum, sum);
}
CPU_CLONES void reduce_scores(const double* scores, int64_t n, double* maximum, double* sum) {
  reduce(scores, n, maximum, sum);
}

template <class T>
void clear_rows(const StatsProblem<T>& p, int64_t b) {
  const int64_t begin = b * p.capacity, end = begin + p.capacity;
  std::fill(p.area + begin, p.area + end, 0);
  std::fill(p.box + 4 * begin, p.box + 4 * end, 0);
  std::fill(p.moment + 2 * begin, p.moment + 2 * end, 0);
  std::fill(p.score_max + begin, p.score_max + end, T(0));
  std::fill(p.score_sum + begin, p.score_sum + end, 0.0);
  std::fill(p.peak + begin, p.peak + end, -1);
  p.outside[b] = 0;
}

// The run [x0, x1) of row y belongs to table row m.
template <class T>
void add_shape(const StatsProblem<T>& p, int64_t m, int64_t y, int64_t x0, int64_t x1) {
  const auto left = static_cast<int32_t>(x0), right = static_cast<int32_t>(x1), row = static_cast<int32_t>(y);
  int32_t* box = p.box + 4 * m;
  if (p.area[m] == 0) {
    box[0] = left;
    box[1] = row;
    box[2] = right;
  } else {
    box[0] = std::min(box[0], left);
    box[2] = std::max(box[2], right);
  }
  box[3] = row + 1;
  p.area[m] += x1 - x0;
  p.moment[2 * m] += y * (x1 - x0);
  p.moment[2 * m + 1] += (x0 + x1 - 1) * (x1 - x0) / 2;
}

template <class T>
void add_scores(const StatsProblem<T>& p, int64_t m, const T* scores, int64_t n, int64_t first_cell) {
  T maximum;
  double sum;
  reduce_scores(scores, n, &maximum, &sum);
  p.score_sum[m] += sum;
  if (p.peak[m] >= 0 && !(maximum > p.score_max[m])) return;
  p.score_max[m] = maximum;
  p.peak[m] = first_cell + std::min<int64_t>(std::find(scores, scores + n, maximum) - scores, n - 1);
}

template <class T>
void image_stats(const StatsProblem<T>& p, int64_t b, uint8_t* flags) {
  clear_rows(p, b);
  const int64_t height = p.sizes ? p.sizes[2 * b] : p.H, width = p.sizes ? p.sizes[2 * b + 1] : p.W;
  if (width == 0) return;
  for (int64_t y = 0; y < height; ++y) {
    const int64_t row = (b * p.H + y) * p.W;
    const auto* ids = p.ids + row;
    for_each_run(reinterpret_cast<const uint32_t*>(ids), width, flags, [&](int64_t x0, int64_t x1) {
      const int64_t id = ids[x0];
      if (id == 0) return;
      if (id < 0 || id > p.capacity) {
        p.outside[b] += x1 - x0;
        return;
      }
      const int64_t m = b * p.capacity + id - 1;
      add_shape(p, m, y, x0, x1);
      if (p.scores) add_scores(p, m, p.scores + row + x0, x1 - x0, y * p.W + x0);
    });
  }
}

}  // namespace

template <class T>
void instance_stats_cpu(const StatsProblem<T>& problem) {
  parallel_for_uneven(0, problem.B, 1, [&](Pieces& pieces) {
    std::vector<uint8_t> flags(problem.W + kFlagPadding);
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t b = begin; b < end; ++b) image_stats(problem, b, flags.data());
  });
}

template void instance_stats_cpu(const StatsProblem<float>&);
template void instance_stats_cpu(const StatsProblem<double>&);

}  // namespace wsis
