"""Label runs under faults of the machine: a preloaded library that fails or kills at the N-th call."""
