// exp without a library call, as a softmax needs it.
#pragma once

#include <cmath>
#include <cstring>

#include "common/macros.h"

namespace wsis {

// Beyond this a logit is lost against another one: exp of more would not leave room for the sum of 255 of them.
constexpr float kMaxExponent = 80.0f;

// exp(x) for |x| <= 87, relative error below 2e-7 (Cephes' polynomial). No library call, so that loops vectorise and CPU
// and GPU give the same bits.
HOST_DEVICE float exp_polynomial(float x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (x * 1.44269504f + shift) - shift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
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
  return p * power;
}

// exp of x clamped to -80 .. 80; of NaN it is NaN.
HOST_DEVICE float exp_clamped(float x) {
  const float above = x > -kMaxExponent ? x : -kMaxExponent;
  const float value = exp_polynomial(above < kMaxExponent ? above : kMaxExponent);
  return x == x ? value : x;
}
HOST_DEVICE double exp_clamped(double x) { return exp(x < 600.0 ? x : (x == x ? 600.0 : x)); }

}  // namespace wsis
