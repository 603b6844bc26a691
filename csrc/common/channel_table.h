// Which maps belong to which image, for kernels that take images one by one.
#pragma once

#include <cstdint>
#include <vector>

namespace wsis {

// The channels of image b, in order: channels[start[b]] .. channels[start[b + 1] - 1].
struct ChannelTable {
  std::vector<int64_t> start, channels;

  // image_index: [M], each 0..B-1
  ChannelTable(const int64_t* image_index, int64_t M, int64_t B) : start(B + 1, 0), channels(M) {
    for (int64_t m = 0; m < M; ++m) ++start[image_index[m] + 1];
    for (int64_t b = 0; b < B; ++b) start[b + 1] += start[b];
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t m = 0; m < M; ++m) channels[next[image_index[m]]++] = m;
  }
};

}  // namespace wsis
