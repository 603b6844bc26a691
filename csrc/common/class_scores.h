// class_scores: host functions and the per-pixel body.
#pragma once

#include "common/exp_clamped.h"

namespace wsis {

// semantic [B, C + 1, H, W] logits, center [B, C, H, W], labels [B, H, W] (0 = none, class + 1; anything outside 0..C
// counts as 0) -> probability [B, H, W], softmax of the pixel's label, and heat [B, H, W], the value of its class in
// center; both 0 where the label is 0. plane = H * W.
template <class T>
void class_scores_cpu(const T* semantic, const T* center, const int32_t* labels, T* probability, T* heat, int64_t B,
                      int64_t C, int64_t plane);
int class_scores_cuda(const float* semantic, const float* center, const int32_t* labels, float* probability,
                      float* heat, int64_t B, int64_t C, int64_t plane, void* stream);

// Softmax of channel `label` of one pixel, whose C + 1 logits lie `plane` apart: 1 / sum of exp(logit - own logit), in
// one pass over the channels, whose order is the same on CPU and GPU.
template <class T>
HOST_DEVICE T softmax_at(const T* logits, int64_t C, int64_t plane, int64_t label) {
  const T own = logits[label * plane];
  T sum = 0;
  for (int64_t c = 0; c <= C; ++c) sum += exp_clamped(logits[c * plane] - own);
  return T(1) / sum;
}

}  // namespace wsis
