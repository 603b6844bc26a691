// Splat, blur and slice on rows of 4 or 8 floats at a time. The order of additions is that of the pixels and corners,
// whatever the number of threads.
#include "cpu/permutohedral.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace wsis {
namespace {

struct Four {
  typedef float Vector __attribute__((vector_size(16), aligned(4), may_alias));
  static constexpr int kLanes = 4;
};
struct Eight {
  typedef float Vector __attribute__((vector_size(32), aligned(4), may_alias));
  static constexpr int kLanes = 8;
};

template <class Lanes>
ALWAYS_INLINE typename Lanes::Vector& at(float* p) {
  return *reinterpret_cast<typename Lanes::Vector*>(p);
}
template <class Lanes>
ALWAYS_INLINE const typename Lanes::Vector& at(const float* p) {
  return *reinterpret_cast<const typename Lanes::Vector*>(p);
}

// One row of `parts` vectors; kParts = 0 stands for a number known at run time only.
template <class Lanes, int kParts, int kCorners>
ALWAYS_INLINE void splat_rows(const Lattice& lattice, int64_t first, int64_t count, const float* rows, int parts,
                              float* values) {
  const int n = kParts ? kParts : parts, width = n * Lanes::kLanes;
  const int32_t* ids = lattice.ids.data() + first * kCorners;
  const float* weights = lattice.weights.data() + first * kCorners;
  const float* norm = lattice.norm.data() + first;
  for (int64_t i = 0; i < count; ++i, ids += kCorners, weights += kCorners)
    for (int r = 0; r < n; ++r) {
      const auto row = at<Lanes>(rows + i * width + r * Lanes::kLanes) * norm[i];
      for (int k = 0; k < kCorners; ++k) {
        float* value = values + static_cast<int64_t>(ids[k]) * width + r * Lanes::kLanes;
        at<Lanes>(value) = at<Lanes>(value) + weights[k] * row;
      }
    }
}

template <class Lanes, int kParts, int kCorners>
ALWAYS_INLINE void splat_vertex_rows(const Lattice& lattice, int64_t begin, int64_t end, const float* rows, int parts,
                                     float* values) {
  const int n = kParts ? kParts : parts, width = n * Lanes::kLanes;
  const float* weights = lattice.weights.data();
  const float* norm = lattice.norm.data();
  for (int64_t v = begin; v < end; ++v)
    for (int r = 0; r < n; ++r) {
      typename Lanes::Vector sum = {};
      for (int64_t e = lattice.entry_start[static_cast<size_t>(v)];
           e < lattice.entry_start[static_cast<size_t>(v + 1)]; ++e) {
        const int32_t entry = lattice.entries[static_cast<size_t>(e)];
        const int32_t pixel = entry / kCorners;
        const auto row =
            at<Lanes>(rows + static_cast<int64_t>(pixel) * width + r * Lanes::kLanes) * norm[pixel];
        sum = sum + weights[entry] * row;
      }
      at<Lanes>(values + v * width + r * Lanes::kLanes) = sum;
    }
}

template <class Lanes, int kParts, int kCorners>
ALWAYS_INLINE void slice_rows(const Lattice& lattice, int64_t first, int64_t count, const float* values, int parts,
                              float* rows) {
  const int n = kParts ? kParts : parts, width = n * Lanes::kLanes;
  const int32_t* ids = lattice.ids.data() + first * kCorners;
  const float* weights = lattice.weights.data() + first * kCorners;
  for (int64_t i = 0; i < count; ++i, ids += kCorners, weights += kCorners)
    for (int r = 0; r < n; ++r) {
      auto sum = weights[0] * at<Lanes>(values + static_cast<int64_t>(ids[0]) * width + r * Lanes::kLanes);
      for (int k = 1; k < kCorners; ++k)
        sum = sum + weights[k] * at<Lanes>(values + static_cast<int64_t>(ids[k]) * width + r * Lanes::kLanes);
      at<Lanes>(rows + i * width + r * Lanes::kLanes) = sum;
    }
}

// Runs that begin in [begin, end); the last of them may reach beyond `end`.
template <class Lanes, int kParts>
ALWAYS_INLINE void blur_rows(const std::vector<int32_t>& runs, int64_t begin, int64_t end, int parts, float* values) {
  const int n = kParts ? kParts : parts, width = n * Lanes::kLanes;
  const int64_t size = static_cast<int64_t>(runs.size());
  const auto ends_run = [&](int64_t i) { return runs[static_cast<size_t>(i)] < 0; };
  while (begin > 0 && begin < size && !ends_run(begin - 1)) ++begin;
  while (end > 0 && end < size && !ends_run(end - 1)) ++end;
  const auto vertex = [&](int64_t i) {
    const int32_t v = runs[static_cast<size_t>(i)];
    return static_cast<int64_t>(v < 0 ? ~v : v) * width;
  };
  for (int r = 0; r < n; ++r) {
    float* part = values + r * Lanes::kLanes;
    for (int64_t i = begin; i < end;) {
      typename Lanes::Vector previous = {}, current = at<Lanes>(part + vertex(i));
      for (; !ends_run(i); ++i) {
        const auto next = at<Lanes>(part + vertex(i + 1));
        at<Lanes>(part + vertex(i)) = current + 0.5f * (previous + next);
        previous = current;
        current = next;
      }
      at<Lanes>(part + vertex(i)) = current + 0.5f * previous;
      ++i;
    }
  }
}

// The four passes as objects, so that one dispatcher chooses the row width for all of them.
struct Splat {
  const Lattice& lattice;
  int64_t first, count;
  const float* rows;
  float* values;

  template <class Lanes, int kParts>
  ALWAYS_INLINE void run(int parts) const {
    if (lattice.corners == 3)
      splat_rows<Lanes, kParts, 3>(lattice, first, count, rows, parts, values);
    else
      splat_rows<Lanes, kParts, 6>(lattice, first, count, rows, parts, values);
  }
};

struct SplatVertices {
  const Lattice& lattice;
  int64_t begin, end;
  const float* rows;
  float* values;

  template <class Lanes, int kParts>
  ALWAYS_INLINE void run(int parts) const {
    if (lattice.corners == 3)
      splat_vertex_rows<Lanes, kParts, 3>(lattice, begin, end, rows, parts, values);
    else
      splat_vertex_rows<Lanes, kParts, 6>(lattice, begin, end, rows, parts, values);
  }
};

struct Slice {
  const Lattice& lattice;
  int64_t first, count;
  const float* values;
  float* rows;

  template <class Lanes, int kParts>
  ALWAYS_INLINE void run(int parts) const {
    if (lattice.corners == 3)
      slice_rows<Lanes, kParts, 3>(lattice, first, count, values, parts, rows);
    else
      slice_rows<Lanes, kParts, 6>(lattice, first, count, values, parts, rows);
  }
};

struct Blur {
  const std::vector<int32_t>& runs;
  int64_t begin, end;
  float* values;

  template <class Lanes, int kParts>
  ALWAYS_INLINE void run(int parts) const {
    blur_rows<Lanes, kParts>(runs, begin, end, parts, values);
  }
};

template <class Pass>
ALWAYS_INLINE void for_width(int width, const Pass& pass) {
  switch (width) {
    case 4: return pass.template run<Four, 1>(1);
    case 8: return pass.template run<Eight, 1>(1);
    case 16: return pass.template run<Eight, 2>(2);
    default: return pass.template run<Eight, 0>(width / 8);
  }
}

}  // namespace

CPU_CLONES void splat(const Lattice& lattice, int64_t first, int64_t count, const float* rows, int width,
                      float* values) {
  for_width(width, Splat{lattice, first, count, rows, values});
}

CPU_CLONES void splat_vertices(const Lattice& lattice, int64_t begin, int64_t end, const float* rows, int width,
                               float* values) {
  for_width(width, SplatVertices{lattice, begin, end, rows, values});
}

CPU_CLONES void blur_axis(const Lattice& lattice, int axis, int64_t begin, int64_t end, int width, float* values) {
  for_width(width, Blur{lattice.runs[static_cast<size_t>(axis)], begin, end, values});
}

CPU_CLONES void slice(const Lattice& lattice, int64_t first, int64_t count, const float* values, int width,
                      float* rows) {
  for_width(width, Slice{lattice, first, count, values, rows});
}

}  // namespace wsis
