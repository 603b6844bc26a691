// group_pixels: host functions and the vote that CPU and GPU share.
#pragma once

#include "common/sorted.h"

namespace wsis {

// offsets [B, 2, H, W] (y, x), foreground [B, H, W] component ids (0 = none), and N centres sorted by `component`
// (image * 2^32 + component id), equal ones in the order of preference: center_yx [N, 2], component [N], id [N].
// -> ids [B, H, W]: the id of the nearest centre of the pixel's component, 0 where there is none.
template <class T>
void group_pixels_cpu(const T* offsets, const int32_t* foreground, const T* center_yx, const int64_t* component,
                      const int32_t* id, int32_t* ids, int64_t B, int64_t H, int64_t W, int64_t N);
int group_pixels_cuda(const float* offsets, const int32_t* foreground, const float* center_yx,
                      const int64_t* component, const int32_t* id, int32_t* ids, int64_t B, int64_t H, int64_t W,
                      int64_t N, void* stream);

template <class T>
HOST_DEVICE T squared_distance(T y, T x, T cy, T cx) {
  return (y - cy) * (y - cy) + (x - cx) * (x - cx);
}

}  // namespace wsis
