// Atomics: fibers are switched only between them, so that each is whole; around them the order may change.
#pragma once

#include "cusim/scheduler.h"

namespace cusim {

template <class T, class F>
T read_modify_write(T* address, F change) {
  maybe_yield();
  const T old = *address;
  *address = change(old);
  return old;
}

// T is taken from the address alone, as CUDA's overloads do: atomicAdd(&unsigned_value, 1) is allowed.
template <class T>
struct Same {
  using type = T;
};
template <class T>
using Value = typename Same<T>::type;

}  // namespace cusim

#define CUSIM_ATOMIC(name, expression)                                                          \
  template <class T>                                                                            \
  T name(T* address, cusim::Value<T> value) {                                                   \
    return cusim::read_modify_write(address, [value](T old) { return T(expression); });         \
  }                                                                                             \
  template <class T>                                                                            \
  T name##_block(T* address, cusim::Value<T> value) {                                           \
    return name(address, value);                                                                \
  }
CUSIM_ATOMIC(atomicAdd, old + value)
CUSIM_ATOMIC(atomicSub, old - value)
CUSIM_ATOMIC(atomicMin, value < old ? value : old)
CUSIM_ATOMIC(atomicMax, old < value ? value : old)
CUSIM_ATOMIC(atomicAnd, old & value)
CUSIM_ATOMIC(atomicOr, old | value)
CUSIM_ATOMIC(atomicXor, old ^ value)
CUSIM_ATOMIC(atomicExch, value)
CUSIM_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef CUSIM_ATOMIC

template <class T>
T atomicCAS(T* address, cusim::Value<T> expected, cusim::Value<T> value) {
  return cusim::read_modify_write(address, [=](T old) { return old == expected ? value : old; });
}

inline void __threadfence() {}
inline void __threadfence_block() {}
