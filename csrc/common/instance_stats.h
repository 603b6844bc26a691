// instance_stats: host functions, and the table both back-ends fill.
#pragma once

#include <cstdint>

#include "common/macros.h"

namespace wsis {

// ids [B, H, W], scores [B, H, W] or null, sizes [B, 2] or null. Row b * capacity + id - 1 of every output describes
// instance id of image b; the rows of ids that do not occur hold 0 (peak -1).
template <class T>
struct StatsProblem {
  const int32_t* ids;
  const T* scores;
  const int32_t* sizes;
  int64_t B, H, W, capacity;
  int64_t* area;      // [B, capacity] pixels
  int32_t* box;       // [B, capacity, 4] x0, y0, x1, y1; the ends are exclusive
  int64_t* moment;    // [B, capacity, 2] sum of y, sum of x
  T* score_max;       // [B, capacity]
  double* score_sum;  // [B, capacity]
  int64_t* peak;      // [B, capacity] y * W + x of the first maximum in raster order
  int64_t* outside;   // [B] pixels whose id is below 0 or above capacity; they are in no row
};

template <class T>
void instance_stats_cpu(const StatsProblem<T>& problem);
int instance_stats_cuda(const StatsProblem<float>& problem, void* stream);

}  // namespace wsis
