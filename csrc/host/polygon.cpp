// Polygons to masks by the rule of the COCO tools: vertices are rounded to a grid five times finer, every edge is
// walked cell by cell on it, and where the walk passes the centre line of a column of pixels, the mask changes there.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "host/rle.h"

namespace wsis::host {
namespace {

constexpr int kFine = 5;
constexpr double kMaxCoordinate = 131072;
constexpr int64_t kMaxWalk = int64_t(1) << 28;  // fine cells; a spiral that fills a 16k image takes half of it

struct FinePoint {
  int x, y;
};

FinePoint round_to_fine(const double* point) {
  for (int k = 0; k < 2; ++k)
    if (!(std::fabs(point[k]) <= kMaxCoordinate))
      throw std::invalid_argument("points must be finite and within 131072 of 0, got " + std::to_string(point[k]));
  return {static_cast<int>(kFine * point[0] + .5), static_cast<int>(kFine * point[1] + .5)};
}

int walk_length(FinePoint a, FinePoint b) { return std::max(std::abs(a.x - b.x), std::abs(a.y - b.y)); }

// Collects the column-major positions at which the outline enters or leaves the mask.
class Outline {
 public:
  Outline(int64_t height, int64_t width) : height_(height), width_(width) {}

  void edge(FinePoint from, FinePoint to) {
    const int dx = std::abs(to.x - from.x), dy = std::abs(to.y - from.y);
    const bool flat = dx >= dy, backward = flat ? from.x > to.x : from.y > to.y;
    if (backward) std::swap(from, to);
    const int steps = std::max(dx, dy);
    // The step is interpolated from the lower end in either direction, so that shared edges of polygons agree.
    const double slope = steps == 0 ? 0 : flat ? double(to.y - from.y) / dx : double(to.x - from.x) / dy;
    for (int k = 0; k <= steps; ++k) {
      const int t = backward ? steps - k : k;
      if (flat)
        visit({from.x + t, static_cast<int>(from.y + slope * t + .5)});
      else
        visit({static_cast<int>(from.x + slope * t + .5), from.y + t});
    }
  }

  Rle mask() {
    std::sort(positions_.begin(), positions_.end());
    std::vector<Span> spans;
    bool inside = false;
    for (size_t i = 0; i < positions_.size();) {
      size_t next = i;
      while (next < positions_.size() && positions_[next] == positions_[i]) ++next;
      if ((next - i) % 2 == 1) {  // pairs cancel
        if (inside)
          spans.back().end = positions_[i];
        else if (positions_[i] < height_ * width_)
          spans.push_back({positions_[i], height_ * width_});
        inside = !inside;
      }
      i = next;
    }
    return from_spans(spans, height_, width_);
  }

 private:
  void visit(FinePoint point) {
    if (started_ && point.x != last_.x) cross(point.x < last_.x ? point.x : point.x - 1, std::min(point.y, last_.y));
    last_ = point;
    started_ = true;
  }

  // The walk goes between the fine columns x and x + 1; the centre of a pixel column lies between 5n + 2 and 5n + 3.
  void cross(int x, int y) {
    const int column = x / kFine;
    if (x < 0 || x % kFine != kFine / 2 || column >= width_) return;
    const double row = (y + .5) / kFine - .5;
    const double first = std::ceil(std::clamp(row, 0.0, static_cast<double>(height_)));
    positions_.push_back(column * height_ + static_cast<int64_t>(first));
  }

  int64_t height_, width_;
  std::vector<int64_t> positions_;
  FinePoint last_{};
  bool started_ = false;
};

}  // namespace

Rle from_polygon(const double* points, int64_t count, int64_t height, int64_t width) {
  check_size(height, width);
  if (count < 3) throw std::invalid_argument("points must be at least 3, got " + std::to_string(count));
  std::vector<FinePoint> fine(count + 1);
  for (int64_t i = 0; i < count; ++i) fine[i] = round_to_fine(points + 2 * i);
  fine[count] = fine[0];
  int64_t walk = 0;
  for (int64_t i = 0; i < count; ++i) walk += walk_length(fine[i], fine[i + 1]) + 1;
  if (walk > kMaxWalk)
    throw std::invalid_argument("points must have an outline of at most 53 million pixels, got " +
                                std::to_string(walk / kFine));
  Outline outline(height, width);
  for (int64_t i = 0; i < count; ++i) outline.edge(fine[i], fine[i + 1]);
  return outline.mask();
}

}  // namespace wsis::host
