#include "common/weighted_error.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kChunk = 512;  // pixels whose weights are looked at together; sums are made chunk by chunk
constexpr int64_t kLanes = 8;

// Calls f(begin, end) for stretches of pixels whose weight is not 0.
template <class T, class F>
void for_each_weighted(const T* weight, int64_t count, const F& f) {
  for (int64_t i = 0; i < count;) {
    while (i < count && weight[i] == T(0)) ++i;
    const int64_t begin = i;
    while (i < count && !(weight[i] == T(0))) ++i;
    if (begin < i) f(begin, i);
  }
}

// Sum over `count` pixels of weight times the error summed over the channels, in an order that depends on count alone.
template <class T>
inline __attribute__((always_inline)) double stretch_body(const T* RESTRICT prediction, const T* RESTRICT target,
                                                          const T* RESTRICT weight, int64_t K, int64_t plane,
                                                          int64_t count, bool squared) {
  T error[kChunk];
  for (int64_t i = 0; i < count; ++i) error[i] = 0;
  for (int64_t k = 0; k < K; ++k) {
    const T* RESTRICT p = prediction + k * plane;
    const T* RESTRICT t = target + k * plane;
    if (squared)
      for (int64_t i = 0; i < count; ++i) error[i] += error_of(p[i] - t[i], true);
    else
      for (int64_t i = 0; i < count; ++i) error[i] += error_of(p[i] - t[i], false);
  }
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t j = 0; j < kLanes; ++j) lane[j] += static_cast<double>(weight[i + j] * error[i + j]);
  for (int64_t j = 0; i + j < count; ++j) lane[j] += static_cast<double>(weight[i + j] * error[i + j]);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t j = 0; j < half; ++j) lane[j] += lane[j + half];
  return lane[0];
}
CPU_CLONES double stretch(const float* prediction, const float* target, const float* weight, int64_t K, int64_t plane,
                          int64_t count, bool squared) {
  return stretch_body(prediction, target, weight, K, plane, count, squared);
}
CPU_CLONES double stretch(const double* prediction, const double* target, const double* weight, int64_t K,
                          int64_t plane, int64_t count, bool squared) {
  return stretch_body(prediction, target, weight, K, plane, count, squared);
}

// gradient += factor * weight * slope, for `count` pixels of all channels.
template <class T>
inline __attribute__((always_inline)) void slope_body(const T* RESTRICT prediction, const T* RESTRICT target,
                                                      const T* RESTRICT weight, T factor, int64_t K, int64_t plane,
                                                      int64_t count, bool squared, T* RESTRICT gradient) {
  T scale[kChunk];
  for (int64_t i = 0; i < count; ++i) scale[i] = factor * weight[i];
  for (int64_t k = 0; k < K; ++k) {
    const T* RESTRICT p = prediction + k * plane;
    const T* RESTRICT t = target + k * plane;
    T* RESTRICT g = gradient + k * plane;
    if (squared)
      for (int64_t i = 0; i < count; ++i) g[i] += scale[i] * slope_of(p[i] - t[i], true);
    else
      for (int64_t i = 0; i < count; ++i) g[i] += scale[i] * slope_of(p[i] - t[i], false);
  }
}
CPU_CLONES void add_slope(const float* prediction, const float* target, const float* weight, float factor, int64_t K,
                          int64_t plane, int64_t count, bool squared, float* gradient) {
  slope_body(prediction, target, weight, factor, K, plane, count, squared, gradient);
}
CPU_CLONES void add_slope(const double* prediction, const double* target, const double* weight, double factor,
                          int64_t K, int64_t plane, int64_t count, bool squared, double* gradient) {
  slope_body(prediction, target, weight, factor, K, plane, count, squared, gradient);
}

// What one chunk of pixels adds, per target.
struct ChunkSum {
  double sum[kErrorTargets];
  int64_t count[kErrorTargets];
};

template <class T>
ChunkSum sum_chunk(const ErrorProblem<T>& p, int64_t b, int64_t first, int64_t size) {
  ChunkSum chunk = {};
  for (int t = 0; t < kErrorTargets && p.target[t]; ++t) {
    const T* weight = p.weight[t] + b * p.plane + first;
    const int64_t at = b * p.K * p.plane + first;
    for_each_weighted(weight, size, [&](int64_t begin, int64_t end) {
      chunk.sum[t] += stretch(p.prediction + at + begin, p.target[t] + at + begin, weight + begin, p.K, p.plane,
                              end - begin, p.squared);
      chunk.count[t] += std::count_if(weight + begin, weight + end, [](T w) { return w > T(0); });
    });
  }
  return chunk;
}

}  // namespace

template <class T>
void weighted_error_cpu(const ErrorProblem<T>& p, double* sums, int64_t* counts) {
  const int64_t chunks = (p.plane + kChunk - 1) / kChunk;
  std::vector<ChunkSum> parts(p.B * chunks);
  parallel_for_uneven(0, p.B * chunks, 32, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % chunks * kChunk;
        parts[i] = sum_chunk(p, i / chunks, first, std::min(kChunk, p.plane - first));
      }
  });
  for (int t = 0; t < kErrorTargets; ++t) {
    sums[t] = 0;
    counts[t] = 0;
    for (const ChunkSum& part : parts) {
      sums[t] += part.sum[t];
      counts[t] += part.count[t];
    }
  }
}

template <class T>
void weighted_error_backward_cpu(const ErrorProblem<T>& p, const double* factor, T* gradient) {
  const int64_t chunks = (p.plane + kChunk - 1) / kChunk;
  parallel_for_uneven(0, p.B * chunks, 32, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t i = begin; i < end; ++i) {
        const int64_t b = i / chunks, first = i % chunks * kChunk, size = std::min(kChunk, p.plane - first);
        for (int t = 0; t < kErrorTargets && p.target[t]; ++t) {
          const T* weight = p.weight[t] + b * p.plane + first;
          for_each_weighted(weight, size, [&](int64_t from, int64_t to) {
            const int64_t at = b * p.K * p.plane + first + from;
            add_slope(p.prediction + at, p.target[t] + at, weight + from, static_cast<T>(factor[t]), p.K, p.plane,
                      to - from, p.squared, gradient + at);
          });
        }
      }
  });
}

template void weighted_error_cpu(const ErrorProblem<float>&, double*, int64_t*);
template void weighted_error_cpu(const ErrorProblem<double>&, double*, int64_t*);
template void weighted_error_backward_cpu(const ErrorProblem<float>&, const double*, float*);
template void weighted_error_backward_cpu(const ErrorProblem<double>&, const double*, double*);

}  // namespace wsis
