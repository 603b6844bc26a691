// Padded planes: rows with margins of zeros, so that hot loops need neither bounds tests nor remainders.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"

namespace wsis {

constexpr int64_t kRowMultiple = 16;  // rows are padded to a multiple of this, 64 bytes of floats; >= kMaxRadius - 1
constexpr int64_t kHalo = 4;          // rows above and below, for the walk of radius 5

// How the planes of one image lie in memory: value (y, x) at at(y) + x; rows of `columns` values, w of which count. Left
// of every row, and so right of the row before, lies a margin. Rows are an odd number of cache lines apart: at powers of
// two the 68 rows that a step of the walk reads side by side would share few sets of the cache.
struct Plane {
  int64_t h, w, columns, margin, pitch;

  Plane(int64_t h_, int64_t w_)
      : h(h_),
        w(w_),
        columns((w_ + kRowMultiple - 1) / kRowMultiple * kRowMultiple),
        margin(columns / kRowMultiple % 2 == 0 ? kRowMultiple : 2 * kRowMultiple),
        pitch(margin + columns) {}
  int64_t size() const { return (h + 2 * kHalo) * pitch + margin; }
  int64_t at(int64_t y) const { return (y + kHalo) * pitch + margin; }
};

// A zero-padded copy of one plane whose rows lie `stride` apart.
template <class T>
Buffer<T> padded_copy(const T* values, int64_t stride, const Plane& plane) {
  Buffer<T> copy(plane.size(), T(0));
  for (int64_t y = 0; y < plane.h; ++y) std::copy_n(values + y * stride, plane.w, copy.data() + plane.at(y));
  return copy;
}

}  // namespace wsis
