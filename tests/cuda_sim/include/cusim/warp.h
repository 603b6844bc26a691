// Barriers, shuffles, votes and reductions of a warp.
#pragma once

#include <bit>
#include <cstring>

#include "cusim/scheduler.h"

#define CUSIM_PLACE ::cusim::Place place = ::cusim::Place::current()

namespace cusim {

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// The value that lane `source` brought, or `own` when the mask does not hold that lane: CUDA leaves that undefined,
// so poison is answered unless `inside` is false (the source lies outside the segment, which keeps the own value).
template <class T>
T shuffle(uint32_t mask, T own, unsigned source, bool inside, const char* operation, Place place) {
  const uint64_t* values = exchange(mask, to_bits(own), operation, place);
  if (!inside) return own;
  if (!(existing_lanes(mask) >> source & 1)) return from_bits<T>(~uint64_t{0});
  return from_bits<T>(values[source]);
}

// Folds the values of the mask's lanes, the lowest first.
template <class T, class F>
T reduce(uint32_t mask, T own, const char* operation, Place place, F fold) {
  const uint64_t* values = exchange(mask, to_bits(own), operation, place);
  uint32_t lanes = existing_lanes(mask);
  T sum = from_bits<T>(values[std::countr_zero(lanes)]);
  for (lanes &= lanes - 1; lanes; lanes &= lanes - 1) sum = fold(sum, from_bits<T>(values[std::countr_zero(lanes)]));
  return sum;
}

}  // namespace cusim

inline void __syncthreads(CUSIM_PLACE) { cusim::block_barrier(0, place); }
inline int __syncthreads_count(int predicate, CUSIM_PLACE) { return cusim::block_barrier(predicate != 0, place); }
inline int __syncthreads_or(int predicate, CUSIM_PLACE) { return cusim::block_barrier(predicate != 0, place) != 0; }
inline int __syncthreads_and(int predicate, CUSIM_PLACE) { return cusim::block_barrier(predicate == 0, place) == 0; }
inline void __syncwarp(unsigned mask = ~0u, CUSIM_PLACE) { cusim::exchange(mask, 0, "__syncwarp", place); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUSIM_PLACE) {
  const unsigned first = cusim::lane() & ~(width - 1u);
  return cusim::shuffle(mask, value, first | (source & (width - 1u)), true, "__shfl_sync", place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUSIM_PLACE) {
  const unsigned lane = cusim::lane();
  return cusim::shuffle(mask, value, lane - delta, (lane & (width - 1u)) >= delta, "__shfl_up_sync", place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUSIM_PLACE) {
  const unsigned lane = cusim::lane();
  const bool inside = (lane & (width - 1u)) + delta < static_cast<unsigned>(width);
  return cusim::shuffle(mask, value, lane + delta, inside, "__shfl_down_sync", place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, CUSIM_PLACE) {
  const unsigned source = cusim::lane() ^ static_cast<unsigned>(lanes);
  const bool inside = source / width <= cusim::lane() / width;
  return cusim::shuffle(mask, value, source & 31, inside, "__shfl_xor_sync", place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUSIM_PLACE) {
  const unsigned own = predicate ? 1u << cusim::lane() : 0;
  return cusim::reduce(mask, own, "__ballot_sync", place, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate, CUSIM_PLACE) {
  return cusim::reduce(mask, predicate != 0, "__any_sync", place, [](int a, int b) { return a | b; });
}
inline int __all_sync(unsigned mask, int predicate, CUSIM_PLACE) {
  return cusim::reduce(mask, predicate != 0, "__all_sync", place, [](int a, int b) { return a & b; });
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, CUSIM_PLACE) {
  const uint64_t* values = cusim::exchange(mask, cusim::to_bits(value), "__match_any_sync", place);
  unsigned equal = 0;
  for (uint32_t lanes = cusim::existing_lanes(mask); lanes; lanes &= lanes - 1) {
    const int lane = std::countr_zero(lanes);
    if (values[lane] == cusim::to_bits(value)) equal |= 1u << lane;
  }
  return equal;
}

#define CUSIM_REDUCE(name, expression)                                                              \
  template <class T>                                                                                \
  T name(unsigned mask, T value, CUSIM_PLACE) {                                                     \
    static_assert(sizeof(T) == 4, "CUDA has " #name " for 32-bit integers");                        \
    return cusim::reduce(mask, value, #name, place, [](T a, T b) { return T(expression); });        \
  }
CUSIM_REDUCE(__reduce_add_sync, a + b)
CUSIM_REDUCE(__reduce_min_sync, b < a ? b : a)
CUSIM_REDUCE(__reduce_max_sync, a < b ? b : a)
CUSIM_REDUCE(__reduce_and_sync, a & b)
CUSIM_REDUCE(__reduce_or_sync, a | b)
CUSIM_REDUCE(__reduce_xor_sync, a ^ b)
#undef CUSIM_REDUCE
