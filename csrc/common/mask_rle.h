// mask_rle: host functions.
#pragma once

#include <cstdint>
#include <vector>

#include "common/macros.h"
#include "common/rle_codec.h"

namespace wsis {

// ids [B, H, W] with values 0..capacity (others count as 0), sizes [B, 2] (height, width) or null.
struct RleProblem {
  const int32_t* ids;
  const int32_t* sizes;
  int64_t B, H, W, capacity;
};

// A run of one id, [begin, end) in column-major positions of its image.
struct Span {
  uint32_t begin, end;
};

// The numbers (1 to 3) that stand for span k of an instance: the zeros before it, its length, and, for the last one,
// the zeros up to the end of the image. `spans` begins with the instance's first span.
HOST_DEVICE int span_values(const Span* spans, int64_t k, bool last, int64_t total, int64_t* values) {
  const int64_t gap = int64_t(spans[k].begin) - (k > 0 ? spans[k - 1].end : 0);
  const int64_t gap_before = k > 0 ? int64_t(spans[k - 1].begin) - (k > 1 ? spans[k - 2].end : 0) : 0;
  const int64_t length_before = k > 0 ? int64_t(spans[k - 1].end) - spans[k - 1].begin : 0;
  values[0] = code_value(2 * k, gap, gap_before);
  values[1] = code_value(2 * k + 1, int64_t(spans[k].end) - spans[k].begin, length_before);
  if (!last || spans[k].end == total) return 2;
  values[2] = code_value(2 * k + 2, total - spans[k].end, gap);
  return 3;
}

// The instances of one image by ascending id: code k is codes[offset[k]] .. codes[offset[k + 1] - 1].
struct ImageCodes {
  std::vector<int64_t> id, offset;
  std::vector<uint8_t> codes;
};

std::vector<ImageCodes> mask_rle_cpu(const RleProblem& problem);

// On the GPU a strip is kStripRows rows of one column; strips are numbered down the columns, one image after the other.
constexpr int64_t kStripRows = 32;
inline int64_t rle_strips(const RleProblem& p) { return p.B * p.W * ((p.H + kStripRows - 1) / kStripRows); }

struct RleScratch {
  // Made by phase 1; changes = strip_offsets[strips] must reach the host.
  int32_t* strip_counts;   // [strips]
  int64_t* strip_offsets;  // [strips + 1]
  int64_t* partial;        // scan_scratch(max(strips, changes, keys))
  // Made by phase 2, keys = B * capacity; row_offsets[keys] (rows) and byte_offsets[changes] (bytes) must reach the host.
  int64_t changes;
  uint32_t* change_start;  // [changes] column-major position at which ...
  int32_t* change_id;      // [changes] ... this id begins
  int32_t* key_count;      // [keys] spans of the id
  int64_t* key_first;      // [keys] first and last change of the id
  int64_t* key_last;       // [keys]
  int64_t* key_offsets;    // [keys + 1] where its spans begin
  int32_t* key_present;    // [keys] 0 or 1
  int64_t* row_offsets;    // [keys + 1] its row of the result
  Span* spans;             // [changes] by key
  int64_t* span_key;       // [changes]
  int32_t* span_bytes;     // [changes]
  int64_t* byte_offsets;   // [changes + 1]
};

struct RleOutput {
  int64_t* image_index;  // [rows]
  int64_t* id;           // [rows]
  int64_t* offsets;      // [rows + 1]
  uint8_t* codes;        // [bytes]
};

int mask_rle_count_cuda(const RleProblem& problem, const RleScratch& scratch, void* stream);
int mask_rle_group_cuda(const RleProblem& problem, const RleScratch& scratch, void* stream);
int mask_rle_write_cuda(const RleProblem& problem, const RleScratch& scratch, const RleOutput& output, void* stream);

}  // namespace wsis
