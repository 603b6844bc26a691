"""The operators, one file each. Importing this package loads the compiled library."""

from wsis.ops.edge_to_affinity import edge_to_affinity, neighbor_offsets
from wsis.ops.trace_displacement import trace_displacement

__all__ = [
    "edge_to_affinity",
    "neighbor_offsets",
    "trace_displacement",
]
