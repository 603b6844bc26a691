#include "host/rle.h"

#include <algorithm>
#include <stdexcept>

#include "common/rle_codec.h"

namespace wsis::host {
namespace {

[[noreturn]] void fail(const std::string& text) { throw std::invalid_argument(text); }

// One number of a code from `at` on; moves `at` behind it.
int64_t read_number(std::string_view code, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 5) {
    if (at == code.size()) fail("counts must be a complete code, got one that ends inside a number");
    const int group = static_cast<unsigned char>(code[at]) - 48;
    if (group < 0 || group > 63)
      fail("counts must hold the characters '0' to 'o', got byte " +
           std::to_string(static_cast<unsigned char>(code[at])) + " at " + std::to_string(at));
    if (shift >= 5 * kMaxCodeBytes) fail("counts must hold numbers of at most 8 characters, got a longer one");
    ++at;
    value |= static_cast<uint64_t>(group & 31) << shift;
    if (group & 32) continue;
    if (group & 16) value |= ~uint64_t(0) << (shift + 5);
    return static_cast<int64_t>(value);
  }
}

}  // namespace

void check_size(int64_t height, int64_t width) {
  if (height < 1 || height > kMaxRleSide || width < 1 || width > kMaxRleSide)
    fail("size must be (height, width) of 1..65536 each, got (" + std::to_string(height) + ", " +
         std::to_string(width) + ")");
}

void check_lengths(const Rle& rle) {
  check_size(rle.height, rle.width);
  int64_t sum = 0;
  for (const int64_t length : rle.lengths) {
    if (length < 0) fail("counts must not be negative, got " + std::to_string(length));
    if (length > rle.total() - sum)
      fail("counts must add up to height * width = " + std::to_string(rle.total()) + ", got more");
    sum += length;
  }
  if (sum != rle.total())
    fail("counts must add up to height * width = " + std::to_string(rle.total()) + ", got " + std::to_string(sum));
}

std::string encode(const std::vector<int64_t>& lengths) {
  std::string code(lengths.size() * kMaxCodeBytes, '\0');
  auto* begin = reinterpret_cast<uint8_t*>(code.data());
  uint8_t* out = begin;
  for (size_t i = 0; i < lengths.size(); ++i)
    out += write_code(code_value(static_cast<int64_t>(i), lengths[i], i >= 2 ? lengths[i - 2] : 0), out);
  code.resize(out - begin);
  return code;
}

Rle decode(std::string_view code, int64_t height, int64_t width) {
  Rle rle{height, width, {}};
  check_size(height, width);
  for (size_t at = 0; at < code.size();) {
    const size_t i = rle.lengths.size();
    // Both terms are below 2^41, and a length that passed lies in 0..2^32: no overflow.
    const int64_t length = read_number(code, at) + (i > 2 ? rle.lengths[i - 2] : 0);
    if (length < 0) fail("counts must not be negative, got " + std::to_string(length));
    if (length > rle.total())
      fail("counts must add up to height * width = " + std::to_string(rle.total()) + ", got more");
    rle.lengths.push_back(length);
  }
  check_lengths(rle);
  return rle;
}

std::vector<Span> to_spans(const Rle& rle) {
  std::vector<Span> spans;
  spans.reserve(rle.lengths.size() / 2);
  int64_t at = 0;
  for (size_t i = 0; i < rle.lengths.size(); ++i) {
    const int64_t end = at + rle.lengths[i];
    if (i % 2 == 1 && end > at) {
      if (!spans.empty() && spans.back().end == at)
        spans.back().end = end;
      else
        spans.push_back({at, end});
    }
    at = end;
  }
  return spans;
}

Rle from_spans(const std::vector<Span>& spans, int64_t height, int64_t width) {
  Rle rle{height, width, {}};
  rle.lengths.reserve(2 * spans.size() + 1);
  int64_t at = 0;
  for (const Span& span : spans) {
    rle.lengths.push_back(span.begin - at);
    rle.lengths.push_back(span.end - span.begin);
    at = span.end;
  }
  if (at < rle.total()) rle.lengths.push_back(rle.total() - at);
  return rle;
}

int64_t area(const std::vector<Span>& spans) {
  int64_t sum = 0;
  for (const Span& span : spans) sum += span.end - span.begin;
  return sum;
}

std::array<int64_t, 4> box(const std::vector<Span>& spans, int64_t height) {
  if (spans.empty()) return {0, 0, 0, 0};
  int64_t top = height, bottom = 0;
  for (const Span& span : spans) {
    const int64_t first = span.begin % height, length = span.end - span.begin;
    if (first + length > height) {  // goes on in the next column, so it touches the bottom and the top
      top = 0;
      bottom = height;
      break;
    }
    top = std::min(top, first);
    bottom = std::max(bottom, first + length);
  }
  return {spans.front().begin / height, top, (spans.back().end - 1) / height + 1, bottom};
}

int64_t intersection(const std::vector<Span>& a, const std::vector<Span>& b) {
  int64_t sum = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    sum += std::max<int64_t>(0, std::min(a[i].end, b[j].end) - std::max(a[i].begin, b[j].begin));
    if (a[i].end < b[j].end)
      ++i;
    else
      ++j;
  }
  return sum;
}

std::vector<Span> merge(const std::vector<Span>& a, const std::vector<Span>& b, bool intersect) {
  std::vector<Span> result;
  if (intersect) {
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
      const Span common{std::max(a[i].begin, b[j].begin), std::min(a[i].end, b[j].end)};
      if (common.begin < common.end) result.push_back(common);
      if (a[i].end < b[j].end)
        ++i;
      else
        ++j;
    }
    return result;
  }
  for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    const bool from_a = j == b.size() || (i < a.size() && a[i].begin < b[j].begin);
    const Span next = from_a ? a[i++] : b[j++];
    if (!result.empty() && next.begin <= result.back().end)
      result.back().end = std::max(result.back().end, next.end);
    else
      result.push_back(next);
  }
  return result;
}

}  // namespace wsis::host
