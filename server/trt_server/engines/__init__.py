"""Engines that run a model: ONNX Runtime, PyTorch (the reference) and TensorRT, behind one protocol."""
