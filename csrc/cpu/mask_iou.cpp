// Masks are packed to a bit per pixel once; a pair then costs a popcount of each word in which both may have pixels.
#include "common/mask_iou.h"

#include <algorithm>
#include <cstring>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "common/parallel.h"
#include "cpu/buffer.h"

namespace wsis {
namespace {

// 16 bytes -> 16 bits, set where a byte is not 0.
#if defined(__SSE2__)
inline uint64_t bits_of(const uint8_t* bytes) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  return 0xffff & ~static_cast<uint64_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())));
}
#else
inline uint64_t bits_of(const uint8_t* bytes) {
  uint64_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= static_cast<uint64_t>(bytes[i] != 0) << i;
  return bits;
}
#endif

inline uint64_t word_of(const uint8_t* bytes) {
  return bits_of(bytes) | bits_of(bytes + 16) << 16 | bits_of(bytes + 32) << 32 | bits_of(bytes + 48) << 48;
}

void pack(const uint8_t* mask, int64_t plane, uint64_t* words) {
  const int64_t whole = plane / kMaskWord;
  for (int64_t i = 0; i < whole; ++i) words[i] = word_of(mask + i * kMaskWord);
  if (whole * kMaskWord == plane) return;
  uint8_t rest[kMaskWord] = {};
  std::memcpy(rest, mask + whole * kMaskWord, plane - whole * kMaskWord);
  words[whole] = word_of(rest);
}

CPU_CLONES int64_t count_common(const uint64_t* RESTRICT a, const uint64_t* RESTRICT b, int64_t count) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += __builtin_popcountll(a[i] & b[i]);
  return sum;
}

// The packed masks of both sets, and the words of each between the first and the last that is not 0.
struct Packed {
  int64_t words;
  Buffer<uint64_t> bits;
  std::vector<int64_t> first, last;

  explicit Packed(const MaskSets& sets)
      : words(mask_words(sets.plane)),
        bits((sets.N + sets.M) * words),
        first(sets.N + sets.M),
        last(sets.N + sets.M) {
    parallel_for(0, sets.N + sets.M, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const uint8_t* mask = k < sets.N ? sets.a + k * sets.plane : sets.b + (k - sets.N) * sets.plane;
        pack(mask, sets.plane, row(k));
        int64_t low = 0, high = words;
        while (high > low && row(k)[high - 1] == 0) --high;
        while (low < high && row(k)[low] == 0) ++low;
        first[k] = low;
        last[k] = high;
      }
    });
  }

  uint64_t* row(int64_t k) { return bits.data() + k * words; }
  const uint64_t* row(int64_t k) const { return bits.data() + k * words; }
  int64_t common(int64_t i, int64_t j) const {
    const int64_t low = std::max(first[i], first[j]), high = std::min(last[i], last[j]);
    return low < high ? count_common(row(i) + low, row(j) + low, high - low) : 0;
  }
};

}  // namespace

void mask_iou_cpu(const MaskSets& sets, int64_t* common, int64_t* area_a, int64_t* area_b) {
  const Packed packed(sets);
  parallel_for(0, sets.N + sets.M, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      (k < sets.N ? area_a[k] : area_b[k - sets.N]) = packed.common(k, k);
      if (k >= sets.N) continue;
      for (int64_t m = 0; m < sets.M; ++m)
        common[k * sets.M + m] = sets.same_image(k, m) ? packed.common(k, sets.N + m) : 0;
    }
  });
}

}  // namespace wsis
