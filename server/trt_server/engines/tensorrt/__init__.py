"""The engine on TensorRT and TensorRT-RTX, for NVIDIA GPUs."""
