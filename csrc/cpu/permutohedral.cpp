#include "cpu/permutohedral.h"

#include <algorithm>
#include <limits>

namespace wsis {
namespace {

// Open addressing with linear probing; vertices are numbered as they come.
class VertexTable {
 public:
  explicit VertexTable(int64_t expected) {
    int bits = 12;
    while ((int64_t{1} << bits) < 2 * expected && bits < 40) ++bits;
    resize(bits);
  }

  void prefetch(uint64_t key) const { __builtin_prefetch(&slots_[key_hash(key) >> shift_]); }

  int32_t find(uint64_t key) const {
    for (uint64_t slot = key_hash(key) >> shift_;; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].id;
      if (slots_[slot].key == kNoKey) return -1;
    }
  }

  int32_t insert(uint64_t key) {
    uint64_t slot = key_hash(key) >> shift_;
    for (; slots_[slot].key != kNoKey; slot = (slot + 1) & mask_)
      if (slots_[slot].key == key) return slots_[slot].id;
    const int32_t id = static_cast<int32_t>(keys_.size());
    slots_[slot] = {key, id};
    keys_.push_back(key);
    if (2 * keys_.size() > slots_.size()) grow();
    return id;
  }

  const std::vector<uint64_t>& keys() const { return keys_; }

 private:
  struct Slot {
    uint64_t key;
    int32_t id;
  };

  void resize(int bits) {
    assign_large(slots_, size_t{1} << bits, Slot{kNoKey, -1});
    reserve_large(keys_, slots_.size() / 2 + 1);
    mask_ = (uint64_t{1} << bits) - 1;
    shift_ = 64 - bits;
  }

  void grow() {
    resize(65 - shift_);
    for (size_t id = 0; id < keys_.size(); ++id) {
      uint64_t slot = key_hash(keys_[id]) >> shift_;
      while (slots_[slot].key != kNoKey) slot = (slot + 1) & mask_;
      slots_[slot] = {keys_[id], static_cast<int32_t>(id)};
    }
  }

  std::vector<Slot> slots_;
  std::vector<uint64_t> keys_;
  uint64_t mask_ = 0;
  int shift_ = 64;
};

constexpr int kChunk = 64;     // pixels located before their vertices are looked up
constexpr size_t kAhead = 12;  // lookups between fetching a slot and reading it

template <int D>
inline __attribute__((always_inline)) void locate_chunk(const CrfFeatures<D>& features, const PixelSource& source,
                                                        int y, int x, int count, Simplex<D>* out) {
  for (int i = 0; i < count; ++i) {
    uint8_t rgb[3] = {0, 0, 0};
    if (D > 2)
      for (int c = 0; c < 3; ++c) rgb[c] = source.image[c * source.plane + y * source.stride + x + i];
    crf_locate<D>(features, y, x + i, rgb, out[i]);
  }
}

CPU_CLONES void locate_chunk2(const CrfFeatures<2>& features, const PixelSource& source, int y, int x, int count,
                              Simplex<2>* out) {
  locate_chunk<2>(features, source, y, x, count, out);
}
CPU_CLONES void locate_chunk5(const CrfFeatures<5>& features, const PixelSource& source, int y, int x, int count,
                              Simplex<5>* out) {
  locate_chunk<5>(features, source, y, x, count, out);
}

// The runs of vertices along one axis.
template <int D>
std::vector<int32_t> axis_runs(const VertexTable& table, int axis) {
  const std::vector<uint64_t>& keys = table.keys();
  const size_t count = keys.size();
  std::vector<int32_t> next, runs;
  assign_large(next, count, 0);
  reserve_large(runs, count);
  std::vector<uint8_t> has_previous(count, 0);
  for (size_t v = 0; v < count; ++v) {
    if (v + kAhead < count) table.prefetch(next_key<D>(keys[v + kAhead], axis));
    next[v] = table.find(next_key<D>(keys[v], axis));
    if (next[v] >= 0) has_previous[static_cast<size_t>(next[v])] = 1;
  }
  for (size_t v = 0; v < count; ++v) {
    if (has_previous[v] || next[v] < 0) continue;
    int32_t at = static_cast<int32_t>(v);
    for (; next[static_cast<size_t>(at)] >= 0; at = next[static_cast<size_t>(at)]) runs.push_back(at);
    runs.push_back(~at);
  }
  return runs;
}

void sort_entries(Lattice& lattice) {
  const int64_t count = lattice.pixels * lattice.corners;
  lattice.entry_start.assign(static_cast<size_t>(lattice.vertices + 1), 0);
  lattice.entries.resize(static_cast<size_t>(count));
  for (int64_t e = 0; e < count; ++e) ++lattice.entry_start[static_cast<size_t>(lattice.ids[e] + 1)];
  for (int64_t v = 0; v < lattice.vertices; ++v)
    lattice.entry_start[static_cast<size_t>(v + 1)] += lattice.entry_start[static_cast<size_t>(v)];
  std::vector<int64_t> at(lattice.entry_start.begin(), lattice.entry_start.end() - 1);
  for (int64_t e = 0; e < count; ++e)
    lattice.entries[static_cast<size_t>(at[static_cast<size_t>(lattice.ids[e])]++)] = static_cast<int32_t>(e);
}

// G(1) with rows of one value, four wide.
void normalize(Lattice& lattice) {
  constexpr int kWidth = 4;
  std::vector<float> values;
  assign_large(values, static_cast<size_t>(lattice.vertices * kWidth), 0.0f);
  std::vector<float> rows(kChunk * kWidth, 1.0f);
  std::fill(lattice.norm.data(), lattice.norm.data() + lattice.pixels + kNormPadding, 1.0f);
  for (int64_t p = 0; p < lattice.pixels; p += kChunk)
    splat(lattice, p, std::min<int64_t>(kChunk, lattice.pixels - p), rows.data(), kWidth, values.data());
  for (int axis = 0; axis < lattice.corners; ++axis)
    blur_axis(lattice, axis, 0, static_cast<int64_t>(lattice.runs[static_cast<size_t>(axis)].size()), kWidth,
              values.data());
  for (int64_t p = 0; p < lattice.pixels; p += kChunk) {
    const int64_t count = std::min<int64_t>(kChunk, lattice.pixels - p);
    slice(lattice, p, count, values.data(), kWidth, rows.data());
    for (int64_t i = 0; i < count; ++i) lattice.norm[p + i] = crf_norm(rows[static_cast<size_t>(i * kWidth)]);
  }
}

template <int D, class Locate>
Lattice build(const PixelSource& source, const CrfFeatures<D>& features, bool split, const Locate& locate_pixels) {
  Lattice lattice;
  lattice.corners = D + 1;
  lattice.pixels = static_cast<int64_t>(source.h) * source.w;
  lattice.ids = Buffer<int32_t>(lattice.pixels * (D + 1));
  lattice.weights = Buffer<float>(lattice.pixels * (D + 1));
  lattice.norm = Buffer<float>(lattice.pixels + kNormPadding);
  VertexTable table(lattice.pixels / 8);
  Simplex<D> chunk[kChunk];
  // Neighbouring pixels share most of their vertices, and vertex k of one is vertex k of the other.
  uint64_t last_key[D + 1];
  int32_t last_id[D + 1];
  std::fill(last_key, last_key + D + 1, kNoKey);
  for (int y = 0; y < source.h; ++y)
    for (int x = 0; x < source.w; x += kChunk) {
      const int count = std::min(kChunk, source.w - x);
      locate_pixels(features, source, y, x, count, chunk);
      for (int i = 1; i < count; ++i)
        for (int k = 0; k <= D; ++k)
          if (chunk[i].key[k] != chunk[i - 1].key[k]) table.prefetch(chunk[i].key[k]);
      const int64_t first = (static_cast<int64_t>(y) * source.w + x) * (D + 1);
      for (int i = 0; i < count; ++i)
        for (int k = 0; k <= D; ++k) {
          if (chunk[i].key[k] != last_key[k]) {
            last_key[k] = chunk[i].key[k];
            last_id[k] = table.insert(last_key[k]);
          }
          lattice.ids[first + i * (D + 1) + k] = last_id[k];
          lattice.weights[first + i * (D + 1) + k] = chunk[i].weight[k];
        }
    }
  lattice.vertices = static_cast<int64_t>(table.keys().size());
  for (int axis = 0; axis <= D; ++axis) lattice.runs.push_back(axis_runs<D>(table, axis));
  normalize(lattice);
  if (split) sort_entries(lattice);
  return lattice;
}

}  // namespace

Lattice build_spatial_lattice(const PixelSource& source, float sxy, bool split) {
  return build<2>(source, crf_features<2>(sxy, 1.0f), split, locate_chunk2);
}

Lattice build_bilateral_lattice(const PixelSource& source, float sxy, float srgb, bool split) {
  return build<5>(source, crf_features<5>(sxy, srgb), split, locate_chunk5);
}

}  // namespace wsis
