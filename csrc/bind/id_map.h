// What the ops on id maps share in the binding.
#pragma once

#include "bind/tensor.h"

namespace wsis {

// sizes, if given, must be [B, 2] int32 on the map's device; its values are checked in Python.
inline void check_sizes_table(const char* op, const Tensor& map, const std::optional<Tensor>& sizes) {
  if (!sizes) return;
  WSIS_CHECK(op, sizes->dim() == 2 && sizes->size(0) == map.size(0) && sizes->size(1) == 2 &&
                     sizes->scalar_type() == ScalarType::Int && sizes->device() == map.device(),
             "sizes must be [B, 2] int32 on the device of the map");
}

}  // namespace wsis
