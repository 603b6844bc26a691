"""What becomes of fields: seeds, instances, semantic maps. Tensors in, tensors out; no file, no device
choice."""
