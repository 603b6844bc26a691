// trace_displacement: host functions and the step that CPU and GPU share.
#pragma once

#include <cmath>

#include "common/macros.h"

namespace wsis {

// displacement [B, 2, h, w] (y, x), sizes [B, 2] (height, width; at most h and w counts) or nullptr
//   -> ends [B, 2, h, w] int32 (y, x).
// T is float or double on the CPU, float on the GPU. h and w are under 2^24, so that float32 holds every coordinate.
template <class T>
void trace_displacement_cpu(const T* displacement, const int32_t* sizes, int32_t* ends, int64_t B, int64_t h,
                            int64_t w, int64_t num_steps);
int trace_displacement_cuda(const float* displacement, const int32_t* sizes, int32_t* ends, int64_t B, int64_t h,
                            int64_t w, int64_t num_steps, void* stream);

template <class T>
struct Position {
  T y, x;
};

// Height or width of image b: what the table says, but never more than the padded length.
HOST_DEVICE int32_t true_length(const int32_t* sizes, int64_t b, int axis, int64_t padded) {
  const auto most = static_cast<int32_t>(padded);
  return sizes && sizes[2 * b + axis] < most ? sizes[2 * b + axis] : most;
}

template <class T>
HOST_DEVICE bool operator==(Position<T> a, Position<T> b) {
  return a.y == b.y && a.x == b.x;
}

// 0 for a NaN, so that a position is always a place on the grid.
template <class T>
HOST_DEVICE T clamp_to(T v, T last) {
  v = v > T(0) ? v : T(0);
  return v < last ? v : last;
}

// Between a and b for any finite values; never fused, so that every machine gives the same bits.
template <class T>
HOST_DEVICE T mix(T a, T b, T f) {
  return (T(1) - f) * a + f * b;
}

// One move by the bilinearly sampled displacement (first along y, then along x), clamped to the grid.
// dy, dx: planes with row pitch w; height and width of the image inside them.
template <class T>
HOST_DEVICE Position<T> trace_step(Position<T> p, const T* dy, const T* dx, int64_t w, int32_t height, int32_t width) {
  const auto y0 = static_cast<int32_t>(p.y), x0 = static_cast<int32_t>(p.x);
  const int32_t y1 = y0 + 1 < height ? y0 + 1 : y0, x1 = x0 + 1 < width ? x0 + 1 : x0;
  const T fy = p.y - static_cast<T>(y0), fx = p.x - static_cast<T>(x0);
  const int64_t top = y0 * w, bottom = y1 * w;
  const T move_y = mix(mix(dy[top + x0], dy[bottom + x0], fy), mix(dy[top + x1], dy[bottom + x1], fy), fx);
  const T move_x = mix(mix(dx[top + x0], dx[bottom + x0], fy), mix(dx[top + x1], dx[bottom + x1], fy), fx);
  return {clamp_to(p.y + move_y, static_cast<T>(height - 1)), clamp_to(p.x + move_x, static_cast<T>(width - 1))};
}

// Recognises that a trace has come back to a position it held before, and then skips whole rounds: the position
// after all steps is exactly that of plain stepping. It compares with the last position (a rest) and with one that is
// renewed after 1, 2, 4, 8, ... steps, so that any cycle is found soon after it has begun (Brent 1980).
template <class T>
struct CycleWatch {
  Position<T> mark;
  int64_t marked_at = 0, renew_at = 1;

  // Steps that are still to be made after `step` of `num_steps` steps led from `before` to `now`.
  HOST_DEVICE int64_t remaining(Position<T> before, Position<T> now, int64_t step, int64_t num_steps) {
    if (now == before) return 0;
    if (now == mark) return (num_steps - step) % (step - marked_at);
    if (step == renew_at) {
      mark = now;
      marked_at = step;
      renew_at = 2 * step;
    }
    return num_steps - step;
  }
};

// Follows one pixel of one image for num_steps steps.
template <class T>
HOST_DEVICE Position<T> trace(Position<T> p, const T* dy, const T* dx, int64_t w, int32_t height, int32_t width,
                              int64_t num_steps) {
  CycleWatch<T> watch{p};
  for (int64_t step = 1; step <= num_steps; ++step) {
    const Position<T> next = trace_step(p, dy, dx, w, height, width);
    const int64_t left = watch.remaining(p, next, step, num_steps);
    p = next;
    if (left < num_steps - step) {
      for (int64_t i = 0; i < left; ++i) p = trace_step(p, dy, dx, w, height, width);
      break;
    }
  }
  return p;
}

// Half to even, as the default rounding mode of both machines.
template <class T>
HOST_DEVICE int32_t nearest_cell(T v) {
  return static_cast<int32_t>(rint(v));
}

}  // namespace wsis
