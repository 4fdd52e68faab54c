"""An ONNX graph under construction: its nodes, constants and weights, and the parts of every layer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from trt_server.model.files.weights import Weights

# The opset from which on ReduceMean and ReduceMax take their axes as an input, and Split a number of outputs.
_AXES_ARE_INPUTS = _SPLIT_HAS_NUMBER = 18

_ONNX_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


class NodeList:
    """The nodes in the order in which they are added. Values are referred to by name.

    Names are paths ("layers.3.mlp.gate"), so that the profile of any engine can be read.

    Attributes:
        onnx_type: The type that products are computed in, which is that of the weights.
        opset: The version of ONNX's operators.
        weights_folder: The deepest folder that contains all weight files, whose paths are relative to it.
        nodes: The nodes.
        initializers: The constants and weights, by name.
    """

    def __init__(self, weights: Weights, opset: int) -> None:
        """Begin a graph over these weights.

        Raises:
            ValueError: The weights are neither all float32 nor all float16.
        """
        dtypes = sorted({tensor.dtype for tensor in weights.values()})
        if len(dtypes) != 1 or dtypes[0] not in _ONNX_TYPES:
            raise ValueError(f"weights of type {', '.join(dtypes)}; convert them to float32 or float16 first")
        self.onnx_type: int = _ONNX_TYPES[dtypes[0]]
        self.opset = opset
        self.weights_folder = Path(os.path.commonpath({tensor.file.parent for tensor in weights.values()}))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._weights = weights
        self._scope: list[str] = []
        self._names: set[str] = set()

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put `name` in front of all names that are given inside."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.add_with_outputs(operator, inputs, name, [""], **attributes)[0]

    def add_with_outputs(
        self, operator: str, inputs: Sequence[str], name: str, suffixes: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with one output for each suffix, and return the outputs' names.

        Raises:
            ValueError: There is a node of that name.
        """
        path = ".".join([*self._scope, name])
        if path in self._names:
            raise ValueError(f"two nodes are named {path}")
        self._names.add(path)
        outputs = [path + suffix for suffix in suffixes]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=path, **attributes))
        return outputs

    # Constants and weights.

    def constant(self, name: str, value: ArrayLike, dtype: Any) -> str:
        """Return the name of a small array in the graph itself; it is added where the name is new."""
        if name not in self.initializers:
            array: NDArray[Any] = np.asarray(value, dtype)
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def sizes(self, *values: int) -> str:
        """Return the name of a constant shape or constant axes, which ONNX requires in int64."""
        return self.constant(f"sizes.{'x'.join(map(str, values))}", values, np.int64)

    def int32s(self, *values: int) -> str:
        """Return the name of a constant int32 vector."""
        return self.constant(f"int32s.{'x'.join(map(str, values))}", values, np.int32)

    def int32(self, value: int) -> str:
        """Return the name of a constant int32 number."""
        return self.constant(f"int32.{value}", value, np.int32)

    def weight(self, name: str) -> str:
        """Return the name of a tensor of the checkpoint, which the engine reads from its file."""
        if name not in self.initializers:
            tensor = self._weights[name]
            proto = TensorProto(name=name, data_type=_ONNX_TYPES[tensor.dtype], dims=tensor.shape)
            proto.data_location = TensorProto.EXTERNAL
            place = {
                "location": os.path.relpath(tensor.file, self.weights_folder),
                "offset": tensor.offset,
                "length": tensor.length,
            }
            for key, value in place.items():
                proto.external_data.add(key=key, value=str(value))
            self.initializers[name] = proto
        return name

    # What layers are made of.

    def linear(self, rows: str, weights: str, name: str) -> str:
        """Add rows · weightᵀ, + bias where the checkpoint has one; the weight is [out, in]."""
        inputs = [rows, self.weight(f"{weights}.weight")]
        if f"{weights}.bias" in self._weights:
            inputs.append(self.weight(f"{weights}.bias"))
        return self.add("Gemm", inputs, name, transB=1)

    def rms_norm(self, values: str, weight: str, epsilon: float, name: str) -> str:
        """Add x / √(mean(x²) + ε) · weight over the last axis, in float32 (Zhang and Sennrich 2019)."""
        with self.scope(name):
            values = self.float32(values)
            squares = self.add("Pow", [values, self.constant("two", 2, np.float32)], "squares")
            mean = self.reduced("ReduceMean", squares, "mean")
            shifted = self.add(
                "Add", [mean, self.constant("rms_epsilon", epsilon, np.float32)], "mean.shifted"
            )
            normed = self.add("Div", [values, self.add("Sqrt", [shifted], "root")], "normed")
            return self.add("Mul", [self.computed(normed), self.weight(weight)], "scaled")

    def reduced(self, operator: str, values: str, name: str) -> str:
        """Add ReduceMean or ReduceMax over the last axis, which keeps size 1."""
        if self.opset < _AXES_ARE_INPUTS:
            return self.add(operator, [values], name, axes=[-1], keepdims=1)
        return self.add(operator, [values, self.sizes(-1)], name, keepdims=1)

    def halves(self, values: str, name: str) -> tuple[str, str]:
        """Add a split of the last axis into two halves."""
        count = {} if self.opset < _SPLIT_HAS_NUMBER else {"num_outputs": 2}
        first, second = self.add_with_outputs("Split", [values], name, [".0", ".1"], axis=-1, **count)
        return first, second

    def float32(self, value: str) -> str:
        """Cast a value of the type that products are computed in to float32."""
        return self._cast(value, TensorProto.FLOAT, "float32")

    def computed(self, value: str) -> str:
        """Cast a float32 value to the type that products are computed in."""
        return self._cast(value, self.onnx_type, "computed")

    def _cast(self, value: str, to: int, suffix: str) -> str:
        if self.onnx_type == TensorProto.FLOAT:
            return value
        return self.add("Cast", [value], f"{value.rpartition('.')[2]}.{suffix}", to=to)
