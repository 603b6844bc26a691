// peak_mask: host functions and the per-pixel bodies that CPU and GPU share.
#pragma once

#include "common/macros.h"

namespace wsis {

constexpr int kMaxPeakWindow = 101;

// heatmap [B, C, H, W], ids [B, H, W] or nullptr -> mask [B, C, H, W] of 0 and 1. window is odd, at most
// kMaxPeakWindow. scratch: B*C*H*W floats, CUDA without ids only.
template <class T>
void peak_mask_cpu(const T* heatmap, const int32_t* ids, uint8_t* mask, int64_t B, int64_t C, int64_t H, int64_t W,
                   int window, T threshold);
int peak_mask_cuda(const float* heatmap, const int32_t* ids, uint8_t* mask, float* scratch, int64_t B, int64_t C,
                   int64_t H, int64_t W, int window, float threshold, void* stream);

// A NaN is lower than every number: it is no peak and hides none.
template <class T>
HOST_DEVICE T peak_height(T v, T lowest) {
  return v == v ? v : lowest;
}

// heat, ids: [H, W] of one plane. Whether no pixel of the same id in rows and columns within `reach` is higher.
// The ring of neighbours is asked first: it turns away all but a few pixels of a smooth map.
template <class T>
HOST_DEVICE bool highest_of_component(const T* heat, const int32_t* ids, int64_t H, int64_t W, int64_t y, int64_t x,
                                      int64_t reach) {
  const T height = heat[y * W + x];
  const int32_t id = ids[y * W + x];
  for (int pass = reach > 1 ? 0 : 1; pass < 2; ++pass) {
    const int64_t r = pass == 0 ? 1 : reach;
    const int64_t top = y > r ? y - r : 0, bottom = y + r < H ? y + r : H - 1;
    const int64_t left = x > r ? x - r : 0, right = x + r < W ? x + r : W - 1;
    for (int64_t v = top; v <= bottom; ++v)
      for (int64_t u = left; u <= right; ++u)
        if (heat[v * W + u] > height && ids[v * W + u] == id) return false;
  }
  return true;
}

// heat, ids: [H, W] of one plane, with ids: pixels without an id are no peaks.
template <class T>
HOST_DEVICE bool is_confined_peak(const T* heat, const int32_t* ids, int64_t H, int64_t W, int64_t y, int64_t x,
                                  int64_t reach, T threshold) {
  const int64_t i = y * W + x;
  return ids[i] != 0 && heat[i] > threshold && highest_of_component(heat, ids, H, W, y, x, reach);
}

}  // namespace wsis
