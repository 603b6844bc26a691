"""The CUDA kernels, run on the CPU: see ``docs/cuda_sim.md``."""
