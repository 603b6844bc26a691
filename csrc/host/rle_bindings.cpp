// Python side of csrc/host/rle.h. A mask travels as a tuple (height, width, counts), counts being the compressed bytes
// or an int64 array of lengths; wsis/data/rle.py makes these tuples from whatever the user has.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <stdexcept>

#include "host/host.h"
#include "host/rle.h"

namespace py = pybind11;

namespace wsis::host {
namespace {

using Lengths = py::array_t<int64_t, py::array::c_style>;

std::vector<int64_t> copy_lengths(const Lengths& lengths) {
  if (lengths.ndim() != 1) throw std::invalid_argument("counts must be one list, got a nested one");
  return {lengths.data(), lengths.data() + lengths.size()};
}

Rle read_rle(const py::handle& item) {
  const auto fields = py::cast<py::tuple>(item);
  const auto height = py::cast<int64_t>(fields[0]), width = py::cast<int64_t>(fields[1]);
  if (py::isinstance<py::bytes>(fields[2])) {
    const py::bytes code = fields[2];
    return decode(static_cast<std::string_view>(code), height, width);
  }
  Rle rle{height, width, copy_lengths(py::cast<Lengths>(fields[2]))};
  check_lengths(rle);
  return rle;
}

std::vector<Rle> read_rles(const py::list& items, const std::string& name) {
  std::vector<Rle> rles;
  rles.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    try {
      rles.push_back(read_rle(items[i]));
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(name + "[" + std::to_string(i) + "]: " + error.what());
    }
  }
  return rles;
}

struct Mask {
  std::vector<Span> spans;
  std::array<int64_t, 4> box;
  int64_t area;

  explicit Mask(const Rle& rle) : spans(to_spans(rle)), box(host::box(spans, rle.height)), area(host::area(spans)) {}
};

std::vector<Mask> make_masks(const std::vector<Rle>& rles) { return {rles.begin(), rles.end()}; }

bool boxes_meet(const Mask& a, const Mask& b) {
  return a.box[0] < b.box[2] && b.box[0] < a.box[2] && a.box[1] < b.box[3] && b.box[1] < a.box[3];
}

void check_one_size(const std::vector<Rle>& rles, const Rle& first, const std::string& name) {
  for (size_t i = 0; i < rles.size(); ++i)
    if (rles[i].height != first.height || rles[i].width != first.width)
      throw std::invalid_argument(name + "[" + std::to_string(i) + "]: size must be that of the first mask, (" +
                                  std::to_string(first.height) + ", " + std::to_string(first.width) + "), got (" +
                                  std::to_string(rles[i].height) + ", " + std::to_string(rles[i].width) + ")");
}

py::bytes rle_encode(const Lengths& lengths) {
  const std::vector<int64_t> values = copy_lengths(lengths);
  for (const int64_t value : values)
    if (value < 0 || value > int64_t(1) << 32)
      throw std::invalid_argument("counts must be 0..2^32, got " + std::to_string(value));
  return py::bytes(encode(values));
}

py::array_t<int64_t> to_array(const std::vector<int64_t>& values) {
  return py::array_t<int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::array_t<int64_t> rle_lengths(const py::list& items, const std::string& name) {
  const std::vector<Rle> rles = read_rles(items, name);
  if (rles.size() != 1) throw std::invalid_argument(name + " must be one mask, got " + std::to_string(rles.size()));
  return to_array(rles[0].lengths);
}

py::array_t<int64_t> rle_area(const py::list& items, const std::string& name) {
  std::vector<int64_t> areas;
  for (const Rle& rle : read_rles(items, name)) areas.push_back(area(to_spans(rle)));
  return to_array(areas);
}

py::array_t<int64_t> rle_box(const py::list& items, const std::string& name) {
  const std::vector<Rle> rles = read_rles(items, name);
  py::array_t<int64_t> result({static_cast<py::ssize_t>(rles.size()), py::ssize_t(4)});
  int64_t* out = result.mutable_data();
  for (const Rle& rle : rles) {
    const std::array<int64_t, 4> corners = box(to_spans(rle), rle.height);
    out = std::copy(corners.begin(), corners.end(), out);
  }
  return result;
}

// Intersection over union; for a crowd column, over the area of the row's mask. 0 where nothing is shared.
py::array_t<double> rle_iou(const py::list& a_items, const py::list& b_items,
                            const py::array_t<bool, py::array::c_style | py::array::forcecast>& crowd) {
  const std::vector<Rle> a_rles = read_rles(a_items, "a"), b_rles = read_rles(b_items, "b");
  if (crowd.ndim() != 1 || crowd.size() != static_cast<py::ssize_t>(b_rles.size()))
    throw std::invalid_argument("iscrowd must have one entry per mask of b");
  py::array_t<double> result({static_cast<py::ssize_t>(a_rles.size()), static_cast<py::ssize_t>(b_rles.size())});
  if (a_rles.empty() || b_rles.empty()) return result;
  check_one_size(a_rles, a_rles[0], "a");
  check_one_size(b_rles, a_rles[0], "b");
  double* out = result.mutable_data();
  const bool* is_crowd = crowd.data();
  const py::gil_scoped_release release;
  const std::vector<Mask> a = make_masks(a_rles), b = make_masks(b_rles);
  for (const Mask& left : a)
    for (size_t j = 0; j < b.size(); ++j) {
      const int64_t common = boxes_meet(left, b[j]) ? intersection(left.spans, b[j].spans) : 0;
      const int64_t whole = is_crowd[j] ? left.area : left.area + b[j].area - common;
      *out++ = common == 0 ? 0.0 : static_cast<double>(common) / static_cast<double>(whole);
    }
  return result;
}

py::array_t<int64_t> rle_merge(const py::list& items, bool intersect, const std::string& name) {
  const std::vector<Rle> rles = read_rles(items, name);
  if (rles.empty()) throw std::invalid_argument(name + " must hold at least one mask, got none");
  check_one_size(rles, rles[0], name);
  std::vector<int64_t> lengths;
  {
    const py::gil_scoped_release release;
    std::vector<Span> spans = to_spans(rles[0]);
    for (size_t i = 1; i < rles.size(); ++i) spans = merge(spans, to_spans(rles[i]), intersect);
    lengths = from_spans(spans, rles[0].height, rles[0].width).lengths;
  }
  return to_array(lengths);
}

// Sets the cells of the spans in a row-major map with rows of `stride` cells.
template <class T>
void fill(const std::vector<Span>& spans, int64_t height, int64_t stride, T value, T* map) {
  for (const Span& span : spans)
    for (int64_t at = span.begin; at < span.end;) {
      const int64_t x = at / height, end = std::min(span.end, (x + 1) * height);
      for (T* cell = map + (at - x * height) * stride + x; at < end; ++at, cell += stride) *cell = value;
    }
}

py::array_t<bool> rle_masks(const py::list& items, int64_t height, int64_t width, const std::string& name) {
  const std::vector<Rle> rles = read_rles(items, name);
  check_size(height, width);
  check_one_size(rles, Rle{height, width, {}}, name);
  const auto count = static_cast<py::ssize_t>(rles.size());
  py::array_t<bool> result({count, static_cast<py::ssize_t>(height), static_cast<py::ssize_t>(width)});
  bool* out = result.mutable_data();
  const py::gil_scoped_release release;
  std::memset(out, 0, rles.size() * height * width);
  for (size_t i = 0; i < rles.size(); ++i)
    fill(to_spans(rles[i]), height, width, true, out + static_cast<int64_t>(i) * height * width);
  return result;
}

// Mask i gets the value id[i] in image image_index[i] of ids [B, H, W]; where masks overlap, the last one stays.
void rle_fill_ids(const py::list& items, const Lengths& image_index, const Lengths& id,
                  py::array_t<int32_t, py::array::c_style>& ids, const std::string& name) {
  const std::vector<Rle> rles = read_rles(items, name);
  const int64_t B = ids.shape(0), H = ids.shape(1), W = ids.shape(2);
  const int64_t *image = image_index.data(), *value = id.data();
  int32_t* out = ids.mutable_data();
  const py::gil_scoped_release release;
  for (size_t i = 0; i < rles.size(); ++i) {
    if (image[i] < 0 || image[i] >= B || rles[i].height > H || rles[i].width > W || value[i] < 1 ||
        value[i] > INT32_MAX)
      throw std::invalid_argument(name + "[" + std::to_string(i) + "]: image_index, id or size out of range");
    fill(to_spans(rles[i]), rles[i].height, W, static_cast<int32_t>(value[i]), out + image[i] * H * W);
  }
}

// Stops the cyclic garbage collector for its life: it would look through rows of which none can be garbage yet.
class WithoutCollector {
 public:
  WithoutCollector() : was_on_(PyGC_Disable()) {}
  ~WithoutCollector() {
    if (was_on_) PyGC_Enable();
  }
  WithoutCollector(const WithoutCollector&) = delete;
  WithoutCollector& operator=(const WithoutCollector&) = delete;

 private:
  const int was_on_;
};

// One dict a code; codes[ends[k]] .. codes[ends[k + 1] - 1] is that of row k, sizes holds each image's (height, width).
py::list rle_rows(const Lengths& image_index, const Lengths& id, const Lengths& ends,
                  const py::array_t<uint8_t, py::array::c_style>& codes, const Lengths& sizes) {
  const py::ssize_t count = image_index.size();
  const int64_t *image = image_index.data(), *end = ends.data(), *size = sizes.data();
  if (id.size() != count || ends.size() != count + 1 || (count > 0 && end[count] > codes.size()))
    throw std::invalid_argument("id must have a row and ends one more than image_index, and end with the codes");
  const char* text = reinterpret_cast<const char*>(codes.data());
  const py::str keys[] = {"image_index", "id", "size", "counts"};
  const WithoutCollector without_collector;
  py::list rows(count);
  for (py::ssize_t k = 0; k < count; ++k) {
    if (image[k] < 0 || 2 * image[k] + 1 >= sizes.size() || end[k] < 0 || end[k] > end[k + 1])
      throw std::invalid_argument("row " + std::to_string(k) + ": image_index or ends out of range");
    py::list extent(2);
    extent[0] = py::int_(size[2 * image[k]]);
    extent[1] = py::int_(size[2 * image[k] + 1]);
    const py::object values[] = {py::int_(image[k]), py::int_(id.data()[k]), std::move(extent),
                                 py::bytes(text + end[k], static_cast<size_t>(end[k + 1] - end[k]))};
    py::dict row;
    for (int i = 0; i < 4; ++i)
      if (PyDict_SetItem(row.ptr(), keys[i].ptr(), values[i].ptr()) != 0) throw py::error_already_set();
    rows[k] = std::move(row);
  }
  return rows;
}

py::array_t<int64_t> polygon_lengths(const py::array_t<double, py::array::c_style>& points, int64_t height,
                                     int64_t width) {
  if (points.ndim() != 2 || points.shape(1) != 2) throw std::invalid_argument("points must be [K, 2]");
  Rle rle;
  {
    const py::gil_scoped_release release;
    rle = from_polygon(points.data(), points.shape(0), height, width);
  }
  return to_array(rle.lengths);
}

py::array_t<int64_t> mask_lengths(const py::array_t<bool, py::array::c_style>& mask) {
  if (mask.ndim() != 2) throw std::invalid_argument("mask must be [H, W]");
  const int64_t height = mask.shape(0), width = mask.shape(1);
  check_size(height, width);
  const bool* cells = mask.data();
  std::vector<Span> spans;
  Rle rle;
  {
    const py::gil_scoped_release release;
    for (int64_t x = 0; x < width; ++x)
      for (int64_t y = 0; y < height; ++y) {
        if (!cells[y * width + x]) continue;
        const int64_t at = x * height + y;
        if (!spans.empty() && spans.back().end == at)
          ++spans.back().end;
        else
          spans.push_back({at, at + 1});
      }
    rle = from_spans(spans, height, width);
  }
  return to_array(rle.lengths);
}

}  // namespace

void add_rle(py::module_& m) {
  m.def("rle_encode", &rle_encode, py::arg("lengths"), "Lengths (int64) to the compressed bytes.");
  m.def("rle_lengths", &rle_lengths, py::arg("rles"), py::arg("name"), "The lengths (int64) of one mask.");
  m.def("rle_area", &rle_area, py::arg("rles"), py::arg("name"), "[N] pixels of each mask.");
  m.def("rle_box", &rle_box, py::arg("rles"), py::arg("name"), "[N, 4] half-open x0, y0, x1, y1.");
  m.def("rle_iou", &rle_iou, py::arg("a"), py::arg("b"), py::arg("iscrowd"), "[N, M] intersection over union.");
  m.def("rle_merge", &rle_merge, py::arg("rles"), py::arg("intersect"), py::arg("name"), "Lengths of the union.");
  m.def("rle_masks", &rle_masks, py::arg("rles"), py::arg("height"), py::arg("width"), py::arg("name"),
        "[N, height, width] bool.");
  m.def("rle_fill_ids", &rle_fill_ids, py::arg("rles"), py::arg("image_index"), py::arg("id"), py::arg("ids"),
        py::arg("name"), "Writes each id into its mask's pixels of ids [B, H, W] int32.");
  m.def("rle_rows", &rle_rows, py::arg("image_index"), py::arg("id"), py::arg("ends"), py::arg("codes"),
        py::arg("sizes"), "A dict of image_index, id, size and counts for every code.");
  m.def("polygon_lengths", &polygon_lengths, py::arg("points"), py::arg("height"), py::arg("width"),
        "Lengths of the mask inside a polygon of (x, y) points [K, 2].");
  m.def("mask_lengths", &mask_lengths, py::arg("mask"), "Lengths of a [H, W] bool mask.");
}

}  // namespace wsis::host
