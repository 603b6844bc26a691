// COCO run-length codes on the host: everything that comes from outside is checked before it is used.
// Malformed input throws std::invalid_argument; nothing here knows Python.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace wsis::host {

// Lengths of alternating runs of zeros and ones in column-major order, the first of zeros; they add up to h * w.
struct Rle {
  int64_t height = 0, width = 0;
  std::vector<int64_t> lengths;

  int64_t total() const { return height * width; }
};

// A run of ones [begin, end) in column-major positions.
struct Span {
  int64_t begin, end;
};

// 1 <= height, width <= 65536.
void check_size(int64_t height, int64_t width);
// No length below 0, and the sum is height * width. The size is checked too.
void check_lengths(const Rle& rle);

std::string encode(const std::vector<int64_t>& lengths);
Rle decode(std::string_view code, int64_t height, int64_t width);

// Ascending, not empty, not touching; the inverse is from_spans.
std::vector<Span> to_spans(const Rle& rle);
Rle from_spans(const std::vector<Span>& spans, int64_t height, int64_t width);

int64_t area(const std::vector<Span>& spans);
// x0, y0, x1, y1, ends exclusive; zeros for an empty mask.
std::array<int64_t, 4> box(const std::vector<Span>& spans, int64_t height);
int64_t intersection(const std::vector<Span>& a, const std::vector<Span>& b);
// Union or intersection of masks of one size.
std::vector<Span> merge(const std::vector<Span>& a, const std::vector<Span>& b, bool intersect);

// The rasteriser of the COCO tools: points [count, 2] of (x, y).
Rle from_polygon(const double* points, int64_t count, int64_t height, int64_t width);

}  // namespace wsis::host
