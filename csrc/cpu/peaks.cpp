#include "common/peaks.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "common/parallel.h"

namespace wsis {
namespace {

// out[i] = max(a[i], b[i]): every pass of the running maximum is this loop.
template <class T>
inline __attribute__((always_inline)) void maximum_body(const T* RESTRICT a, const T* RESTRICT b, T* RESTRICT out,
                                                        int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] > b[i] ? a[i] : b[i];
}
CPU_CLONES void maximum(const float* a, const float* b, float* out, int64_t count) { maximum_body(a, b, out, count); }
CPU_CLONES void maximum(const double* a, const double* b, double* out, int64_t count) {
  maximum_body(a, b, out, count);
}

// best[i] = max(best[i], row[i])
template <class T>
inline __attribute__((always_inline)) void extend_body(T* RESTRICT best, const T* RESTRICT row, int64_t count) {
  for (int64_t i = 0; i < count; ++i) best[i] = best[i] > row[i] ? best[i] : row[i];
}
CPU_CLONES void extend(float* best, const float* row, int64_t count) { extend_body(best, row, count); }
CPU_CLONES void extend(double* best, const double* row, int64_t count) { extend_body(best, row, count); }

// mask[i] = heat[i] is above the threshold and the highest of its window
template <class T>
inline __attribute__((always_inline)) void mark_body(const T* RESTRICT heat, const T* RESTRICT highest,
                                                     uint8_t* RESTRICT mask, int64_t count, T threshold) {
  for (int64_t i = 0; i < count; ++i) mask[i] = (heat[i] > threshold) & (heat[i] == highest[i]);
}
CPU_CLONES void mark(const float* heat, const float* highest, uint8_t* mask, int64_t count, float threshold) {
  mark_body(heat, highest, mask, count, threshold);
}
CPU_CLONES void mark(const double* heat, const double* highest, uint8_t* mask, int64_t count, double threshold) {
  mark_body(heat, highest, mask, count, threshold);
}

// Running maximum over 2 reach + 1 columns of one row: after each pass, a value covers twice as many columns from its
// own on, so the cost is log2(window) vectorised passes. from and to hold W + 2 reach values, the row stands in `from`
// between paddings of the lowest value; both are overwritten.
template <class T>
void row_maximum(T* from, T* to, int64_t W, int64_t reach, T* out) {
  const int64_t window = 2 * reach + 1;
  int64_t covered = 1, length = W + 2 * reach;
  for (; 2 * covered <= window; covered *= 2) {
    length -= covered;
    maximum(from, from + covered, to, length);
    std::swap(from, to);
  }
  maximum(from, from + window - covered, out, W);
}

// Running maximum over 2 reach + 1 rows of a whole plane (van Herk 1992, Gil and Werman 1993): rows in blocks of the
// window's length, suffix maxima of one block and prefix maxima of the next meet in every window. Each row costs three
// vectorised passes, whatever the window.
template <class T>
class ColumnMaximum {
 public:
  ColumnMaximum(int64_t W, int64_t reach, T lowest)
      : W_(W),
        reach_(reach),
        window_(2 * reach + 1),
        suffix_(window_ * W),
        prefix_(W),
        highest_(W),
        lowest_row_(W, lowest),
        ring_(2 * window_ * W) {}

  // make(y, row) writes row y, asked for once in order -> calls use(y, maximum) for every y in order; maximum [W] is
  // valid during the call. No more rows than two windows have are kept.
  template <class Make, class Use>
  void run(int64_t H, const Make& make, const Use& use) {
    int64_t made = 0;
    const auto row_at = [&](int64_t y) -> const T* {
      if (y < 0 || y >= H) return lowest_row_.data();
      for (; made <= y; ++made) make(made, ring(made));
      return ring(y);
    };
    for (int64_t first = -reach_; first + reach_ < H; first += window_) {
      // Windows that begin in this block: rows first .. first + window - 1.
      for (int64_t k = window_ - 1; k >= 0; --k) {
        const T* row = row_at(first + k);
        T* suffix = suffix_.data() + k * W_;
        if (k == window_ - 1)
          std::copy(row, row + W_, suffix);
        else
          maximum(row, suffix + W_, suffix, W_);
      }
      for (int64_t k = 0; k < window_ && first + k + reach_ < H; ++k) {
        const int64_t y = first + k + reach_;
        if (k == 0) {
          use(y, suffix_.data());
          continue;
        }
        const T* row = row_at(y + reach_);
        if (k == 1)
          std::copy(row, row + W_, prefix_.data());
        else
          extend(prefix_.data(), row, W_);
        maximum(suffix_.data() + k * W_, prefix_.data(), highest_.data(), W_);
        use(y, highest_.data());
      }
    }
  }

 private:
  T* ring(int64_t y) { return ring_.data() + y % (2 * window_) * W_; }

  int64_t W_, reach_, window_;
  std::vector<T> suffix_, prefix_, highest_, lowest_row_, ring_;
};

// heat, mask: [H, W] of one plane.
template <class T>
void plane_peaks(const T* heat, uint8_t* mask, int64_t H, int64_t W, int64_t reach, T threshold) {
  const T lowest = -std::numeric_limits<T>::infinity();
  std::vector<T> line(W + 2 * reach), other(W + 2 * reach);
  const auto make_row = [&](int64_t y, T* row) {
    std::fill(line.begin(), line.begin() + reach, lowest);
    for (int64_t x = 0; x < W; ++x) line[reach + x] = peak_height(heat[y * W + x], lowest);
    std::fill(line.begin() + reach + W, line.end(), lowest);
    row_maximum(line.data(), other.data(), W, reach, row);
  };
  ColumnMaximum<T>(W, reach, lowest).run(H, make_row, [&](int64_t y, const T* highest) {
    mark(heat + y * W, highest, mask + y * W, W, threshold);
  });
}

template <class T>
void confined_plane_peaks(const T* heat, const int32_t* ids, uint8_t* mask, int64_t H, int64_t W, int64_t reach,
                          T threshold) {
  for (int64_t y = 0; y < H; ++y)
    for (int64_t x = 0; x < W; ++x)
      mask[y * W + x] = is_confined_peak(heat, ids, H, W, y, x, reach, threshold);
}

}  // namespace

template <class T>
void peak_mask_cpu(const T* heatmap, const int32_t* ids, uint8_t* mask, int64_t B, int64_t C, int64_t H, int64_t W,
                   int window, T threshold) {
  parallel_for_uneven(0, B * C, 1, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t plane = begin; plane < end; ++plane) {
        const T* heat = heatmap + plane * H * W;
        uint8_t* marked = mask + plane * H * W;
        if (ids)
          confined_plane_peaks(heat, ids + plane / C * H * W, marked, H, W, window / 2, threshold);
        else
          plane_peaks(heat, marked, H, W, window / 2, threshold);
      }
  });
}

template void peak_mask_cpu(const float*, const int32_t*, uint8_t*, int64_t, int64_t, int64_t, int64_t, int, float);
template void peak_mask_cpu(const double*, const int32_t*, uint8_t*, int64_t, int64_t, int64_t, int64_t, int, double);

}  // namespace wsis
