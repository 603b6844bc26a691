"""Oracles of the operators: slow, obvious, independent of the kernels; for tests and benchmarks only.

Each has the name and the signature of the operator it judges and imports none of them.
"""
