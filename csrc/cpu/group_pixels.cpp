#include "common/group_pixels.h"

#include <algorithm>

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kChunk = 256;  // pixels of a run that vote together, their state in the first-level cache

// The pixels x0 .. x0 + count of row y, all of one component, against one centre: nearer ones take its number.
template <class T>
inline __attribute__((always_inline)) void vote_body(const T* RESTRICT offset_y, const T* RESTRICT offset_x, T y, T x0,
                                                     int64_t count, T cy, T cx, int32_t id, T* RESTRICT nearest,
                                                     int32_t* RESTRICT ids) {
  for (int64_t i = 0; i < count; ++i) {
    const T distance = squared_distance(y + offset_y[i], x0 + static_cast<T>(static_cast<int32_t>(i)) + offset_x[i],
                                        cy, cx);
    const bool nearer = distance < nearest[i];
    nearest[i] = nearer ? distance : nearest[i];
    ids[i] = nearer ? id : ids[i];
  }
}
CPU_CLONES void vote(const float* offset_y, const float* offset_x, float y, float x0, int64_t count, float cy, float cx,
                     int32_t id, float* nearest, int32_t* ids) {
  vote_body(offset_y, offset_x, y, x0, count, cy, cx, id, nearest, ids);
}
CPU_CLONES void vote(const double* offset_y, const double* offset_x, double y, double x0, int64_t count, double cy,
                     double cx, int32_t id, double* nearest, int32_t* ids) {
  vote_body(offset_y, offset_x, y, x0, count, cy, cx, id, nearest, ids);
}

// One row of one image: runs of equal component look their centres up once.
template <class T>
void group_row(const T* offset_y, const T* offset_x, const int32_t* foreground, const T* center_yx,
               const int64_t* component, const int32_t* id, int32_t* ids, int64_t image, int64_t y, int64_t W,
               int64_t N) {
  T nearest[kChunk];
  for (int64_t x = 0; x < W;) {
    int64_t end = x + 1;
    while (end < W && end < x + kChunk && foreground[end] == foreground[x]) ++end;
    std::fill(ids + x, ids + end, 0);
    if (foreground[x] != 0) {
      const int64_t key = image_key(image, foreground[x]);
      const int64_t first = lower_bound(component, N, key);
      for (int64_t n = first; n < N && component[n] == key; ++n) {
        const T cy = center_yx[2 * n], cx = center_yx[2 * n + 1];
        if (n == first) {  // the first centre takes all, whatever its distance
          for (int64_t i = x; i < end; ++i) {
            nearest[i - x] = squared_distance(static_cast<T>(y) + offset_y[i], static_cast<T>(i) + offset_x[i], cy, cx);
            ids[i] = id[n];
          }
          continue;
        }
        vote(offset_y + x, offset_x + x, static_cast<T>(y), static_cast<T>(x), end - x, cy, cx, id[n], nearest, ids + x);
      }
    }
    x = end;
  }
}

}  // namespace

template <class T>
void group_pixels_cpu(const T* offsets, const int32_t* foreground, const T* center_yx, const int64_t* component,
                      const int32_t* id, int32_t* ids, int64_t B, int64_t H, int64_t W, int64_t N) {
  parallel_for_uneven(0, B * H, std::max<int64_t>(1, 8192 / W), [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t row = begin; row < end; ++row) {
        const int64_t b = row / H, y = row % H;
        const T* offset_y = offsets + (b * 2 * H + y) * W;
        group_row(offset_y, offset_y + H * W, foreground + row * W, center_yx, component, id, ids + row * W, b, y, W,
                  N);
      }
  });
}

template void group_pixels_cpu(const float*, const int32_t*, const float*, const int64_t*, const int32_t*, int32_t*,
                               int64_t, int64_t, int64_t, int64_t);
template void group_pixels_cpu(const double*, const int32_t*, const double*, const int64_t*, const int32_t*, int32_t*,
                               int64_t, int64_t, int64_t, int64_t);

}  // namespace wsis
