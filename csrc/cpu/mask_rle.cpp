#include "common/mask_rle.h"

#include <algorithm>

#include "common/parallel.h"
#include "cpu/changes.h"

namespace wsis {
namespace {

// From `start` (column-major position) on, the pixels have this id.
struct Change {
  uint32_t start;
  int32_t id;
};

// Codes the runs of ones in `spans`, ascending and not touching, of an image with `total` pixels.
void append_code(const Span* spans, int64_t count, int64_t total, std::vector<uint8_t>& codes) {
  const size_t used = codes.size();
  codes.resize(used + kMaxCodeBytes * (2 * count + 1));
  uint8_t* out = codes.data() + used;
  for (int64_t k = 0; k < count; ++k) {
    int64_t values[3];
    const int numbers = span_values(spans, k, k + 1 == count, total, values);
    for (int v = 0; v < numbers; ++v) out += write_code(values[v], out);
  }
  codes.resize(out - codes.data());
}

class ImageCoder {
 public:
  explicit ImageCoder(const RleProblem& problem)
      : p_(problem), flags_(problem.W + kFlagPadding), first_of_id_(problem.capacity + 2) {}

  void code(int64_t b, ImageCodes& out) {
    height_ = p_.sizes ? p_.sizes[2 * b] : p_.H;
    width_ = p_.sizes ? p_.sizes[2 * b + 1] : p_.W;
    out.offset.push_back(0);
    if (height_ == 0 || width_ == 0) return;
    ids_ = p_.ids + b * p_.H * p_.W;
    find_changes();
    group_by_id();
    const int64_t total = height_ * width_;
    for (int64_t id = 1; id <= p_.capacity; ++id) {
      const int64_t first = first_of_id_[id - 1], count = first_of_id_[id] - first;
      if (count == 0) continue;
      append_code(spans_.data() + first, count, total, out.codes);
      out.id.push_back(id);
      out.offset.push_back(static_cast<int64_t>(out.codes.size()));
    }
  }

 private:
  // All changes in column-major order, found row by row (rows lie together in memory), then sorted by column.
  void find_changes() {
    by_row_.clear();
    first_of_column_.assign(width_ + 1, 0);
    add_change(0, 0);
    for (int64_t x = 1; x < width_; ++x)
      if (ids_[x] != ids_[(height_ - 1) * p_.W + x - 1]) add_change(0, x);
    for (int64_t y = 1; y < height_; ++y) {
      const auto* row = reinterpret_cast<const uint32_t*>(ids_ + y * p_.W);
      mark_changes(row - p_.W, row, width_, flags_.data());
      for_each_flag(flags_.data(), width_, [&](int64_t x) { add_change(y, x); });
    }
    for (int64_t x = 0; x < width_; ++x) first_of_column_[x + 1] += first_of_column_[x];
    changes_.resize(by_row_.size() + 1);
    for (auto change = by_row_.rbegin(); change != by_row_.rend(); ++change)
      changes_[--first_of_column_[change->start / height_ + 1]] = *change;
    changes_.back() = {static_cast<uint32_t>(height_ * width_), 0};
  }

  void add_change(int64_t y, int64_t x) {
    by_row_.push_back({static_cast<uint32_t>(x * height_ + y), ids_[y * p_.W + x]});
    ++first_of_column_[x + 1];
  }

  // spans_[first_of_id_[id - 1]] .. spans_[first_of_id_[id] - 1] are the runs of `id` in order.
  void group_by_id() {
    const int64_t runs = static_cast<int64_t>(changes_.size()) - 1;
    std::fill(first_of_id_.begin(), first_of_id_.end(), 0);
    for (int64_t k = 0; k < runs; ++k)
      if (known(changes_[k].id)) ++first_of_id_[changes_[k].id + 1];
    for (int64_t id = 1; id <= p_.capacity; ++id) first_of_id_[id + 1] += first_of_id_[id];
    spans_.resize(first_of_id_[p_.capacity + 1]);
    for (int64_t k = 0; k < runs; ++k)
      if (known(changes_[k].id)) spans_[first_of_id_[changes_[k].id]++] = {changes_[k].start, changes_[k + 1].start};
  }

  bool known(int32_t id) const { return id > 0 && id <= p_.capacity; }

  const RleProblem& p_;
  const int32_t* ids_ = nullptr;
  int64_t height_ = 0, width_ = 0;
  std::vector<uint8_t> flags_;
  std::vector<Change> by_row_, changes_;
  std::vector<Span> spans_;
  std::vector<int64_t> first_of_column_, first_of_id_;
};

}  // namespace

std::vector<ImageCodes> mask_rle_cpu(const RleProblem& problem) {
  std::vector<ImageCodes> images(problem.B);
  parallel_for_uneven(0, problem.B, 1, [&](Pieces& pieces) {
    ImageCoder coder(problem);
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t b = begin; b < end; ++b) coder.code(b, images[b]);
  });
  return images;
}

}  // namespace wsis
