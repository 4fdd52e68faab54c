"""A checkpoint on disk, its geometry, its weights in place, and the ONNX graph that every engine runs."""
