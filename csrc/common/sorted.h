// Lookups in sorted tables of (image, id) keys.
#pragma once

#include "common/macros.h"

namespace wsis {

// Sorts by image, then id; ids are not negative.
HOST_DEVICE int64_t image_key(int64_t image, int32_t id) { return (image << 32) + id; }

// First of the N sorted values that is not below `key`.
HOST_DEVICE int64_t lower_bound(const int64_t* values, int64_t N, int64_t key) {
  int64_t low = 0, high = N;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (values[middle] < key)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

}  // namespace wsis
