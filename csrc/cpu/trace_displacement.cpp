#include "common/trace_displacement.h"

#include "common/parallel.h"

namespace wsis {
namespace {

// displacement, ends: [2, h, w] of one image; follows the pixels of row y.
template <class T>
void trace_row(const T* displacement, int32_t* ends, int64_t h, int64_t w, int64_t y, int32_t height, int32_t width,
               int64_t num_steps) {
  const T *dy = displacement, *dx = displacement + h * w;
  for (int64_t x = 0; x < w; ++x) {
    Position<T> p{static_cast<T>(y), static_cast<T>(x)};
    if (y < height && x < width) p = trace(p, dy, dx, w, height, width, num_steps);
    ends[y * w + x] = nearest_cell(p.y);
    ends[(h + y) * w + x] = nearest_cell(p.x);
  }
}

}  // namespace

template <class T>
void trace_displacement_cpu(const T* displacement, const int32_t* sizes, int32_t* ends, int64_t B, int64_t h,
                            int64_t w, int64_t num_steps) {
  parallel_for(0, B * h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / h, plane = b * 2 * h * w;
      const auto height = static_cast<int32_t>(sizes ? sizes[2 * b] : h);
      const auto width = static_cast<int32_t>(sizes ? sizes[2 * b + 1] : w);
      trace_row(displacement + plane, ends + plane, h, w, row % h, height, width, num_steps);
    }
  });
}

template void trace_displacement_cpu(const float*, const int32_t*, int32_t*, int64_t, int64_t, int64_t, int64_t);
template void trace_displacement_cpu(const double*, const int32_t*, int32_t*, int64_t, int64_t, int64_t, int64_t);

}  // namespace wsis
