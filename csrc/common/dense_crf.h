// dense_crf: host functions, and the arithmetic of the mean field that CPU and GPU share.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/macros.h"
#include "common/permutohedral.h"

namespace wsis {

constexpr int kMaxLabels = 255;

struct CrfOptions {
  float gt_prob;
  int steps;
  float spatial_sxy, spatial_weight;
  float bilateral_sxy, bilateral_srgb, bilateral_weight;
};

// images [B, 3, H, W] uint8, labels [S, H, W] uint8, num_labels [S] (1..255), image_index [S] (0..B-1), sizes [B, 2]
// (height, width) or null -> refined [S, H, W] uint8 (0 outside an image's size), or, where `marginals` is not null,
// marginals [S, L, H, W] with L = max_labels planes (0 for labels a set does not have) and no refined map.
void dense_crf_cpu(const uint8_t* images, const uint8_t* labels, const int32_t* num_labels,
                   const int32_t* image_index, const int32_t* sizes, uint8_t* refined, float* marginals, int64_t B,
                   int64_t S, int64_t H, int64_t W, int max_labels, const CrfOptions& options);

// Scaling of the features before the lattice: x / sxy, y / sxy, and r, g, b / srgb.
template <int D>
struct CrfFeatures {
  LatticeScale<D> scale;
  float sxy, srgb;
};

template <int D>
inline CrfFeatures<D> crf_features(float sxy, float srgb) {
  return {lattice_scale<D>(), sxy, srgb};
}

// rgb: the three bytes of the pixel; not read for D = 2.
template <int D>
HOST_DEVICE void crf_locate(const CrfFeatures<D>& features, int y, int x, const uint8_t* rgb, Simplex<D>& simplex) {
  float f[D];
  f[0] = static_cast<float>(x) / features.sxy;
  f[1] = static_cast<float>(y) / features.sxy;
  for (int i = 2; i < D; ++i) f[i] = static_cast<float>(rgb[i - 2]) / features.srgb;
  locate<D>(f, features.scale, simplex);
}

// exp(x) for x <= 0, relative error below 2e-7; values below exp(-87) come out as exp(-87). No library call, so that
// loops vectorise and CPU and GPU give the same bits.
HOST_DEVICE float crf_exp(float x) {
  x = x > -87.0f ? x : -87.0f;
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

// m = 1 / sqrt(G(1) + 1e-20)
HOST_DEVICE float crf_norm(float filtered_one) { return 1.0f / sqrtf(filtered_one + 1e-20f); }

// Minus the unary energy of the label that the map gives, and of the others.
struct CrfUnary {
  float on, off;
};

inline CrfUnary crf_unary(float gt_prob, int num_labels) {
  return {std::log(gt_prob), std::log((1.0f - gt_prob) / static_cast<float>(num_labels - 1))};
}

}  // namespace wsis
