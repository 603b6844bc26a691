#pragma once

#include <pybind11/pybind11.h>

namespace wsis::host {

void add_build_info(pybind11::module_& m);
void add_rle(pybind11::module_& m);

}  // namespace wsis::host
