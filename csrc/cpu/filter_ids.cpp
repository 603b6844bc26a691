#include "common/filter_ids.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "cpu/changes.h"

namespace wsis {
namespace {

constexpr int64_t kChunk = 4096;  // pixels that are cut into runs at once

// Calls f(begin, end, id) for stretches of equal ids that cover the image.
template <class F>
void for_each_stretch(const int32_t* ids, int64_t plane, const F& f) {
  uint8_t flags[kChunk + kFlagPadding];
  for (int64_t first = 0; first < plane; first += kChunk) {
    const auto* row = reinterpret_cast<const uint32_t*>(ids + first);
    for_each_run(row, std::min(kChunk, plane - first), flags,
                 [&](int64_t begin, int64_t end) { f(first + begin, first + end, ids[first + begin]); });
  }
}

// Pixels of every id; table[0] stays 0. The table grows with the largest id seen.
void count_areas(const int32_t* ids, int64_t plane, std::vector<int32_t>& table) {
  table.assign(1, 0);
  for_each_stretch(ids, plane, [&](int64_t begin, int64_t end, int32_t id) {
    if (!is_named(id, plane)) return;
    if (id >= static_cast<int64_t>(table.size())) table.resize(id + 1, 0);
    table[id] += static_cast<int32_t>(end - begin);
  });
}

}  // namespace

void filter_ids_cpu(const int32_t* ids, int32_t* kept, int32_t* counts, int64_t B, int64_t plane, int64_t low,
                    int64_t high) {
  parallel_for_uneven(0, B, 1, [&](Pieces& pieces) {
    std::vector<int32_t> table;
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t b = begin; b < end; ++b) {
        const int32_t* from = ids + b * plane;
        int32_t* to = kept + b * plane;
        count_areas(from, plane, table);
        int32_t count = 0;
        for (int32_t& entry : table) entry = area_fits(entry, low, high) ? ++count : 0;
        for_each_stretch(from, plane, [&](int64_t first, int64_t last, int32_t id) {
          std::fill(to + first, to + last, is_named(id, plane) ? table[id] : 0);
        });
        counts[b] = count;
      }
  });
}

}  // namespace wsis
