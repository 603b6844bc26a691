// wsis._host: what is not a tensor operator. Each file of csrc/host adds its functions through an add_* function.
#include <pybind11/pybind11.h>

#include "host/host.h"

PYBIND11_MODULE(_host, m) {
  m.doc() = "Host-side codecs and build information of wsis.";
  wsis::host::add_build_info(m);
  wsis::host::add_rle(m);
}
