// random_walk: host functions, the Chebyshev series, and the per-element bodies that CPU and GPU share.
#pragma once

#include <cmath>
#include <vector>

#include "common/macros.h"
#include "common/neighbors.h"

namespace wsis {

// What one call walks over. Seeds [M, H, W] belong to images image_index [M] (0..B-1) of the boundary [B, H, W];
// sizes [B, 2] holds the true (height, width) of each image, or is null when all are H x W.
struct WalkShape {
  int64_t M, B, H, W;
  int radius;
};

// The walk as a polynomial in the one-step operator: y = sum_k coefficients[k] t_k, where t_k is the k-th Chebyshev
// polynomial of the operator applied to the seeds or, in exact stepping, its k-th power.
struct WalkSeries {
  std::vector<double> coefficients;  // [degree + 1]
  bool chebyshev;

  // t_(k+1) = scale(k) W t_k - previous_scale(k) t_(k-1) for the one-step operator W
  double scale(int64_t k) const { return chebyshev && k > 0 ? 2.0 : 1.0; }
  double previous_scale(int64_t k) const { return chebyshev && k > 0 ? 1.0 : 0.0; }
  int64_t degree() const { return static_cast<int64_t>(coefficients.size()) - 1; }
};

// seeds, walked: [M, H, W]; boundary: [B, H, W]; T is float or double. Outside the true sizes the result is 0.
template <class T>
void random_walk_cpu(const T* seeds, const T* boundary, const int64_t* image_index, const int32_t* sizes, T* walked,
                     const WalkShape& shape, double beta, const WalkSeries& series);

// grad: [M, H, W] -> grad_seeds [M, H, W]: the transposed walk.
template <class T>
void random_walk_transposed_cpu(const T* grad, const T* boundary, const int64_t* image_index, const int32_t* sizes,
                                T* grad_seeds, const WalkShape& shape, double beta, const WalkSeries& series);

// grad, seeds: [M, H, W]; boundary: [B, H, W] -> grad_seeds [M, H, W] and grad_boundary [B, H, W].
template <class T>
void random_walk_backward_cpu(const T* grad, const T* seeds, const T* boundary, const int64_t* image_index,
                              const int32_t* sizes, T* grad_seeds, T* grad_boundary, const WalkShape& shape,
                              double beta, const WalkSeries& series);

// The polynomial as the GPU's host functions take it: coefficients [degree + 1] on the host.
struct WalkPolynomial {
  const double* coefficients;
  int64_t degree;
  bool chebyshev;
};

// Device memory of a walk on the GPU.
struct WalkScratch {
  float* weights;            // [B, P, H, W]
  float *degree, *inverse;   // [B, H, W]
  float *current, *previous;  // [M, H, W]
  int64_t* table;            // [walk_table_size(M, B)]
};

// Length of the table of the channels of each image.
HOST_DEVICE int64_t walk_table_size(int64_t M, int64_t B) { return M + 2 * (B + 1) + 3 * (M + B); }

// As random_walk_cpu, or random_walk_transposed_cpu. All arrays but the coefficients lie on the device. `blocks`: 0
// takes a launch for each term, 1, 2, 4, 8 or 16 one launch with clusters of so many blocks (refused where an image
// does not fit), -1 clusters where they are possible. The result is the same to the last bit.
int random_walk_cuda(const float* seeds, const float* boundary, const int64_t* image_index, const int32_t* sizes,
                     float* walked, const WalkShape& shape, double beta, const WalkPolynomial& polynomial,
                     bool transposed, int blocks, const WalkScratch& scratch, void* stream);

// Device memory of the gradient of the boundary, besides a WalkScratch.
struct WalkGradientScratch {
  float* terms;         // [walk_gradient_terms(degree), M, H, W]
  float* grad_weights;  // [B, P, H, W]
  float* grad_degree;   // [B, H, W]
};

// Every S-th term is kept, S = sqrt(degree), so that about 4 S planes a channel suffice.
inline int64_t walk_segment(int64_t degree) {
  return degree < 1 ? 1 : static_cast<int64_t>(std::sqrt(static_cast<double>(degree)));
}

inline int64_t walk_gradient_terms(int64_t degree) {
  const int64_t length = walk_segment(degree), segments = (degree + length - 1) / length;
  return 2 * (segments < 1 ? 1 : segments) + 2 * (length + 2) + 1;
}

// As random_walk_backward_cpu.
int random_walk_backward_cuda(const float* grad, const float* seeds, const float* boundary,
                              const int64_t* image_index, const int32_t* sizes, float* grad_seeds,
                              float* grad_boundary, const WalkShape& shape, double beta,
                              const WalkPolynomial& polynomial, const WalkScratch& scratch,
                              const WalkGradientScratch& gradient, void* stream);

// The factors of one term, see next_term.
template <class T>
struct TermFactors {
  T scale, kept, previous_scale;
};

// scale W current - previous_scale previous at one pixel, from `total`, the weighted sum over its neighbours alone.
// With (W - 1) current as total minus degree times current, nothing is rounded where nothing flows, so hundreds of
// terms do not drift. kept = scale - previous_scale; degree without, inverse with the pixel itself.
template <class T>
HOST_DEVICE T next_term(T total, T degree, T inverse, T current, T previous, const TermFactors<T>& f) {
  const T drift = inverse * (total - degree * current);
  return f.kept * current + (f.previous_scale * (current - previous) + f.scale * drift);
}

constexpr double kIntegerPowerLimit = 64;

// a^beta for a >= 0. Whole beta up to 64 by repeated squaring, the same products on CPU and GPU.
template <class T>
HOST_DEVICE T power(T a, double beta) {
  const int whole = beta >= 0 && beta <= kIntegerPowerLimit ? static_cast<int>(beta) : -1;
  if (whole != beta) return static_cast<T>(pow(a, static_cast<T>(beta)));
  T result = T(1), square = a;
  for (int rest = whole; rest > 0; rest >>= 1) {
    if (rest & 1) result *= square;
    square *= square;
  }
  return result;
}

// Edge weight from the affinity 1 - (path maximum). Rounding may leave the affinity below 0: that is no edge.
template <class T>
HOST_DEVICE T edge_weight(T affinity, double beta) {
  return power(affinity < T(0) ? T(0) : affinity, beta);
}

// Derivative of edge_weight; 0 where the affinity is not positive, unless the weight is the affinity itself.
template <class T>
HOST_DEVICE T edge_weight_derivative(T affinity, double beta) {
  if (beta == 0 || affinity < T(0)) return T(0);
  if (affinity == T(0)) return beta == 1 ? T(1) : T(0);
  return static_cast<T>(beta) * power(affinity, beta - 1);
}

// lambda^n = sum_k c_k T_k(lambda) with c_k = 2^(1-n) binom(n, (n-k)/2) for k = n, n-2, .., halved at k = 0
// (Sachdeva and Vishnoi, Faster algorithms via approximation theory, 2013, section 3). The c_k are positive and sum
// to 1, so the series cut after degree K is off by at most the sum of the rest for every |lambda| <= 1. Scaled to sum
// to 1 again, so that a constant stays what it is, it is off by at most twice the rest; K is the smallest degree for
// which that is at most tol. Ratios of successive coefficients avoid every overflow.
inline WalkSeries chebyshev_series(int64_t num_steps, double tol) {
  const double n = static_cast<double>(num_steps);
  std::vector<double> terms;  // c_k for k = n mod 2, and every second one after, up to a common factor
  double sum = 0, term = num_steps % 2 == 0 ? 0.5 : 1.0;
  for (int64_t k = num_steps % 2; k <= num_steps && term > 1e-20; k += 2) {
    terms.push_back(term);
    sum += term;
    const double unhalved = k == 0 ? 2 * term : term;
    term = unhalved * (n - static_cast<double>(k)) / (n + static_cast<double>(k) + 2);
  }
  double rest = 0;
  while (terms.size() > 1 && 2 * (rest + terms.back()) <= tol * sum) {
    rest += terms.back();
    terms.pop_back();
  }
  std::vector<double> coefficients(num_steps % 2 + 2 * terms.size() - 1, 0.0);
  for (size_t i = 0; i < terms.size(); ++i) coefficients[num_steps % 2 + 2 * i] = terms[i] / (sum - rest);
  return {coefficients, true};
}

inline WalkSeries exact_series(int64_t num_steps) {
  std::vector<double> coefficients(num_steps + 1, 0.0);
  coefficients.back() = 1.0;
  return {coefficients, false};
}

}  // namespace wsis
