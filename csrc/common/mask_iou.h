// mask_iou: host functions and the words that CPU and GPU share.
#pragma once

#include "common/macros.h"

namespace wsis {

// Two sets of masks, [N, plane] and [M, plane] bytes, not 0 = inside. image_a [N] and image_b [M] say which image a
// mask belongs to (both null: all of one); masks of two images share nothing.
struct MaskSets {
  const uint8_t *a, *b;
  const int64_t *image_a, *image_b;
  int64_t N, M, plane;

  HOST_DEVICE bool same_image(int64_t n, int64_t m) const { return !image_a || image_a[n] == image_b[m]; }
};

constexpr int64_t kMaskWord = 64;  // pixels of a packed word

HOST_DEVICE int64_t mask_words(int64_t plane) { return (plane + kMaskWord - 1) / kMaskWord; }

// -> common [N, M], the pixels inside both; area_a [N]; area_b [M].
void mask_iou_cpu(const MaskSets& sets, int64_t* common, int64_t* area_a, int64_t* area_b);

// packed: [N + M, 2 mask_words(plane)] device memory.
int mask_iou_cuda(const MaskSets& sets, uint32_t* packed, int64_t* common, int64_t* area_a, int64_t* area_b,
                  void* stream);

}  // namespace wsis
