// The compressed run lengths of COCO: lengths of alternating runs of zeros and ones in column-major order, the first of
// zeros; from the fourth on as the difference to the length two before; each number in groups of 5 bits, least
// significant first, bit 5 = another group follows, bit 4 of the last group = sign; 48 is added to every group.
#pragma once

#include <cstdint>

#include "common/macros.h"

namespace wsis {

constexpr int64_t kMaxRleSide = 65536;
constexpr int kMaxCodeBytes = 8;  // a length or a difference has at most 33 bits and a sign

// What is coded for the length at index `i` when the one two before it is `before`.
HOST_DEVICE int64_t code_value(int64_t i, int64_t length, int64_t before) { return i > 2 ? length - before : length; }

HOST_DEVICE int code_bytes(int64_t value) {
  int bytes = 1;
  for (; value < -16 || value > 15; value >>= 5) ++bytes;
  return bytes;
}

// Writes the groups of `value` and returns how many.
HOST_DEVICE int write_code(int64_t value, uint8_t* out) {
  int bytes = 0;
  for (; value < -16 || value > 15; value >>= 5) out[bytes++] = static_cast<uint8_t>((value & 31) + 32 + 48);
  out[bytes++] = static_cast<uint8_t>((value & 31) + 48);
  return bytes;
}

}  // namespace wsis
