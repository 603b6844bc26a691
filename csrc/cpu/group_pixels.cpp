#include "common/group_pixels.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "cpu/changes.h"

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

// The same pixels and the first centre, which takes all of them, whatever its distance.
template <class T>
inline __attribute__((always_inline)) void begin_body(const T* RESTRICT offset_y, const T* RESTRICT offset_x, T y,
                                                      T x0, int64_t count, T cy, T cx, T* RESTRICT nearest) {
  for (int64_t i = 0; i < count; ++i)
    nearest[i] = squared_distance(y + offset_y[i], x0 + static_cast<T>(static_cast<int32_t>(i)) + offset_x[i], cy, cx);
}
CPU_CLONES void begin_vote(const float* offset_y, const float* offset_x, float y, float x0, int64_t count, float cy,
                           float cx, float* nearest) {
  begin_body(offset_y, offset_x, y, x0, count, cy, cx, nearest);
}
CPU_CLONES void begin_vote(const double* offset_y, const double* offset_x, double y, double x0, int64_t count,
                           double cy, double cx, double* nearest) {
  begin_body(offset_y, offset_x, y, x0, count, cy, cx, nearest);
}

// The centres of the image being grouped: [begin, end) of the tables.
template <class T>
struct Centers {
  const T* yx;
  const int64_t* component;
  const int32_t* id;
  int64_t begin, end;
};

// Pixels begin .. end - 1 of row y, all of component `key`.
template <class T>
void group_run(const T* offset_y, const T* offset_x, const Centers<T>& centers, int64_t key, int32_t* ids, T y,
               int64_t begin, int64_t end) {
  const int64_t first = centers.begin + lower_bound(centers.component + centers.begin, centers.end - centers.begin, key);
  const auto matches = [&](int64_t n) { return n < centers.end && centers.component[n] == key; };
  std::fill(ids + begin, ids + end, matches(first) ? centers.id[first] : 0);
  if (!matches(first) || !matches(first + 1)) return;
  T nearest[kChunk];
  for (int64_t x = begin; x < end; x += kChunk) {
    const int64_t count = std::min(kChunk, end - x);
    begin_vote(offset_y + x, offset_x + x, y, static_cast<T>(x), count, centers.yx[2 * first],
               centers.yx[2 * first + 1], nearest);
    for (int64_t n = first + 1; matches(n); ++n)
      vote(offset_y + x, offset_x + x, y, static_cast<T>(x), count, centers.yx[2 * n], centers.yx[2 * n + 1],
           centers.id[n], nearest, ids + x);
  }
}

}  // namespace

template <class T>
void group_pixels_cpu(const T* offsets, const int32_t* foreground, const T* center_yx, const int64_t* component,
                      const int32_t* id, int32_t* ids, int64_t B, int64_t H, int64_t W, int64_t N) {
  parallel_for_uneven(0, B * H, std::max<int64_t>(1, 8192 / W), [&](Pieces& pieces) {
    std::vector<uint8_t> flags(W + kFlagPadding);
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t row = begin; row < end; ++row) {
        const int64_t b = row / H, y = row % H;
        const Centers<T> centers{center_yx, component, id, lower_bound(component, N, image_key(b, 0)),
                                 lower_bound(component, N, image_key(b + 1, 0))};
        const T *offset_y = offsets + (b * 2 * H + y) * W, *offset_x = offset_y + H * W;
        const int32_t* components = foreground + row * W;
        for_each_run(reinterpret_cast<const uint32_t*>(components), W, flags.data(), [&](int64_t first, int64_t last) {
          if (components[first] == 0)
            std::fill(ids + row * W + first, ids + row * W + last, 0);
          else
            group_run(offset_y, offset_x, centers, image_key(b, components[first]), ids + row * W, static_cast<T>(y),
                      first, last);
        });
      }
  });
}

template void group_pixels_cpu(const float*, const int32_t*, const float*, const int64_t*, const int32_t*, int32_t*,
                               int64_t, int64_t, int64_t, int64_t);
template void group_pixels_cpu(const double*, const int32_t*, const double*, const int64_t*, const int32_t*, int32_t*,
                               int64_t, int64_t, int64_t, int64_t);

}  // namespace wsis
