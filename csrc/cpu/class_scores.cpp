#include "common/class_scores.h"

#include <algorithm>

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kChunk = 256;  // pixels whose logits are summed together, their state in the first-level cache

// total[i] = sum over channels of exp(logit - top[i]); the arithmetic of softmax_at, channel by channel.
template <class T>
inline __attribute__((always_inline)) void softmax_sum_body(const T* RESTRICT logits, int64_t C, int64_t plane,
                                                            int64_t count, T* RESTRICT top, T* RESTRICT total) {
  for (int64_t i = 0; i < count; ++i) top[i] = logits[i];
  for (int64_t c = 1; c <= C; ++c) {
    const T* RESTRICT row = logits + c * plane;
    for (int64_t i = 0; i < count; ++i) top[i] = row[i] > top[i] ? row[i] : top[i];
  }
  for (int64_t i = 0; i < count; ++i) total[i] = 0;
  for (int64_t c = 0; c <= C; ++c) {
    const T* RESTRICT row = logits + c * plane;
    for (int64_t i = 0; i < count; ++i) total[i] += exp_nonpositive(row[i] - top[i]);
  }
}
CPU_CLONES void softmax_sum(const float* logits, int64_t C, int64_t plane, int64_t count, float* top, float* total) {
  softmax_sum_body(logits, C, plane, count, top, total);
}
CPU_CLONES void softmax_sum(const double* logits, int64_t C, int64_t plane, int64_t count, double* top,
                            double* total) {
  softmax_sum_body(logits, C, plane, count, top, total);
}

// `count` pixels of one image from `first` on; none of their logits is read where no pixel has a label.
template <class T>
void score_chunk(const T* semantic, const T* center, const int32_t* labels, T* probability, T* heat, int64_t C,
                 int64_t plane, int64_t count) {
  T top[kChunk], total[kChunk];
  int64_t begin = 0, end = count;
  const auto labelled = [&](int64_t i) { return labels[i] > 0 && labels[i] <= C; };
  while (begin < end && !labelled(begin)) ++begin;
  while (begin < end && !labelled(end - 1)) --end;
  std::fill(probability, probability + count, T(0));
  std::fill(heat, heat + count, T(0));
  if (begin == end) return;
  softmax_sum(semantic + begin, C, plane, end - begin, top, total);
  for (int64_t i = begin; i < end; ++i) {
    if (!labelled(i)) continue;
    const int64_t label = labels[i];
    probability[i] = exp_nonpositive(semantic[label * plane + i] - top[i - begin]) / total[i - begin];
    heat[i] = center[(label - 1) * plane + i];
  }
}

}  // namespace

template <class T>
void class_scores_cpu(const T* semantic, const T* center, const int32_t* labels, T* probability, T* heat, int64_t B,
                      int64_t C, int64_t plane) {
  const int64_t chunks = (plane + kChunk - 1) / kChunk;
  parallel_for(0, B * chunks, 64, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t b = k / chunks, first = k % chunks * kChunk, here = b * plane + first;
      score_chunk(semantic + b * (C + 1) * plane + first, center + b * C * plane + first, labels + here,
                  probability + here, heat + here, C, plane, std::min(kChunk, plane - first));
    }
  });
}

template void class_scores_cpu(const float*, const float*, const int32_t*, float*, float*, int64_t, int64_t, int64_t);
template void class_scores_cpu(const double*, const double*, const int32_t*, double*, double*, int64_t, int64_t,
                               int64_t);

}  // namespace wsis
