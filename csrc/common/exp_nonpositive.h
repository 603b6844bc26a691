// exp of numbers that are not positive, as a softmax needs it.
#pragma once

#include <cmath>
#include <cstring>

#include "common/macros.h"

namespace wsis {

// exp(x) for x <= 0, relative error below 2e-7 (Cephes' polynomial); values below exp(-87) come out as exp(-87), NaN as
// NaN. No library call, so that loops vectorise and CPU and GPU give the same bits.
HOST_DEVICE float exp_nonpositive(float x) {
  const float clamped = x > -87.0f ? x : -87.0f;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (clamped * 1.44269504f + shift) - shift;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
#if defined(__CUDA_ARCH__)
  power = __int_as_float(bits);
#else
  std::memcpy(&power, &bits, sizeof(power));
#endif
  const float value = p * power;
  return x == x ? value : x;
}
HOST_DEVICE double exp_nonpositive(double x) { return exp(x); }

}  // namespace wsis
