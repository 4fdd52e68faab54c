"""A client that sends MMLU's questions to trt-server, and measures accuracy and speed."""
