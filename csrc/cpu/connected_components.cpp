#include "common/connected_components.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "cpu/changes.h"

namespace wsis {
namespace {

// A maximal stretch of equal labels in one row. parent is an index of a run of the same component that came no later;
// after numbering it holds the id.
struct Run {
  int32_t begin, end, parent;
};

// Growing array of runs without initialisation; room() makes space for a whole row before it is scanned.
class RunList {
 public:
  Run& operator[](int64_t i) { return data_[i]; }
  Run* data() { return data_.get(); }
  void room(int64_t used, int64_t more) {
    if (used + more <= capacity_) return;
    capacity_ = std::max(used + more, 2 * capacity_);
    std::unique_ptr<Run[]> larger(new Run[capacity_]);
    std::copy(data_.get(), data_.get() + used, larger.get());
    data_.swap(larger);
  }

 private:
  std::unique_ptr<Run[]> data_;
  int64_t capacity_ = 0;
};

int32_t find_root(Run* runs, int32_t i) {
  while (runs[i].parent != i) {
    runs[i].parent = runs[runs[i].parent].parent;
    i = runs[i].parent;
  }
  return i;
}

// Joins the runs [middle, end) of one row with the runs [begin, middle) of the row above. A root is the smallest index
// of its set: the run that holds the component's first pixel.
template <class T>
void join_rows(Run* runs, int32_t begin, int32_t middle, int32_t end, const T* above, const T* row, int32_t reach) {
  int32_t first = begin;
  for (int32_t j = middle; j < end; ++j) {
    const T label = row[runs[j].begin];
    const int32_t left = runs[j].begin - reach, right = runs[j].end + reach;
    while (first < middle && runs[first].end <= left) ++first;
    int32_t root = j;
    for (int32_t k = first; k < middle && runs[k].begin < right; ++k) {
      if (above[runs[k].begin] != label) continue;
      const int32_t other = find_root(runs, k);
      if (other < root) {
        runs[root].parent = other;
        root = other;
      } else {
        runs[other].parent = root;
      }
    }
    runs[j].parent = root;
  }
}

// Turns parents into ids from 1 in the order of the first runs; returns how many.
int32_t number_runs(Run* runs, int64_t size) {
  int32_t count = 0;
  for (int64_t r = 0; r < size; ++r) runs[r].parent = runs[r].parent == r ? ++count : runs[runs[r].parent].parent;
  return count;
}

// Writes `value` to [begin, end); may also write up to kSpill further cells before `limit`, which come later anyway.
constexpr int64_t kSpill = 8;
inline void fill_ahead(int32_t* row, int64_t begin, int64_t end, int64_t limit, int32_t value) {
  int32_t block[kSpill];
  for (int32_t& cell : block) cell = value;
  for (; begin < end && begin + kSpill <= limit; begin += kSpill) std::memcpy(row + begin, block, sizeof(block));
  for (; begin < end; ++begin) row[begin] = value;
}

CPU_CLONES void write_row(int32_t* ids, const Run* runs, int64_t count, int64_t W) {
  int64_t x = 0;
  for (int64_t r = 0; r < count; ++r) {
    fill_ahead(ids, x, runs[r].begin, W, 0);
    fill_ahead(ids, runs[r].begin, runs[r].end, W, runs[r].parent);
    x = runs[r].end;
  }
  fill_ahead(ids, x, W, W, 0);
}

// One image: runs of every row joined with those of the row above (union-find on runs), numbered, written.
template <class T>
class Labeler {
 public:
  explicit Labeler(const ComponentProblem<T>& problem)
      : problem_(problem), flags_(problem.W + kFlagPadding), row_start_(problem.H + 1) {}

  int32_t label(int64_t b) {
    const auto& p = problem_;
    const int64_t height = p.sizes ? p.sizes[2 * b] : p.H, width = p.sizes ? p.sizes[2 * b + 1] : p.W;
    const T* labels = p.labels + b * p.H * p.W;
    int64_t size = 0;
    for (int64_t y = 0; y < height; ++y) {
      row_start_[y] = static_cast<int32_t>(size);
      size = width > 0 ? scan_row(labels + y * p.W, width, size) : size;
      const int64_t above = std::max<int64_t>(y - 1, 0);
      join_rows(runs_.data(), row_start_[above], row_start_[y], static_cast<int32_t>(size), labels + above * p.W,
                labels + y * p.W, p.diagonal ? 1 : 0);
    }
    std::fill(row_start_.begin() + height, row_start_.end(), static_cast<int32_t>(size));
    const int32_t count = number_runs(runs_.data(), size);
    int32_t* ids = p.ids + b * p.H * p.W;
    for (int64_t y = 0; y < p.H; ++y) {
      const int32_t begin = row_start_[y], end = row_start_[y + 1];
      write_row(ids + y * p.W, runs_.data() + begin, end - begin, p.W);
    }
    return count;
  }

 private:
  int64_t scan_row(const T* row, int64_t width, int64_t size) {
    runs_.room(size, width);
    Run* runs = runs_.data();
    for_each_run(row, width, flags_.data(), [&](int64_t begin, int64_t end) {
      runs[size] = {static_cast<int32_t>(begin), static_cast<int32_t>(end), static_cast<int32_t>(size)};
      size += !problem_.is_background(row[begin]);
    });
    return size;
  }

  const ComponentProblem<T>& problem_;
  std::vector<uint8_t> flags_;
  std::vector<int32_t> row_start_;
  RunList runs_;
};

}  // namespace

template <class T>
void connected_components_cpu(const ComponentProblem<T>& problem) {
  parallel_for_uneven(0, problem.B, 1, [&](Pieces& pieces) {
    Labeler<T> labeler(problem);
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t b = begin; b < end; ++b) problem.counts[b] = labeler.label(b);
  });
}

template void connected_components_cpu(const ComponentProblem<uint8_t>&);
template void connected_components_cpu(const ComponentProblem<uint16_t>&);
template void connected_components_cpu(const ComponentProblem<uint32_t>&);
template void connected_components_cpu(const ComponentProblem<uint64_t>&);

}  // namespace wsis
