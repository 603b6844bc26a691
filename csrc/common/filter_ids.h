// filter_ids: host functions and the words that CPU and GPU share.
#pragma once

#include "common/macros.h"

namespace wsis {

// ids [B, plane] of 0..plane (anything else counts as 0) -> kept [B, plane]: ids whose area lies in low .. high,
// renumbered from 1 in their order, 0 elsewhere; counts [B]: how many were kept. CUDA: table [B, plane + 1] zeros.
int filter_ids_cuda(const int32_t* ids, int32_t* table, int32_t* kept, int32_t* counts, int64_t B, int64_t plane,
                    int64_t low, int64_t high, void* stream);
void filter_ids_cpu(const int32_t* ids, int32_t* kept, int32_t* counts, int64_t B, int64_t plane, int64_t low,
                    int64_t high);

HOST_DEVICE bool is_named(int32_t id, int64_t plane) { return id > 0 && id <= plane; }
HOST_DEVICE bool area_fits(int32_t area, int64_t low, int64_t high) { return area > 0 && area >= low && area <= high; }

}  // namespace wsis
