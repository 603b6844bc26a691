// The permutohedral lattice: which vertices surround a point, and how their keys are packed (Adams, Baek and Davis
// 2010, as used for the dense CRF by Kraehenbuehl and Koltun 2011). Shared by the CPU and the GPU.
//
// A point with d features is scaled and elevated to d + 1 coordinates that sum to 0. Its simplex has d + 1 vertices,
// one of each remainder k = 0..d: every coordinate of vertex k is (d + 1) q + k. So (q_0 .. q_(d-1), k) names a
// vertex; q_d follows from the sum.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/macros.h"

namespace wsis {

// Bits of each q in a key, below them 3 bits of remainder: 63 bits for d = 5, 61 for d = 2.
template <int D>
struct LatticeBits;
template <>
struct LatticeBits<2> {
  static constexpr int kBits = 29;
};
template <>
struct LatticeBits<5> {
  static constexpr int kBits = 12;
};

constexpr int kRemainderBits = 3;
constexpr uint64_t kNoKey = ~uint64_t{0};  // never a key: these have at most 63 bits

// Scale of every feature: standard deviation first, then the lattice's own factor.
template <int D>
struct LatticeScale {
  float factor[D];
};

template <int D>
inline LatticeScale<D> lattice_scale() {
  LatticeScale<D> scale;
  const float deviation = static_cast<float>(std::sqrt(2.0 / 3.0) * (D + 1));
  for (int i = 0; i < D; ++i)
    scale.factor[i] = static_cast<float>(1.0 / std::sqrt(static_cast<double>((i + 2) * (i + 1))) * deviation);
  return scale;
}

// 1 in the field of coordinate j; coordinate d has no field.
template <int D>
HOST_DEVICE constexpr uint64_t key_unit(int j) {
  return j < D ? uint64_t{1} << (kRemainderBits + j * LatticeBits<D>::kBits) : 0;
}

// 1 in the field of every coordinate.
template <int D>
HOST_DEVICE constexpr uint64_t key_units() {
  uint64_t sum = 0;
  for (int j = 0; j < D; ++j) sum += key_unit<D>(j);
  return sum;
}

// Where a point lies: the keys of its d + 1 vertices by remainder, and its barycentric weight on each.
template <int D>
struct Simplex {
  uint64_t key[D + 1];
  float weight[D + 1];
};

// f: the D features divided by their standard deviations. Every step is float32 in a fixed order without fused
// multiply-adds, since a point near the border of two simplices must fall on the same side everywhere.
template <int D>
HOST_DEVICE void locate(const float* f, const LatticeScale<D>& scale, Simplex<D>& out) {
  float elevated[D + 1], rest[D + 1], sum = 0;
  for (int j = D; j > 0; --j) {
    const float c = f[j - 1] * scale.factor[j - 1];
    elevated[j] = sum - static_cast<float>(j) * c;
    sum = sum + c;
  }
  elevated[0] = sum;

  // The nearest vertex of remainder 0 in every coordinate on its own; `off` says how far their sum is from 0.
  int q[D + 1], rank[D + 1], off = 0;
  for (int j = 0; j <= D; ++j) {
    const float nearest = rintf(elevated[j] * (1.0f / (D + 1)));
    rest[j] = elevated[j] - nearest * (D + 1);
    q[j] = static_cast<int>(nearest);
    off += q[j];
    rank[j] = 0;
  }
  for (int i = 0; i < D; ++i)
    for (int j = i + 1; j <= D; ++j) {
      const int less = rest[i] < rest[j];
      rank[i] += less;
      rank[j] += 1 - less;
    }

  // Bring the sum back to 0 at the coordinates that were rounded farthest; then sort rests and units by rank.
  float sorted[D + 1];
  uint64_t unit[D + 1], key = 0;
  constexpr int kBias = 1 << (LatticeBits<D>::kBits - 1);
  for (int j = 0; j <= D; ++j) {
    int r = rank[j] + off;
    if (r < 0) {
      r += D + 1;
      q[j] += 1;
    } else if (r > D) {
      r -= D + 1;
      q[j] -= 1;
    }
    const float back = elevated[j] - static_cast<float>(q[j] * (D + 1));
    sorted[r] = back * (1.0f / (D + 1));
    unit[r] = key_unit<D>(j);
    key += static_cast<uint64_t>(q[j] + kBias) * key_unit<D>(j);
  }

  // Vertex k has q - 1 in the k coordinates of highest rank.
  out.key[0] = key;
  out.weight[0] = sorted[D] + (1.0f - sorted[0]);
  for (int k = 1; k <= D; ++k) {
    key = key - unit[D + 1 - k] + 1;
    out.key[k] = key;
    out.weight[k] = sorted[D - k] - sorted[D + 1 - k];
  }
}

// The next vertex along axis j: +1 in every coordinate, -d in coordinate j.
template <int D>
HOST_DEVICE uint64_t next_key(uint64_t key, int j) {
  const bool wraps = (key & ((1u << kRemainderBits) - 1)) == D;
  const uint64_t step = wraps ? key_units<D>() - D : 1;
  return key + step - key_unit<D>(j);
}

// The vertex before it: -1 in every coordinate, +d in coordinate j.
template <int D>
HOST_DEVICE uint64_t previous_key(uint64_t key, int j) {
  const bool wraps = (key & ((1u << kRemainderBits) - 1)) == 0;
  const uint64_t step = wraps ? key_units<D>() - D : 1;
  return key - step + key_unit<D>(j);
}

HOST_DEVICE uint64_t key_hash(uint64_t key) { return key * 0x9E3779B97F4A7C15ull; }

}  // namespace wsis
