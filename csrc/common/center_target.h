// center_target: host functions and the bodies that CPU and GPU share.
#pragma once

#include "common/sorted.h"

namespace wsis {

// ids [B, H, W]; M instances sorted by key (image * 2^32 + id): key, label [M] int64, score [M], center_yx [M, 2] whole
// pixels; bell [2 reach^2 + 1]: height of the Gaussian by squared distance.
// -> center [B, C, H, W] (zeros on entry), offset [B, 2, H, W], weight [B, 1, H, W].
struct CenterTargetShape {
  int64_t B, C, H, W, M, reach;
};
void center_target_cpu(const int32_t* ids, const int64_t* key, const int64_t* label, const float* score,
                       const int64_t* center_yx, const float* bell, float* center, float* offset, float* weight,
                       const CenterTargetShape& shape);
int center_target_cuda(const int32_t* ids, const int64_t* key, const int64_t* label, const float* score,
                       const int64_t* center_yx, const float* bell, float* center, float* offset, float* weight,
                       const CenterTargetShape& shape, void* stream);

// The row of instance `id` of image b, M if it has none.
HOST_DEVICE int64_t row_of(int64_t b, int32_t id, const int64_t* key, int64_t M) {
  if (id <= 0) return M;
  const int64_t wanted = image_key(b, id), m = lower_bound(key, M, wanted);
  return m < M && key[m] == wanted ? m : M;
}

// Offset and weight of one pixel: those of its instance, 0 without one.
HOST_DEVICE void pixel_target(int64_t b, int64_t y, int64_t x, const int32_t* ids, const int64_t* key,
                              const float* score, const int64_t* center_yx, float* offset, float* weight,
                              const CenterTargetShape& shape) {
  const int64_t plane = shape.H * shape.W, pixel = y * shape.W + x;
  const int64_t m = row_of(b, ids[b * plane + pixel], key, shape.M);
  const bool found = m < shape.M;
  offset[2 * b * plane + pixel] = found ? static_cast<float>(center_yx[2 * m] - y) : 0.f;
  offset[(2 * b + 1) * plane + pixel] = found ? static_cast<float>(center_yx[2 * m + 1] - x) : 0.f;
  weight[b * plane + pixel] = found ? score[m] : 0.f;
}

// The part of a centre's window that lies inside the image: rows top .. bottom, columns left .. right, both included;
// empty when the centre is too far outside.
struct Window {
  int64_t top, bottom, left, right;
};
HOST_DEVICE Window window_of(int64_t cy, int64_t cx, const CenterTargetShape& shape) {
  const int64_t r = shape.reach;
  return {cy > r ? cy - r : 0, cy + r < shape.H ? cy + r : shape.H - 1, cx > r ? cx - r : 0,
          cx + r < shape.W ? cx + r : shape.W - 1};
}

}  // namespace wsis
