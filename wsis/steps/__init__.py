"""The stations of a run: each file holds a frozen ``Config`` and ``run(config)``. No step imports a step."""
