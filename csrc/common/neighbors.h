// Neighbour offsets of a half disc and the cells on the straight path to each (IRNet, section 4.1).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "common/macros.h"

namespace wsis {

constexpr int kMaxRadius = 16;  // 396 offsets with 8,736 path cells: the tables fit the parameters of a kernel launch

struct Cell {
  int8_t dy, dx;
};

// The P offsets of the half disc dy^2 + dx^2 < radius^2, (0, dx > 0) and (dy > 0, any dx), ordered by the number of
// path cells, then dy, then dx. The path of offset p is cells[start[p]] .. cells[start[p + 1] - 1]: every integer
// cell (y, x) of the bounding rectangle with (dy x - dx y)^2 < dy^2 + dx^2, both ends included, ordered by
// decreasing |y| + |x|, then y, then x, so that the first of several equal maxima receives the gradient.
struct PathTable {
  std::vector<Cell> offsets;   // [P]
  std::vector<uint16_t> start;  // [P + 1]
  std::vector<Cell> cells;

  int64_t size() const { return static_cast<int64_t>(offsets.size()); }
};

// What kernels read: the arrays of a PathTable (CPU) or of a PathParam (CUDA).
struct PathView {
  const Cell* offsets;
  const uint16_t* start;
  const Cell* cells;
  int size;

  HOST_DEVICE const Cell* path(int p) const { return cells + start[p]; }
  HOST_DEVICE int length(int p) const { return start[p + 1] - start[p]; }
};

inline PathView view(const PathTable& table) {
  return {table.offsets.data(), table.start.data(), table.cells.data(), static_cast<int>(table.size())};
}

// A PathTable by value, as a __grid_constant__ kernel parameter: no upload, uniform reads from the constant bank.
template <int kOffsets, int kCells>
struct PathParam {
  Cell offsets[kOffsets];
  Cell cells[kCells];
  uint16_t start[kOffsets + 1];
  int size;

  explicit PathParam(const PathTable& table) : size(static_cast<int>(table.size())) {
    std::copy(table.offsets.begin(), table.offsets.end(), offsets);
    std::copy(table.cells.begin(), table.cells.end(), cells);
    std::copy(table.start.begin(), table.start.end(), start);
  }
  HOST_DEVICE PathView view() const { return {offsets, start, cells, size}; }
};
using PathParam5 = PathParam<34, 242>;
using PathParam10 = PathParam<152, 2134>;
using PathParam16 = PathParam<396, 8736>;

inline std::vector<Cell> path_cells(int dy, int dx) {
  std::vector<Cell> path;
  const int x_first = std::min(dx, 0), x_last = std::max(dx, 0);
  for (int y = 0; y <= dy; ++y)
    for (int x = x_first; x <= x_last; ++x) {
      const int cross = dy * x - dx * y;
      if (cross * cross < dy * dy + dx * dx) path.push_back({static_cast<int8_t>(y), static_cast<int8_t>(x)});
    }
  std::stable_sort(path.begin(), path.end(), [](Cell a, Cell b) {
    return std::abs(a.dy) + std::abs(a.dx) > std::abs(b.dy) + std::abs(b.dx);
  });
  return path;
}

inline PathTable make_path_table(int radius) {
  struct Entry {
    Cell offset;
    std::vector<Cell> path;
  };
  std::vector<Entry> entries;
  for (int dy = 0; dy < radius; ++dy)
    for (int dx = dy == 0 ? 1 : 1 - radius; dx < radius; ++dx)
      if (dy * dy + dx * dx < radius * radius)
        entries.push_back({{static_cast<int8_t>(dy), static_cast<int8_t>(dx)}, path_cells(dy, dx)});
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.path.size() < b.path.size(); });
  PathTable table;
  table.start.push_back(0);
  for (const Entry& entry : entries) {
    table.offsets.push_back(entry.offset);
    table.cells.insert(table.cells.end(), entry.path.begin(), entry.path.end());
    table.start.push_back(static_cast<uint16_t>(table.cells.size()));
  }
  return table;
}

// The same, made once a process: a table of the largest radius takes longer than many a launch.
inline const PathTable& path_table(int radius) {
  static const auto tables = [] {
    std::array<PathTable, kMaxRadius + 1> made;
    for (int r = 1; r <= kMaxRadius; ++r) made[r] = make_path_table(r);
    return made;
  }();
  return tables[radius];
}

}  // namespace wsis
