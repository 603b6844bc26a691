"""Training of the networks, their checkpoints and logs."""
