#include "common/class_scores.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kChunk = 512;  // pixels whose logits are summed together, their state in the first-level cache

// total[i] = sum over channels of exp(logit - own[i]): softmax_at, channel by channel.
template <class T>
inline __attribute__((always_inline)) void softmax_sum_body(const T* RESTRICT logits, int64_t C, int64_t plane,
                                                            int64_t count, const T* RESTRICT own, T* RESTRICT total) {
  for (int64_t i = 0; i < count; ++i) total[i] = 0;
  for (int64_t c = 0; c <= C; ++c) {
    const T* RESTRICT row = logits + c * plane;
    for (int64_t i = 0; i < count; ++i) total[i] += exp_clamped(row[i] - own[i]);
  }
}
CPU_CLONES void softmax_sum(const float* logits, int64_t C, int64_t plane, int64_t count, const float* own,
                            float* total) {
  softmax_sum_body(logits, C, plane, count, own, total);
}
CPU_CLONES void softmax_sum(const double* logits, int64_t C, int64_t plane, int64_t count, const double* own,
                            double* total) {
  softmax_sum_body(logits, C, plane, count, own, total);
}

// The pixels begin .. end, all with a label. scratch: 2 * kChunk numbers.
template <class T>
void score_run(const T* semantic, const T* center, const int32_t* labels, T* probability, T* heat, int64_t C,
               int64_t plane, int64_t begin, int64_t end, T* scratch) {
  T *own = scratch, *total = scratch + kChunk;
  for (int64_t i = begin; i < end; ++i) {
    own[i - begin] = semantic[labels[i] * plane + i];
    heat[i] = center[(labels[i] - 1) * plane + i];
  }
  softmax_sum(semantic + begin, C, plane, end - begin, own, total);
  for (int64_t i = begin; i < end; ++i) probability[i] = T(1) / total[i - begin];
}

// `count` pixels of one image; logits are read only where a pixel has a label.
template <class T>
void score_chunk(const T* semantic, const T* center, const int32_t* labels, T* probability, T* heat, int64_t C,
                 int64_t plane, int64_t count, T* scratch) {
  const auto labelled = [&](int64_t i) { return labels[i] > 0 && labels[i] <= C; };
  for (int64_t i = 0; i < count;) {
    const int64_t begin = i;
    if (labelled(begin)) {
      while (i < count && labelled(i)) ++i;
      score_run(semantic, center, labels, probability, heat, C, plane, begin, i, scratch);
      continue;
    }
    while (i < count && !labelled(i)) ++i;
    std::fill(probability + begin, probability + i, T(0));
    std::fill(heat + begin, heat + i, T(0));
  }
}

}  // namespace

template <class T>
void class_scores_cpu(const T* semantic, const T* center, const int32_t* labels, T* probability, T* heat, int64_t B,
                      int64_t C, int64_t plane) {
  const int64_t chunks = (plane + kChunk - 1) / kChunk;
  parallel_for_uneven(0, B * chunks, 64, [&](Pieces& pieces) {
    std::vector<T> scratch(2 * kChunk);
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t k = begin; k < end; ++k) {
        const int64_t b = k / chunks, first = k % chunks * kChunk, here = b * plane + first;
        score_chunk(semantic + b * (C + 1) * plane + first, center + b * C * plane + first, labels + here,
                    probability + here, heat + here, C, plane, std::min(kChunk, plane - first), scratch.data());
      }
  });
}

template void class_scores_cpu(const float*, const float*, const int32_t*, float*, float*, int64_t, int64_t, int64_t);
template void class_scores_cpu(const double*, const double*, const int32_t*, double*, double*, int64_t, int64_t,
                               int64_t);

}  // namespace wsis
