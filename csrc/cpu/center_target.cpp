#include "common/center_target.h"

#include <algorithm>

#include "common/parallel.h"

namespace wsis {
namespace {

// Raises the heatmap of instance m to its Gaussian, inside its window.
void splat(int64_t m, const int64_t* label, const int64_t* center_yx, const float* bell, float* center,
           const CenterTargetShape& shape) {
  if (label[m] < 0 || label[m] >= shape.C) return;
  const int64_t cy = center_yx[2 * m], cx = center_yx[2 * m + 1];
  const Window window = window_of(cy, cx, shape);
  float* heat = center + label[m] * shape.H * shape.W;
  for (int64_t y = window.top; y <= window.bottom; ++y)
    for (int64_t x = window.left; x <= window.right; ++x) {
      float& value = heat[y * shape.W + x];
      value = std::max(value, bell[(y - cy) * (y - cy) + (x - cx) * (x - cx)]);
    }
}

}  // namespace

void center_target_cpu(const int32_t* ids, const int64_t* key, const int64_t* label, const float* score,
                       const int64_t* center_yx, const float* bell, float* center, float* offset, float* weight,
                       const CenterTargetShape& shape) {
  parallel_for(0, shape.B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t volume = shape.C * shape.H * shape.W;
      std::fill(center + b * volume, center + (b + 1) * volume, 0.0f);
      const int64_t last = lower_bound(key, shape.M, image_key(b + 1, 0));
      for (int64_t m = lower_bound(key, shape.M, image_key(b, 0)); m < last; ++m)
        splat(m, label, center_yx, bell, center + b * volume, shape);
      for (int64_t y = 0; y < shape.H; ++y)
        for (int64_t x = 0; x < shape.W; ++x)
          pixel_target(b, y, x, ids, key, score, center_yx, offset, weight, shape);
    }
  });
}

}  // namespace wsis
