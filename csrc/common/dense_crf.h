// dense_crf: host functions, and the arithmetic of the mean field that CPU and GPU share.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/exp_clamped.h"
#include "common/macros.h"
#include "common/permutohedral.h"

namespace wsis {

constexpr int kMaxLabels = 255;
constexpr int64_t kMaxCrfPixels = int64_t{1} << 28;  // six vertices each must have 32-bit numbers

struct CrfOptions {
  float gt_prob;
  int steps;
  float spatial_sxy, spatial_weight;
  float bilateral_sxy, bilateral_srgb, bilateral_weight;
};

// The arguments of one call. Tables (num_labels, image_index, sizes) lie in host memory, for CUDA too.
struct CrfData {
  const uint8_t* images;       // [B, 3, H, W]
  const uint8_t* labels;       // [S, H, W]
  const int32_t* num_labels;   // [S] 1..255
  const int32_t* image_index;  // [S] 0..B-1
  const int32_t* sizes;        // [B, 2] height, width; or null
  uint8_t* refined;            // [S, H, W], 0 outside an image's size; or null
  float* marginals;            // [S, max_labels, H, W], 0 outside and for labels a set does not have; or null
  int64_t B, S, H, W;
  int max_labels;

  int height(int64_t b) const { return sizes ? sizes[2 * b] : static_cast<int>(H); }
  int width(int64_t b) const { return sizes ? sizes[2 * b + 1] : static_cast<int>(W); }
};

void dense_crf_cpu(const CrfData& data, const CrfOptions& options);

// `workspace` of dense_crf_workspace(data) bytes on the device.
int64_t dense_crf_workspace(const CrfData& data);
int dense_crf_cuda(const CrfData& data, const CrfOptions& options, void* workspace, void* stream);

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

// exp(x) for x <= 0; values below exp(-87) come out as exp(-87).
HOST_DEVICE float crf_exp(float x) { return exp_polynomial(x > -87.0f ? x : -87.0f); }

// m = 1 / sqrt(G(1) + 1e-20)
HOST_DEVICE float crf_norm(float filtered_one) { return 1.0f / sqrtf(filtered_one + 1e-20f); }

// Minus the unary energy of the label that the map gives, and of the others.
struct CrfUnary {
  float on, off;
};

inline CrfUnary crf_unary(float gt_prob, int num_labels) {
  return {std::log(gt_prob), std::log((1.0f - gt_prob) / static_cast<float>(num_labels - 1))};
}

// One label map of an image, and where its channels lie in the common rows.
struct CrfSet {
  const uint8_t* labels;  // [H, W]
  uint8_t* refined;       // [H, W] or null
  float* marginals;       // [max_labels, H, W] or null
  int num_labels, channel;
  CrfUnary unary;
};

// Label maps of one image that share every filter pass: rows of `width` floats, 4 or a multiple of 8.
struct CrfGroup {
  std::vector<CrfSet> sets;
  int width = 0;
};

constexpr int kMaxCrfWidth = 64;               // unless one label map alone has more
constexpr int kMaxCrfSets = kMaxCrfWidth / 2;  // in a group: each has two labels at least

// The label maps of every image that have something to refine, in groups.
inline std::vector<std::vector<CrfGroup>> group_sets(const CrfData& data, float gt_prob) {
  std::vector<std::vector<CrfGroup>> images(static_cast<size_t>(data.B));
  std::vector<int> channels(images.size(), 0);
  const int64_t plane = data.H * data.W;
  for (int64_t s = 0; s < data.S; ++s) {
    const int64_t b = data.image_index[s];
    const int n = data.num_labels[s];
    if (n < 2 || data.height(b) == 0 || data.width(b) == 0) continue;
    auto& groups = images[static_cast<size_t>(b)];
    int& used = channels[static_cast<size_t>(b)];
    if (groups.empty() || used + n > kMaxCrfWidth) {
      groups.emplace_back();
      used = 0;
    }
    groups.back().sets.push_back({data.labels + s * plane, data.refined ? data.refined + s * plane : nullptr,
                                  data.marginals ? data.marginals + s * data.max_labels * plane : nullptr, n, used,
                                  crf_unary(gt_prob, n)});
    used += n;
    groups.back().width = used <= 4 ? 4 : (used + 7) / 8 * 8;
  }
  return images;
}

}  // namespace wsis
