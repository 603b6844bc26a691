// Where neighbouring values differ: the first step of everything that works on runs instead of pixels.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace wsis {

constexpr int64_t kFlagPadding = 8;  // zero bytes behind the flags, so that they can be read eight at a time

// flags[i] = a[i] != b[i] (1 or 0) for i < n, followed by kFlagPadding zeros. Vectorised, chosen at load time.
void mark_changes(const uint8_t* a, const uint8_t* b, int64_t n, uint8_t* flags);
void mark_changes(const uint16_t* a, const uint16_t* b, int64_t n, uint8_t* flags);
void mark_changes(const uint32_t* a, const uint32_t* b, int64_t n, uint8_t* flags);
void mark_changes(const uint64_t* a, const uint64_t* b, int64_t n, uint8_t* flags);

// Calls f(i) for every set flag in ascending order.
template <class F>
void for_each_flag(const uint8_t* flags, int64_t n, const F& f) {
  static_assert(std::endian::native == std::endian::little);
  for (int64_t i = 0; i < n; i += 8) {
    uint64_t word;
    std::memcpy(&word, flags + i, 8);
    for (; word != 0; word &= word - 1) f(i + std::countr_zero(word) / 8);
  }
}

// Calls f(begin, end) for every run of equal values of row[0, n), n > 0; flags holds n + kFlagPadding bytes.
template <class T, class F>
void for_each_run(const T* row, int64_t n, uint8_t* flags, const F& f) {
  mark_changes(row, row + 1, n - 1, flags);
  int64_t begin = 0;
  for_each_flag(flags, n - 1, [&](int64_t i) {
    f(begin, i + 1);
    begin = i + 1;
  });
  f(begin, n);
}

}  // namespace wsis
