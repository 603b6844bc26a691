// inter_pixel_loss: host functions and the bodies that CPU and GPU share.
//
// A pair's affinity term depends only on the largest boundary logit on its path, which is the logit of one cell; its
// displacement term is +-1 times both displacements plus a constant. So all pairs are summed up in whole numbers:
// for every cell, how many pairs of each kind have their maximum there, and the sum of the signs with which its
// displacement occurs. Losses and gradients are then one function per cell of these counts, and no order of
// summation can change them.
#pragma once

#include <cmath>

#include "common/macros.h"
#include "common/neighbors.h"

namespace wsis {

constexpr uint8_t kIgnoreSeed = 255;
constexpr double kLossEpsilon = 1e-5;
constexpr int kStateWords = 3;    // planes of the state, see PairState
constexpr int kLossTerms = 8;     // numbers of a LossTerms
constexpr int kLossBlocks = 512;  // partial sums of the GPU

// logits [B, h, w], displacement [B, 2, h, w] (y, x), seeds [B, h, w]
//   -> state [B, 3, h, w] (zero when called), losses [4], counts [3]
// scratch of the GPU: offset_sum [1] (zero when called), partial [kLossBlocks * kLossTerms]
template <class T>
void inter_pixel_loss_cpu(const T* logits, const T* displacement, const uint8_t* seeds, int32_t* state, T* losses,
                          int64_t* counts, int64_t B, int64_t h, int64_t w, int radius);
int inter_pixel_loss_cuda(const float* logits, const float* displacement, const uint8_t* seeds, int32_t* state,
                          int64_t* offset_sum, double* partial, float* losses, int64_t* counts, int64_t B, int64_t h,
                          int64_t w, int radius, void* stream);

// grad_losses [4], state [B, 3, h, w], counts [3] -> grad_logits [B, h, w], grad_displacement [B, 2, h, w]
template <class T>
void inter_pixel_loss_backward_cpu(const T* grad_losses, const T* logits, const uint8_t* seeds, const int32_t* state,
                                   const int64_t* counts, T* grad_logits, T* grad_displacement, int64_t B, int64_t h,
                                   int64_t w);
int inter_pixel_loss_backward_cuda(const float* grad_losses, const float* logits, const uint8_t* seeds,
                                   const int32_t* state, const int64_t* counts, float* grad_logits,
                                   float* grad_displacement, int64_t B, int64_t h, int64_t w, void* stream);

enum class Pair : int { kNone, kBackground, kForeground, kDifferent };

HOST_DEVICE Pair pair_kind(uint8_t source, uint8_t target) {
  if (source == kIgnoreSeed || target == kIgnoreSeed) return Pair::kNone;
  if (source != target) return Pair::kDifferent;
  return source == 0 ? Pair::kBackground : Pair::kForeground;
}

template <class T>
HOST_DEVICE int sign(T v) {
  return (v > T(0)) - (v < T(0));
}

// What one cell has gathered, packed into three 32-bit words so that the GPU can add with integer atomics.
// A count is at most 8,736 and a sign sum at most 792 in magnitude (radius 16): 16 bits hold either.
struct PairState {
  int32_t background, foreground, different;  // pairs whose path maximum lies here
  int32_t sign_y, sign_x;                     // sum of signs; the cell's own seed tells which loss it belongs to

  HOST_DEVICE static int32_t pack_counts(int32_t background, int32_t foreground) {
    return background | foreground << 16;
  }
  HOST_DEVICE static int32_t pack_signs(int32_t y, int32_t x) { return y + x * 65536; }

  // state: [3, plane] of one image, advanced to the cell.
  HOST_DEVICE static PairState unpack(const int32_t* state, int64_t plane) {
    const int32_t same = state[0], signs = state[2 * plane];
    const int32_t y = static_cast<int16_t>(signs & 0xffff);
    return {same & 0xffff, same >> 16, state[plane], y, (signs - y) / 65536};
  }
};

// Probability of a boundary and of its absence, both to full precision.
struct Sigmoid {
  double on, off;
  HOST_DEVICE explicit Sigmoid(double logit) {
    const double e = exp(-fabs(logit)), large = 1.0 / (1.0 + e), small = e * large;
    on = logit >= 0 ? large : small;
    off = logit >= 0 ? small : large;
  }
};

// Sums over cells: the losses before normalisation and the number of pairs of each kind.
struct LossTerms {
  enum Term {
    kAffinityBackground,
    kAffinityForeground,
    kAffinityDifferent,
    kMovedForeground,
    kMovedBackground,
    kBackground,
    kForeground,
    kDifferent
  };
  double sum[kLossTerms] = {};

  HOST_DEVICE void add(const double* other) {
    for (int i = 0; i < kLossTerms; ++i) sum[i] += other[i];
  }

  // The share of one cell.
  template <class T>
  HOST_DEVICE void add_cell(const PairState& state, T logit, T dy, T dx, uint8_t seed) {
    if (state.background | state.foreground | state.different) {
      const Sigmoid boundary(logit);
      const double equal = -log(boundary.off + kLossEpsilon), different = -log(boundary.on + kLossEpsilon);
      sum[kAffinityBackground] += state.background * equal;
      sum[kAffinityForeground] += state.foreground * equal;
      sum[kAffinityDifferent] += state.different * different;
      sum[kBackground] += state.background;
      sum[kForeground] += state.foreground;
      sum[kDifferent] += state.different;
    }
    if (state.sign_y | state.sign_x) {
      const double moved = state.sign_y * static_cast<double>(dy) + state.sign_x * static_cast<double>(dx);
      sum[kMovedBackground] += seed == 0 ? moved : 0.0;  // no index chosen at run time: registers have none
      sum[kMovedForeground] += seed == 0 ? 0.0 : moved;
    }
  }

  // losses: affinity positive and negative, displacement foreground and background. offset_sum: sum of sign * offset
  // over the foreground pairs, which no cell's displacement holds.
  template <class T>
  HOST_DEVICE void finish(int64_t offset_sum, T* losses, int64_t* counts) const {
    const double background = sum[kBackground], foreground = sum[kForeground], different = sum[kDifferent];
    const double equal = sum[kAffinityBackground] / (background + kLossEpsilon) +
                         sum[kAffinityForeground] / (foreground + kLossEpsilon);
    const double moved = sum[kMovedForeground] - static_cast<double>(offset_sum), still = sum[kMovedBackground];
    losses[0] = static_cast<T>(equal / 2);
    losses[1] = static_cast<T>(sum[kAffinityDifferent] / (different + kLossEpsilon));
    losses[2] = static_cast<T>((moved < 0 ? 0 : moved) / (2 * foreground + kLossEpsilon));
    losses[3] = static_cast<T>((still < 0 ? 0 : still) / (2 * background + kLossEpsilon));
    counts[0] = static_cast<int64_t>(background);
    counts[1] = static_cast<int64_t>(foreground);
    counts[2] = static_cast<int64_t>(different);
  }
};

// Factors by which the counts of a cell become its gradient.
struct LossGradient {
  double background, foreground, different;                // of the affinity terms
  double displacement_foreground, displacement_background;  // of the sign sums

  template <class T>
  HOST_DEVICE static LossGradient make(const T* grad_losses, const int64_t* counts) {
    const double background = static_cast<double>(counts[0]), foreground = static_cast<double>(counts[1]);
    return {grad_losses[0] / 2.0 / (background + kLossEpsilon), grad_losses[0] / 2.0 / (foreground + kLossEpsilon),
            grad_losses[1] / (static_cast<double>(counts[2]) + kLossEpsilon),
            grad_losses[2] / (2 * foreground + kLossEpsilon), grad_losses[3] / (2 * background + kLossEpsilon)};
  }

  HOST_DEVICE double logit(const PairState& state, double logit) const {
    if (!(state.background | state.foreground | state.different)) return 0;
    const Sigmoid boundary(logit);
    const double slope = boundary.on * boundary.off;
    const double same = state.background * background + state.foreground * foreground;
    return slope * (same / (boundary.off + kLossEpsilon) - state.different * different / (boundary.on + kLossEpsilon));
  }

  HOST_DEVICE double displacement(int32_t sign_sum, uint8_t seed) const {
    return sign_sum * (seed == 0 ? displacement_background : displacement_foreground);
  }
};

}  // namespace wsis
