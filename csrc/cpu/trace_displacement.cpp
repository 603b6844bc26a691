#include "common/trace_displacement.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kTaskRows = 16;
constexpr int kSlots = 8;   // traces that advance together, so that the latency of one hides behind the others
constexpr int kRound = 8;   // steps between two looks at whether a trace repeats itself

#define ALWAYS_INLINE inline __attribute__((always_inline))

// One image as (y, x) pairs, with its last row and column repeated once: the four corners of a sample are two loads
// of four numbers, and no index is clamped.
template <class T>
struct Field {
  const T* pairs;  // [height + 1, width + 1, 2]
  int32_t height, width;
};

template <class T>
void interleave(const T* displacement, T* pairs, int64_t h, int64_t w, int32_t height, int32_t width) {
  for (int32_t y = 0; y <= height; ++y) {
    const T* dy = displacement + std::min(y, height - 1) * w;
    T* row = pairs + int64_t(y) * (width + 1) * 2;
    for (int32_t x = 0; x <= width; ++x) {
      const int32_t from = std::min(x, width - 1);
      row[2 * x] = dy[from];
      row[2 * x + 1] = dy[h * w + from];
    }
  }
}

// Four numbers: y and x of one cell, then of its right neighbour.
template <class T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(4 * sizeof(T))));
  typedef int32_t Cells __attribute__((vector_size(16)));
};

// trace_step of common/trace_displacement.h on lanes 0 (y) and 1 (x) of `position`: the same operations in the same
// order. Lanes 2 and 3 hold nothing.
template <class T>
ALWAYS_INLINE void step(typename Lanes<T>::Vector& position, const T* pairs, int64_t pitch,
                        const typename Lanes<T>::Vector& last) {
  using Vector = typename Lanes<T>::Vector;
  const auto cell = __builtin_convertvector(position, typename Lanes<T>::Cells);
  const Vector f = position - __builtin_convertvector(cell, Vector), g = T(1) - f, zero = {};
  const T* at = pairs + cell[0] * pitch + 2 * int64_t(cell[1]);
  Vector top, bottom;
  std::memcpy(&top, at, sizeof top);
  std::memcpy(&bottom, at + pitch, sizeof bottom);
  const Vector column = g[0] * top + f[0] * bottom;
  const Vector right = {column[2], column[3], column[2], column[3]};
  position = position + (g[1] * column + f[1] * right);
  position = position > zero ? position : zero;
  position = position < last ? position : last;
}

// A trace under way, looked at every kRound steps.
template <class T>
struct Trace {
  int64_t pixel, left;             // where it began (row-major), steps to go
  Position<T> before, mark;        // one round ago; at an earlier round
  int64_t marked_at, renew_at;     // in steps to go: when the mark was set, and at how many it is renewed

  void begin(int64_t start, Position<T> p, int64_t num_steps) {
    *this = {start, num_steps, p, p, num_steps, num_steps - kRound};
  }

  // After a round that ended at `now`: drops whole turns of a cycle, if the trace has returned to an earlier position.
  void look(Position<T> now) {
    left -= kRound;
    if (now == before) {
      left %= kRound;
    } else if (now == mark) {
      left %= marked_at - left;
      marked_at = left;
    } else if (left <= renew_at) {
      renew_at = left - 2 * (marked_at - left);
      mark = now;
      marked_at = left;
    }
    before = now;
  }
};

// Follows the pixels `begin <= pixel < end` (row-major inside the true size) of one image. ends: its [2, h, w].
template <class T>
ALWAYS_INLINE void trace_pixels(const Field<T>& field, int32_t* ends, int64_t h, int64_t w, int64_t begin, int64_t end,
                                int64_t num_steps) {
  using Vector = typename Lanes<T>::Vector;
  const int64_t pitch = 2 * (int64_t(field.width) + 1);
  const Vector last = {T(field.height - 1), T(field.width - 1), T(0), T(0)};
  Vector position[kSlots] = {};
  Trace<T> traces[kSlots];
  int64_t next = begin;
  int active = 0;

  const auto start = [&](int slot) {
    traces[slot].pixel = -1;
    if (next == end) return;
    const Position<T> p{T(next / field.width), T(next % field.width)};
    traces[slot].begin(next++, p, num_steps);
    position[slot] = Vector{p.y, p.x, T(0), T(0)};
    ++active;
  };
  const auto finish = [&](int slot) {
    const Trace<T>& trace = traces[slot];
    for (int64_t i = 0; i < trace.left; ++i) step<T>(position[slot], field.pairs, pitch, last);
    int32_t* cell = ends + trace.pixel / field.width * w + trace.pixel % field.width;
    cell[0] = nearest_cell(position[slot][0]);
    cell[h * w] = nearest_cell(position[slot][1]);
    --active;
  };

  while (num_steps < kRound && next < end) {
    start(0);
    finish(0);
  }
  for (int slot = 0; slot < kSlots; ++slot) start(slot);
  while (active > 0) {
    for (int i = 0; i < kRound; ++i)
#pragma GCC unroll 8
      for (int slot = 0; slot < kSlots; ++slot) step<T>(position[slot], field.pairs, pitch, last);
    for (int slot = 0; slot < kSlots; ++slot) {
      if (traces[slot].pixel < 0) continue;
      traces[slot].look({position[slot][0], position[slot][1]});
      if (traces[slot].left >= kRound) continue;
      finish(slot);
      start(slot);
    }
  }
}

CPU_CLONES void trace_float(const Field<float>& field, int32_t* ends, int64_t h, int64_t w, int64_t begin, int64_t end,
                            int64_t num_steps) {
  trace_pixels(field, ends, h, w, begin, end, num_steps);
}
CPU_CLONES void trace_double(const Field<double>& field, int32_t* ends, int64_t h, int64_t w, int64_t begin,
                             int64_t end, int64_t num_steps) {
  trace_pixels(field, ends, h, w, begin, end, num_steps);
}
inline void trace_best(const Field<float>& field, int32_t* ends, int64_t h, int64_t w, int64_t begin, int64_t end,
                       int64_t num_steps) {
  trace_float(field, ends, h, w, begin, end, num_steps);
}
inline void trace_best(const Field<double>& field, int32_t* ends, int64_t h, int64_t w, int64_t begin, int64_t end,
                       int64_t num_steps) {
  trace_double(field, ends, h, w, begin, end, num_steps);
}

// Padding, and everything when there is no step to make, ends where it is.
void stay(int32_t* ends, int64_t h, int64_t w, int64_t y, int64_t x_first) {
  for (int64_t x = x_first; x < w; ++x) {
    ends[y * w + x] = static_cast<int32_t>(y);
    ends[(h + y) * w + x] = static_cast<int32_t>(x);
  }
}

}  // namespace

template <class T>
void trace_displacement_cpu(const T* displacement, const int32_t* sizes, int32_t* ends, int64_t B, int64_t h,
                            int64_t w, int64_t num_steps) {
  const int64_t plane = h * w, scratch = 2 * (h + 1) * (w + 1);
  std::vector<T> pairs(B * scratch);
  const auto field_of = [&](int64_t b) {
    return Field<T>{pairs.data() + b * scratch, true_length(sizes, b, 0, h), true_length(sizes, b, 1, w)};
  };
  parallel_for(0, B, 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const Field<T> field = field_of(b);
      if (field.height > 0 && field.width > 0)
        interleave(displacement + 2 * b * plane, pairs.data() + b * scratch, h, w, field.height, field.width);
    }
  });
  const int64_t tasks = (h + kTaskRows - 1) / kTaskRows;
  parallel_for_uneven(0, B * tasks, 1, [&](Pieces& pieces) {
    for (int64_t first, last; pieces.take(first, last);)
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / tasks, top = task % tasks * kTaskRows, bottom = std::min(top + kTaskRows, h);
        const Field<T> field = field_of(b);
        int32_t* out = ends + 2 * b * plane;
        const bool moves = num_steps > 0 && field.width > 0;
        for (int64_t y = top; y < bottom; ++y) stay(out, h, w, y, moves && y < field.height ? field.width : 0);
        const int64_t rows_end = std::min<int64_t>(bottom, field.height);
        if (moves && top < rows_end)
          trace_best(field, out, h, w, top * field.width, rows_end * field.width, num_steps);
      }
  });
}

template void trace_displacement_cpu(const float*, const int32_t*, int32_t*, int64_t, int64_t, int64_t, int64_t);
template void trace_displacement_cpu(const double*, const int32_t*, int32_t*, int64_t, int64_t, int64_t, int64_t);

}  // namespace wsis
