#include "common/inter_pixel_loss.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "common/parallel.h"

namespace wsis {
namespace {

constexpr int64_t kBandRows = 64;  // rows of sources a task takes at most
constexpr int64_t kLeastRows = 16;

// While the offsets of one row of sources are visited, a cell counts its pairs of the three kinds in one word, ten
// bits each. One path cell adds at most one to a cell, so 1023 path cells fit between two unpackings.
constexpr int32_t kBackgroundOne = 1, kForegroundOne = 1 << 10, kDifferentOne = 1 << 20;
constexpr int kPackLimit = 1023;

#define ALWAYS_INLINE inline __attribute__((always_inline))

// The sources of some rows of one image and what they count. Rows of the sums begin at row `first` of the image.
template <class T>
struct Band {
  const T *logits, *dy, *dx;
  const uint8_t* seeds;
  int64_t w, first;
  int32_t *packed, *same, *different, *sign_y, *sign_x;  // rows of w
};

// For one row of sources, one entry for each.
template <class T>
struct RowScratch {
  T* maximum;
  int32_t *code, *own_y, *own_x, *offset_sum;
};

// -1 where the condition holds, so that `&` selects: without branches the loops below become vector code.
ALWAYS_INLINE int32_t mask_if(bool condition) { return -static_cast<int32_t>(condition); }

// Labels the pairs of one offset: code[x] counts one pair of its kind, or is 0.
ALWAYS_INLINE void label_pairs(const uint8_t* RESTRICT source, const uint8_t* RESTRICT target, int32_t* RESTRICT code,
                               int64_t n) {
  for (int64_t x = 0; x < n; ++x) {
    const int32_t s = source[x], t = target[x];
    const int32_t equal = mask_if(s == t), background = mask_if(s == 0);
    const int32_t same = (background & kBackgroundOne) | (~background & kForegroundOne);
    const int32_t known = mask_if(s != kIgnoreSeed) & mask_if(t != kIgnoreSeed);
    code[x] = known & ((equal & same) | (~equal & kDifferentOne));
  }
}

// Adds the signs of the displacement residuals to both ends of every pair of equal seeds, and sign * offset of the
// foreground pairs to offset_sum.
template <class T>
ALWAYS_INLINE void add_signs(const T* RESTRICT source, const T* RESTRICT target, const int32_t* RESTRICT code,
                             int32_t offset, int32_t* RESTRICT source_sum, int32_t* RESTRICT target_sum,
                             int32_t* RESTRICT offset_sum, int64_t n) {
  for (int64_t x = 0; x < n; ++x) {
    const int32_t foreground = mask_if(code[x] == kForegroundOne), background = mask_if(code[x] == kBackgroundOne);
    const T residual = source[x] - target[x] - static_cast<T>(foreground & offset);
    const int32_t s = (mask_if(residual < T(0)) - mask_if(residual > T(0))) & (foreground | background);
    source_sum[x] += s;
    target_sum[x] -= s;
    offset_sum[x] += s * (foreground & offset);
  }
}

template <class T>
ALWAYS_INLINE void path_maximum_row(const T* RESTRICT cell, T* RESTRICT maximum, int64_t n) {
  for (int64_t x = 0; x < n; ++x) maximum[x] = cell[x] > maximum[x] ? cell[x] : maximum[x];
}

// Hands the pairs whose maximum this cell of the path holds to it; a pair that was handed over is 0 from then on, so
// the first of equal cells receives it.
template <class T>
ALWAYS_INLINE void count_row(const T* RESTRICT cell, const T* RESTRICT maximum, int32_t* RESTRICT code,
                             int32_t* RESTRICT count, int64_t n) {
  for (int64_t x = 0; x < n; ++x) {
    const int32_t taken = code[x] & mask_if(cell[x] == maximum[x]);
    count[x] += taken;
    code[x] ^= taken;
  }
}

ALWAYS_INLINE void unpack_counts(int32_t* RESTRICT packed, int32_t* RESTRICT same, int32_t* RESTRICT different,
                                 int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const int32_t word = packed[i];
    same[i] += PairState::pack_counts(word & 1023, word >> 10 & 1023);
    different[i] += word >> 20;
    packed[i] = 0;
  }
}

// All pairs whose source lies in row y; returns the sum of sign * offset.
template <class T>
ALWAYS_INLINE int64_t count_sources(const Band<T>& band, const PathView& paths, int radius, int64_t y,
                                    const RowScratch<T>& row) {
  const int64_t w = band.w, n = w - 2 * (radius - 1), source = y * w + radius - 1;
  const int64_t base = (y - band.first) * w, own = base + radius - 1;
  for (int32_t* sum : {row.own_y, row.own_x, row.offset_sum}) std::fill_n(sum, n, 0);
  int packed_cells = 0;
  for (int p = 0; p < paths.size; ++p) {
    const Cell offset = paths.offsets[p], *path = paths.path(p);
    const int length = paths.length(p);
    const int64_t to = offset.dy * w + offset.dx;
    label_pairs(band.seeds + source, band.seeds + source + to, row.code, n);
    add_signs(band.dy + source, band.dy + source + to, row.code, offset.dy, row.own_y, band.sign_y + own + to,
              row.offset_sum, n);
    add_signs(band.dx + source, band.dx + source + to, row.code, offset.dx, row.own_x, band.sign_x + own + to,
              row.offset_sum, n);
    std::copy_n(band.logits + source, n, row.maximum);
    for (int k = 0; k < length; ++k)
      path_maximum_row(band.logits + source + path[k].dy * w + path[k].dx, row.maximum, n);
    if (packed_cells + length > kPackLimit) {
      unpack_counts(band.packed + base, band.same + base, band.different + base, radius * w);
      packed_cells = 0;
    }
    packed_cells += length;
    for (int k = 0; k < length; ++k) {
      const int64_t cell = path[k].dy * w + path[k].dx;
      count_row(band.logits + source + cell, row.maximum, row.code, band.packed + own + cell, n);
    }
  }
  unpack_counts(band.packed + base, band.same + base, band.different + base, radius * w);
  int64_t offset_sum = 0;
  for (int64_t x = 0; x < n; ++x) {
    band.sign_y[own + x] += row.own_y[x];
    band.sign_x[own + x] += row.own_x[x];
    offset_sum += row.offset_sum[x];
  }
  return offset_sum;
}

CPU_CLONES int64_t count_sources_float(const Band<float>& band, const PathView& paths, int radius, int64_t y,
                                       const RowScratch<float>& row) {
  return count_sources(band, paths, radius, y, row);
}
CPU_CLONES int64_t count_sources_double(const Band<double>& band, const PathView& paths, int radius, int64_t y,
                                        const RowScratch<double>& row) {
  return count_sources(band, paths, radius, y, row);
}
inline int64_t count_sources_best(const Band<float>& band, const PathView& paths, int radius, int64_t y,
                                  const RowScratch<float>& row) {
  return count_sources_float(band, paths, radius, y, row);
}
inline int64_t count_sources_best(const Band<double>& band, const PathView& paths, int radius, int64_t y,
                                  const RowScratch<double>& row) {
  return count_sources_double(band, paths, radius, y, row);
}

// The sources of rows begin..end of one image. Neighbouring bands share radius - 1 rows of cells, so the state is
// added to under the image's lock; whole numbers do not mind in which order.
template <class T>
int64_t count_band(const T* logits, const T* displacement, const uint8_t* seeds, int32_t* state, int64_t h, int64_t w,
                   const PathView& paths, int radius, int64_t begin, int64_t end, std::mutex& lock) {
  const int64_t plane = h * w, cells = (end - begin + radius - 1) * w;
  std::vector<int32_t> sums(5 * cells, 0), integers(4 * w);
  std::vector<T> maximum(w);
  int32_t* s = sums.data();
  const Band<T> band{logits, displacement, displacement + plane, seeds, w, begin, s, s + cells, s + 2 * cells,
                     s + 3 * cells, s + 4 * cells};
  int32_t* i = integers.data();
  const RowScratch<T> row{maximum.data(), i, i + w, i + 2 * w, i + 3 * w};
  int64_t offset_sum = 0;
  for (int64_t y = begin; y < end; ++y) offset_sum += count_sources_best(band, paths, radius, y, row);

  const std::lock_guard<std::mutex> guard(lock);
  int32_t* out = state + begin * w;
  for (int64_t c = 0; c < cells; ++c) {
    out[c] += band.same[c];
    out[plane + c] += band.different[c];
    out[2 * plane + c] += PairState::pack_signs(band.sign_y[c], band.sign_x[c]);
  }
  return offset_sum;
}

// Counts the pairs of all images into `state` and returns the sum of sign * offset over the foreground pairs.
template <class T>
int64_t count_pairs(const T* logits, const T* displacement, const uint8_t* seeds, int32_t* state, int64_t B, int64_t h,
                    int64_t w, int radius) {
  const int64_t sources = h - radius + 1, plane = h * w;
  if (sources <= 0 || w - 2 * (radius - 1) <= 0) return 0;
  const PathTable table = make_path_table(radius);
  const PathView paths = view(table);
  const int64_t share = (B * sources + num_threads() - 1) / num_threads();
  const int64_t rows = std::clamp(share, kLeastRows, kBandRows), bands = (sources + rows - 1) / rows;
  const auto locks = std::make_unique<std::mutex[]>(B);
  std::vector<int64_t> offset_sums(B * bands);
  parallel_for(0, B * bands, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t b = task / bands, begin = task % bands * rows, end = std::min(begin + rows, sources);
      offset_sums[task] = count_band(logits + b * plane, displacement + 2 * b * plane, seeds + b * plane,
                                     state + kStateWords * b * plane, h, w, paths, radius, begin, end, locks[b]);
    }
  });
  return std::accumulate(offset_sums.begin(), offset_sums.end(), int64_t{0});
}

}  // namespace

template <class T>
void inter_pixel_loss_cpu(const T* logits, const T* displacement, const uint8_t* seeds, int32_t* state, T* losses,
                          int64_t* counts, int64_t B, int64_t h, int64_t w, int radius) {
  const int64_t offset_sum = count_pairs(logits, displacement, seeds, state, B, h, w, radius), plane = h * w;
  std::vector<LossTerms> rows(B * h);
  parallel_for(0, B * h, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t b = r / h, at = r % h * w;
      const T *logit = logits + b * plane + at, *dy = displacement + 2 * b * plane + at, *dx = dy + plane;
      const int32_t* cell = state + kStateWords * b * plane + at;
      for (int64_t x = 0; x < w; ++x)
        rows[r].add_cell(PairState::unpack(cell + x, plane), logit[x], dy[x], dx[x], seeds[b * plane + at + x]);
    }
  });
  LossTerms sum;
  for (const LossTerms& row : rows) sum.add(row.sum);
  sum.finish(offset_sum, losses, counts);
}

template <class T>
void inter_pixel_loss_backward_cpu(const T* grad_losses, const T* logits, const uint8_t* seeds, const int32_t* state,
                                   const int64_t* counts, T* grad_logits, T* grad_displacement, int64_t B, int64_t h,
                                   int64_t w) {
  const LossGradient gradient = LossGradient::make(grad_losses, counts);
  const int64_t plane = h * w;
  parallel_for(0, B * h, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * w; i < end * w; ++i) {
      const int64_t b = i / plane, at = i % plane;
      const PairState cell = PairState::unpack(state + kStateWords * b * plane + at, plane);
      T* moved = grad_displacement + 2 * b * plane + at;
      grad_logits[i] = static_cast<T>(gradient.logit(cell, logits[i]));
      moved[0] = static_cast<T>(gradient.displacement(cell.sign_y, seeds[i]));
      moved[plane] = static_cast<T>(gradient.displacement(cell.sign_x, seeds[i]));
    }
  });
}

#define WSIS_INSTANTIATE(T)                                                                                         \
  template void inter_pixel_loss_cpu(const T*, const T*, const uint8_t*, int32_t*, T*, int64_t*, int64_t, int64_t,  \
                                     int64_t, int);                                                                 \
  template void inter_pixel_loss_backward_cpu(const T*, const T*, const uint8_t*, const int32_t*, const int64_t*,   \
                                              T*, T*, int64_t, int64_t, int64_t);
WSIS_INSTANTIATE(float)
WSIS_INSTANTIATE(double)

}  // namespace wsis
