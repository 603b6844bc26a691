// mask_rle: host functions.
#pragma once

#include <cstdint>
#include <vector>

#include "common/macros.h"

namespace wsis {

// ids [B, H, W] with values 0..capacity (others count as 0), sizes [B, 2] (height, width) or null.
struct RleProblem {
  const int32_t* ids;
  const int32_t* sizes;
  int64_t B, H, W, capacity;
};

// The instances of one image by ascending id: code k is codes[offset[k]] .. codes[offset[k + 1] - 1].
struct ImageCodes {
  std::vector<int64_t> id, offset;
  std::vector<uint8_t> codes;
};

std::vector<ImageCodes> mask_rle_cpu(const RleProblem& problem);

}  // namespace wsis
