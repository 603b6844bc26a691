"""Weakly-supervised instance segmentation: from image labels or points to instance masks."""

__version__ = "0.1.0"
