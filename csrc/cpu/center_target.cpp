#include "common/center_target.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "common/parallel.h"
#include "cpu/changes.h"
#include "cpu/pages.h"

namespace wsis {
namespace {

// Bytes that windows cover of a huge page (a fifth of it): from here on it is cheaper than the small pages in it.
constexpr int64_t kDense = 96 * kPage;
constexpr int64_t kWidestRow = kPage / sizeof(float);  // up to here every page of a window's rows is written

// heat[i] = max(heat[i], bell[i])
CPU_CLONES void raise(float* RESTRICT heat, const float* RESTRICT bell, int64_t count) {
  for (int64_t i = 0; i < count; ++i) heat[i] = heat[i] > bell[i] ? heat[i] : bell[i];
}

// The way to column `to` from the `count` columns that begin `from`.
CPU_CLONES void ramp(float* RESTRICT offset, int32_t way, int64_t count) {
  for (int32_t i = 0; i < static_cast<int32_t>(count); ++i) offset[i] = static_cast<float>(way - i);
}

// The Gaussian by distance in rows, each [2 reach + 1] columns wide: the lower half of the window.
std::vector<float> rows_of_bell(const float* bell, int64_t reach) {
  const int64_t width = 2 * reach + 1;
  std::vector<float> rows((reach + 1) * width);
  for (int64_t dy = 0; dy <= reach; ++dy)
    for (int64_t dx = -reach; dx <= reach; ++dx) rows[dy * width + dx + reach] = bell[dy * dy + dx * dx];
  return rows;
}

// Raises the heatmap of instance m to its Gaussian, inside its window.
void splat(int64_t m, const int64_t* label, const int64_t* center_yx, const std::vector<float>& bell, float* center,
           const CenterTargetShape& shape) {
  if (label[m] < 0 || label[m] >= shape.C) return;
  const int64_t cy = center_yx[2 * m], cx = center_yx[2 * m + 1];
  const Window window = window_of(cy, cx, shape);
  const int64_t count = window.right - window.left + 1;
  if (count <= 0) return;
  float* heat = center + label[m] * shape.H * shape.W;
  if (shape.W <= kWidestRow)
    bring_pages(heat + window.top * shape.W + window.left, heat + window.bottom * shape.W + window.right + 1);
  for (int64_t y = window.top; y <= window.bottom; ++y)
    raise(heat + y * shape.W + window.left,
          bell.data() + std::abs(y - cy) * (2 * shape.reach + 1) + window.left - cx + shape.reach, count);
}

// Asks for huge pages under those parts of the heatmaps that windows cover densely.
void ask_for_huge_pages(const int64_t* key, const int64_t* label, const int64_t* center_yx, float* center,
                       const CenterTargetShape& shape) {
  const int64_t plane = shape.H * shape.W, bytes = shape.B * shape.C * plane * sizeof(float);
  if (reinterpret_cast<intptr_t>(center) % kHugePage != 0) return;
  std::vector<int64_t> covered(bytes / kHugePage);  // the last one only if all of it is the map's
  for (int64_t m = 0; m < shape.M; ++m) {
    if (label[m] < 0 || label[m] >= shape.C) continue;
    const Window window = window_of(center_yx[2 * m], center_yx[2 * m + 1], shape);
    const int64_t count = window.right - window.left + 1;
    if (count <= 0) continue;
    const int64_t row_bytes = shape.W <= kWidestRow ? shape.W * sizeof(float) : count * sizeof(float) + kPage;
    for (int64_t y = window.top; y <= window.bottom; ++y) {
      const int64_t cell = ((key[m] >> 32) * shape.C + label[m]) * plane + y * shape.W + window.left;
      const size_t page = cell * sizeof(float) / kHugePage;
      if (page < covered.size()) covered[page] += row_bytes;
    }
  }
  for (size_t i = 0; i < covered.size(); ++i)
    if (covered[i] >= kDense) prefer_huge_pages(reinterpret_cast<char*>(center) + i * kHugePage, kHugePage);
}

// Offsets and weights of one row, stretch by stretch of equal ids.
void row_target(int64_t b, int64_t y, const int32_t* ids, const int64_t* key, const float* score,
                const int64_t* center_yx, float* offset_y, float* offset_x, float* weight,
                const CenterTargetShape& shape, uint8_t* flags) {
  for_each_run(reinterpret_cast<const uint32_t*>(ids), shape.W, flags, [&](int64_t begin, int64_t end) {
    const int64_t m = row_of(b, ids[begin], key, shape.M);
    if (m == shape.M) {
      for (float* row : {offset_y, offset_x, weight}) std::fill(row + begin, row + end, 0.f);
      return;
    }
    std::fill(offset_y + begin, offset_y + end, static_cast<float>(center_yx[2 * m] - y));
    ramp(offset_x + begin, static_cast<int32_t>(center_yx[2 * m + 1] - begin), end - begin);
    std::fill(weight + begin, weight + end, score[m]);
  });
}

}  // namespace

void center_target_cpu(const int32_t* ids, const int64_t* key, const int64_t* label, const float* score,
                       const int64_t* center_yx, const float* bell, float* center, float* offset, float* weight,
                       const CenterTargetShape& shape) {
  const std::vector<float> rows = rows_of_bell(bell, shape.reach);
  ask_for_huge_pages(key, label, center_yx, center, shape);
  parallel_for_uneven(0, shape.B, 1, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);) {
      const int64_t last = lower_bound(key, shape.M, image_key(end, 0));
      for (int64_t m = lower_bound(key, shape.M, image_key(begin, 0)); m < last; ++m)
        splat(m, label, center_yx, rows, center + (key[m] >> 32) * shape.C * shape.H * shape.W, shape);
    }
  });
  parallel_for_uneven(0, shape.B * shape.H, std::max<int64_t>(1, 16384 / shape.W), [&](Pieces& pieces) {
    std::vector<uint8_t> flags(shape.W + kFlagPadding);
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t row = begin; row < end; ++row) {
        const int64_t b = row / shape.H, y = row % shape.H;
        float* offset_y = offset + (2 * b * shape.H + y) * shape.W;
        row_target(b, y, ids + row * shape.W, key, score, center_yx, offset_y, offset_y + shape.H * shape.W,
                   weight + row * shape.W, shape, flags.data());
      }
  });
}

}  // namespace wsis
