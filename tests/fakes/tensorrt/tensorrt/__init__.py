"""TensorRT of the version that FAKE_GPU names."""

from fake_tensorrt import *  # noqa: F403
from fake_tensorrt import __version__  # noqa: F401
