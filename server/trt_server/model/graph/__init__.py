"""The ONNX graph that every engine runs, and the parts that its nodes are made of."""
