#include "common/filter_ids.h"

#include <vector>

#include "common/parallel.h"

namespace wsis {
namespace {

// Pixels of every id, counted by runs of equal ids; table[0] stays 0. The table grows with the largest id seen.
void count_areas(const int32_t* ids, int64_t plane, std::vector<int32_t>& table) {
  table.assign(1, 0);
  for (int64_t i = 0; i < plane;) {
    int64_t end = i + 1;
    while (end < plane && ids[end] == ids[i]) ++end;
    if (is_named(ids[i], plane)) {
      if (ids[i] >= static_cast<int64_t>(table.size())) table.resize(ids[i] + 1, 0);
      table[ids[i]] += static_cast<int32_t>(end - i);
    }
    i = end;
  }
}

}  // namespace

void filter_ids_cpu(const int32_t* ids, int32_t* kept, int32_t* counts, int64_t B, int64_t plane, int64_t low,
                    int64_t high) {
  parallel_for(0, B, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> table;
    for (int64_t b = begin; b < end; ++b) {
      const int32_t* from = ids + b * plane;
      int32_t* to = kept + b * plane;
      count_areas(from, plane, table);
      int32_t count = 0;
      for (int32_t& entry : table) entry = area_fits(entry, low, high) ? ++count : 0;
      for (int64_t i = 0; i < plane; ++i) to[i] = is_named(from[i], plane) ? table[from[i]] : 0;
      counts[b] = count;
    }
  });
}

}  // namespace wsis
