"""Data sets, the one image reader and the one writer."""
