// weighted_error: host functions and the bodies that CPU and GPU share.
#pragma once

#include "common/macros.h"

namespace wsis {

constexpr int kErrorTargets = 2;   // targets that one call takes
constexpr int kErrorBlocks = 512;  // CUDA: rows of the table of partial sums, at most

// prediction [B, K, plane]; target t [B, K, plane] with weight t [B, plane], null where there is no second one. Pixels
// of weight 0 are not looked at.
template <class T>
struct ErrorProblem {
  const T* prediction;
  const T* target[kErrorTargets];
  const T* weight[kErrorTargets];
  int64_t B, K, plane;
  bool squared;
};

// -> sums [2]: weight times |prediction - target| (or its square), summed over the channels and everything;
// counts [2]: pixels with a weight above 0. CUDA: partial [kErrorBlocks, 2 kErrorTargets].
template <class T>
void weighted_error_cpu(const ErrorProblem<T>& problem, double* sums, int64_t* counts);
int weighted_error_cuda(const ErrorProblem<float>& problem, double* partial, double* sums, int64_t* counts,
                        void* stream);

// factor [2]: gradient of the sums -> gradient [B, K, plane] of the prediction (CPU: zeros on entry).
template <class T>
void weighted_error_backward_cpu(const ErrorProblem<T>& problem, const double* factor, T* gradient);
int weighted_error_backward_cuda(const ErrorProblem<float>& problem, const double* factor, float* gradient,
                                 void* stream);

template <class T>
HOST_DEVICE T error_of(T difference, bool squared) {
  return squared ? difference * difference : (difference < 0 ? -difference : difference);
}

// Of |d| at 0 it is 0.
template <class T>
HOST_DEVICE T slope_of(T difference, bool squared) {
  return squared ? T(2) * difference : static_cast<T>((difference > 0) - (difference < 0));
}

}  // namespace wsis
