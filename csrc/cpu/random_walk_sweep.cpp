// One term of the walk at radius 5 in float, the case that matters, with explicit vectors.
//
// With source column x' = x + dx the sum over neighbours y[x] = sum_dx (sum_dy w t)[x + dx] needs one accumulator per
// dx, all aligned with the source: a source vector is loaded once for nine products, and each weight vector serves all
// channels of a group. The nine accumulators are shifted and added once per block of columns, carrying what crosses
// into the next block. So the loop is bound by multiply-adds, not by unaligned loads.
#include <utility>

#include "cpu/random_walk_stencil.h"

// The sums of products are meant as fused multiply-adds wherever the instruction set has them.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#pragma GCC diagnostic ignored "-Wpsabi"  // every function that takes a vector is inlined
#endif

#define INLINE inline __attribute__((always_inline))

namespace wsis {
namespace {

constexpr int kReach = 4;
constexpr int kShifts = 2 * kReach + 1;

// Largest dx of the half disc of radius 5 at dy, and the first plane of that dy in a Stencil's order.
constexpr int reach_at(int dy) { return dy <= 2 ? 4 : dy == 3 ? 3 : 2; }
constexpr int first_plane(int dy) { return dy == 0 ? 0 : dy == 1 ? 4 : dy == 2 ? 13 : dy == 3 ? 22 : 29; }
constexpr int kPlanes = 34;

template <int kLanes>
struct Simd {
  typedef float Vector __attribute__((vector_size(4 * kLanes)));
  typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  typedef int Index __attribute__((vector_size(4 * kLanes)));
};

template <int kLanes>
using Vector = typename Simd<kLanes>::Vector;

template <int kLanes>
INLINE Vector<kLanes> load(const float* p) {
  return *reinterpret_cast<const typename Simd<kLanes>::Unaligned*>(p);
}

template <int kLanes>
INLINE void store(float* p, Vector<kLanes> v) {
  *reinterpret_cast<typename Simd<kLanes>::Unaligned*>(p) = v;
}

// Lanes kShift .. kShift + kLanes - 1 of low and high side by side.
template <int kLanes, int kShift, int... kLane>
INLINE Vector<kLanes> shifted(Vector<kLanes> low, Vector<kLanes> high, std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(low, high, (kShift + kLane)...);
#else
  return __builtin_shuffle(low, high, typename Simd<kLanes>::Index{(kShift + kLane)...});
#endif
}

template <int kLanes, int kShift>
INLINE Vector<kLanes> shifted(Vector<kLanes> low, Vector<kLanes> high) {
  return shifted<kLanes, kShift>(low, high, std::make_integer_sequence<int, kLanes>());
}

// Loads v once for all its uses, where the compiler would rather load it again for each product.
template <class V>
INLINE void keep_in_register(V& v) {
#if defined(__x86_64__) && defined(__GNUC__)
  asm("" : "+v"(v));
#endif
}

// Where a term finds its data; pointers at row 0, column 0.
struct Sweep {
  const float *weights, *degree, *inverse_degree, *current;
  float *previous, *sum;
  int64_t pitch, blocks, plane_size;
  float scale, kept, previous_scale, weight;
};

// Nine accumulators for each of kGroup channels.
template <int kLanes, int kGroup>
using Sums = Vector<kLanes>[kGroup][kShifts];

// The two products of one offset (dy, dx): the sources below, whose weight lies at the output, and those above.
template <int kLanes, int kGroup, int kDx>
INLINE void add_offset(Sums<kLanes, kGroup>& sums, const float* below_weight, const float* above_weight,
                       const Vector<kLanes>* below, const Vector<kLanes>* above) {
  Vector<kLanes> v = load<kLanes>(below_weight - kDx), u = load<kLanes>(above_weight);
  if (kGroup > 1) {
    keep_in_register(v);
    keep_in_register(u);
  }
  for (int c = 0; c < kGroup; ++c) {
    sums[c][kReach + kDx] += v * below[c];
    sums[c][kReach - kDx] += u * above[c];
  }
}

template <int kLanes, int kGroup, int kDy, int... kI>
INLINE void add_row(Sums<kLanes, kGroup>& sums, const Sweep& s, const float* below_weights, const float* above_weights,
                    const float* source, std::integer_sequence<int, kI...>) {
  Vector<kLanes> below[kGroup], above[kGroup];
  for (int c = 0; c < kGroup; ++c) {
    below[c] = load<kLanes>(source + c * s.plane_size + kDy * s.pitch);
    above[c] = load<kLanes>(source + c * s.plane_size - kDy * s.pitch);
  }
  constexpr int kFirst = kDy == 0 ? 1 : -reach_at(kDy);
  const float* below_plane = below_weights + first_plane(kDy) * s.pitch;
  const float* above_plane = above_weights + first_plane(kDy) * s.pitch;
  (add_offset<kLanes, kGroup, kFirst + kI>(sums, below_plane + kI * s.pitch, above_plane + kI * s.pitch, below, above),
   ...);
}

template <int kLanes, int kGroup, int... kDy>
INLINE void add_rows(Sums<kLanes, kGroup>& sums, const Sweep& s, int64_t y, int64_t x, const float* source,
                     std::integer_sequence<int, kDy...>) {
  const int64_t row = kPlanes * s.pitch;
  const float* weights = s.weights + x;
  // Above row 0 the sources are zero, so any weights do.
  (add_row<kLanes, kGroup, kDy>(
       sums, s, weights + y * row, weights + std::max<int64_t>(0, y - kDy) * row, source,
       std::make_integer_sequence<int, kDy == 0 ? kReach : 2 * reach_at(kDy) + 1>()),
   ...);
}

// What a channel carries from one block of columns to the next: accumulators dx > 0, dx < 0, and the sum so far.
template <int kLanes>
struct Carry {
  Vector<kLanes> ahead[kReach], behind[kReach], partial;
};

// Completes the block before: what this block adds to it comes from dx > 0. Then starts this block's own sum.
template <int kLanes, int... kI>
INLINE Vector<kLanes> combine(Carry<kLanes>& carry, const Vector<kLanes>* sums, std::integer_sequence<int, kI...>) {
  Vector<kLanes> total = carry.partial, partial = sums[kReach];
  ((total += shifted<kLanes, kI + 1>(carry.ahead[kI], sums[kReach + kI + 1])), ...);
  ((partial += shifted<kLanes, kLanes - kI - 1>(carry.behind[kI], sums[kReach - kI - 1])), ...);
  ((carry.ahead[kI] = sums[kReach + kI + 1], carry.behind[kI] = sums[kReach - kI - 1]), ...);
  carry.partial = partial;
  return total;
}

// Three streams a channel, again more than the hardware follows; of the current term the row that comes in below next.
template <int kLanes>
INLINE void prefetch_channel(const Sweep& s, int64_t pixel) {
  __builtin_prefetch(s.previous + pixel + 8 * kLanes, 1, 2);
  __builtin_prefetch(s.sum + pixel + 8 * kLanes, 1, 2);
  __builtin_prefetch(s.current + pixel + (kReach + 1) * s.pitch + 2 * kLanes, 0, 2);
}

template <int kLanes>
INLINE void finish(const Sweep& s, Vector<kLanes> total, int64_t pixel, int64_t plane) {
  const Vector<kLanes> now = load<kLanes>(s.current + plane + pixel);
  const Vector<kLanes> drift =
      load<kLanes>(s.inverse_degree + pixel) * (total - load<kLanes>(s.degree + pixel) * now);
  const Vector<kLanes> change = s.previous_scale * (now - load<kLanes>(s.previous + plane + pixel));
  const Vector<kLanes> next = s.kept * now + (change + s.scale * drift);
  prefetch_channel<kLanes>(s, plane + pixel);
  store<kLanes>(s.previous + plane + pixel, next);
  if (s.weight != 0) store<kLanes>(s.sum + plane + pixel, load<kLanes>(s.sum + plane + pixel) + s.weight * next);
}

template <int kLanes, int kGroup>
INLINE void group_block(const Sweep& s, int64_t y, int64_t block, int64_t channel, Carry<kLanes>* carry) {
  const int64_t x = block * kLanes, pixel = y * s.pitch + x;
  Sums<kLanes, kGroup> sums = {};
  if (block < s.blocks)
    add_rows<kLanes, kGroup>(sums, s, y, x, s.current + channel * s.plane_size + pixel,
                             std::make_integer_sequence<int, kReach + 1>());
  for (int c = 0; c < kGroup; ++c) {
    const Vector<kLanes> total =
        combine<kLanes>(carry[channel + c], sums[c], std::make_integer_sequence<int, kReach>());
    if (block > 0) finish<kLanes>(s, total, pixel - kLanes, (channel + c) * s.plane_size);
  }
}

// The weights of a row lie in 34 planes, too many short streams for the hardware to foresee. Never faults.
INLINE void prefetch_weights(const Sweep& s, int64_t y, int64_t x) {
  const float* weights = s.weights + y * kPlanes * s.pitch + x;
  for (int p = 0; p < kPlanes; ++p) __builtin_prefetch(weights + p * s.pitch, 0, 2);
}

template <int kLanes, int kGroup>
INLINE void sweep_rows(const Sweep& s, int64_t count, int64_t first, int64_t last) {
  Carry<kLanes> carry[kMaxChannels];
  for (int64_t y = first; y < last; ++y) {
    for (int64_t c = 0; c < count; ++c) carry[c] = Carry<kLanes>{};
    for (int64_t block = 0; block <= s.blocks; ++block) {
      prefetch_weights(s, y + 1, block * kLanes);
      int64_t c = 0;
      for (; c + kGroup <= count; c += kGroup) group_block<kLanes, kGroup>(s, y, block, c, carry);
      for (; c < count; ++c) group_block<kLanes, 1>(s, y, block, c, carry);
    }
  }
}

void sweep_portable(const Sweep& s, int64_t count, int64_t first, int64_t last) {
  sweep_rows<4, 1>(s, count, first, last);
}

#if defined(__x86_64__)
__attribute__((target("arch=x86-64-v3"))) void sweep_v3(const Sweep& s, int64_t count, int64_t first, int64_t last) {
  sweep_rows<8, 1>(s, count, first, last);
}

__attribute__((target("arch=x86-64-v4"))) void sweep_v4(const Sweep& s, int64_t count, int64_t first, int64_t last) {
  sweep_rows<16, 2>(s, count, first, last);
}
#endif

using SweepRows = void (*)(const Sweep&, int64_t, int64_t, int64_t);

struct Kernel {
  SweepRows rows;
  int lanes;
};

Kernel choose_kernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("x86-64-v4")) return {sweep_v4, 16};
  if (__builtin_cpu_supports("x86-64-v3")) return {sweep_v3, 8};
#endif
  return {sweep_portable, 4};
}

}  // namespace

void walk_rows_radius5(const Stencil<float>& stencil, const float* current, float* previous, float* sum, int64_t count,
                       int64_t plane_size, const Term& term, int64_t first, int64_t last) {
  static const Kernel kernel = choose_kernel();
  const Plane& plane = stencil.plane;
  const int64_t origin = plane.at(0);
  const Sweep sweep{stencil.weights(0, 0),
                    stencil.degree(0),
                    stencil.inverse_degree(0),
                    current + origin,
                    previous + origin,
                    sum + origin,
                    plane.pitch,
                    (plane.w + kernel.lanes - 1) / kernel.lanes,
                    plane_size,
                    static_cast<float>(term.scale),
                    static_cast<float>(term.scale - term.previous_scale),
                    static_cast<float>(term.previous_scale),
                    static_cast<float>(term.weight)};
  kernel.rows(sweep, count, first, last);
}

}  // namespace wsis
