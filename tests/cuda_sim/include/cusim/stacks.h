// Execution contexts: a stack each, and the switch between them.
#pragma once

#include <cstddef>

namespace cusim {

constexpr size_t kStackBytes = 256 << 10, kPageBytes = 4096;

// Where a suspended computation goes on. A context without a stack of its own is that of the launching code.
struct Context {
  void* stack_pointer = nullptr;
  unsigned char* stack = nullptr;  // kStackBytes, the first page inaccessible
};

// Makes room for `count` stacks; none may be in use.
void reserve_stacks(size_t count);

// A context that begins in `entry` on stack number `slot`. `entry` calls entered() first and never returns.
Context make_context(size_t slot, void (*entry)());
void entered();

// Suspends `from` (for good, if it `ends`) and goes on with `to`.
void switch_context(Context& from, const Context& to, bool ends);

}  // namespace cusim
