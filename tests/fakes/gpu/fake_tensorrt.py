"""Stands in for TensorRT: it parses and runs the real ONNX graph, with ONNX Runtime on fake device memory.

It behaves as the version that FAKE_GPU names, 8.6 or 10: names that this version has not are not there. What
a compiler takes and makes is tested with a real one, TensorRT-RTX's; this is what runs on a device.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from enum import Enum, IntEnum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pycuda.driver as cuda
from fake_gpu import WISHES, note

__version__ = WISHES.tensorrt
_OLD = __version__.startswith("8.")
_MAGIC = b"fake plan\n"
_ACTIVATION_BYTES_A_TOKEN = 2048


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    BOOL = 4
    INT64 = 8


float32, int32 = DataType.FLOAT, DataType.INT32
_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT32 if _OLD else DataType.INT64,
    onnx.TensorProto.BOOL: DataType.BOOL,
}

_NUMPY_TYPES = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32}

# The same name has another number in another version.
_creation = ["EXPLICIT_BATCH"] if _OLD else ["EXPLICIT_BATCH", "STRONGLY_TYPED"]
NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", _creation, start=0)  # type: ignore[misc]
BuilderFlag = IntEnum("BuilderFlag", ["FP16", "OBEY_PRECISION_CONSTRAINTS", "TF32"], start=0)
TacticSource = IntEnum("TacticSource", ["CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS"], start=0)
ProfilingVerbosity = Enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED"])
LayerInformationFormat = Enum("LayerInformationFormat", ["JSON"])
LayerType = Enum("LayerType", ["CONSTANT", "SHAPE", "CAST", "MATRIX_MULTIPLY", "OTHER"])
ErrorCodeTRT = Enum("ErrorCodeTRT", ["FAILED_EXECUTION", "FAILED_ALLOCATION", "INVALID_ARGUMENT"])
if not _OLD:
    ExecutionContextAllocationStrategy = Enum(
        "ExecutionContextAllocationStrategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
    )


class _Implemented:
    """A base that a program derives from; TensorRT wants its own __init__ to have run."""

    def __init__(self) -> None:
        self.initialised = True


class ILogger(_Implemented):
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4


class IErrorRecorder(_Implemented):
    pass


# Building.


class HostMemory(bytes):
    pass


class _Tensor:
    is_shape_tensor = False

    def __init__(self, dtype: DataType) -> None:
        self.dtype = dtype


class _Layer:
    def __init__(self, node: onnx.NodeProto, dtypes: list[DataType]) -> None:
        self.name = node.name
        kinds = {
            "Shape": LayerType.SHAPE,
            "Cast": LayerType.CAST,
            "MatMul": LayerType.MATRIX_MULTIPLY,
            "Gemm": LayerType.MATRIX_MULTIPLY,
        }
        self.type = kinds.get(node.op_type, LayerType.OTHER)
        self._outputs = [_Tensor(dtype) for dtype in dtypes]
        self.num_outputs = len(dtypes)

    def get_output(self, index: int) -> _Tensor:
        return self._outputs[index]


class _OldLayer(_Layer):
    """Of a network without strong types."""

    precision: DataType | None = None

    def __init__(self, node: onnx.NodeProto, dtypes: list[DataType]) -> None:
        super().__init__(node, dtypes)
        self.pinned: dict[int, DataType] = {}

    def set_output_type(self, index: int, dtype: DataType) -> None:
        self.pinned[index] = dtype

    @property
    def loses_float32(self) -> bool:
        floats = [index for index, tensor in enumerate(self._outputs) if tensor.dtype is float32]
        if self.type is LayerType.CAST:
            return False
        return any(self.precision is not float32 or self.pinned.get(index) is not float32 for index in floats)


class _Network:
    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self.folder = Path()
        self._layers: list[_Layer] = []

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_layer(self, index: int) -> _Layer:
        return self._layers[index]

    def set(self, model: onnx.ModelProto, folder: Path) -> None:
        self.model, self.folder = model, folder
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = [*inferred.value_info, *inferred.output, *inferred.input]
        types = {value.name: _TYPES[value.type.tensor_type.elem_type] for value in values}
        make = _OldLayer if _OLD else _Layer
        self._layers = [make(node, [types[name] for name in node.output]) for node in model.graph.node]


class OnnxParser:
    def __init__(self, network: _Network, _: ILogger) -> None:
        self._network = network

    def parse(self, model: bytes, path: str) -> bool:
        if type(model) is not bytes:
            raise TypeError("a buffer that is taken without the GIL has to be bytes")
        proto = onnx.load_model_from_string(model)
        # 8.6 refuses them.
        assert all(array.data_type != onnx.TensorProto.BFLOAT16 for array in proto.graph.initializer)
        self._network.set(proto, Path(path).parent)
        return True


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self.shapes[name] = [list(shape) for shape in (least, best, most)]


class _TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> HostMemory:
        return HostMemory(b"timings")


class _Config:
    """Has the attributes of its version only."""

    __slots__ = ("_sources", "flags_set", "profiles", "profiling_verbosity", "timing_cache")

    def __init__(self) -> None:
        self.flags_set = {BuilderFlag.TF32}
        self.profiles: list[dict[str, list[list[int]]]] = []
        self._sources = (1 << len(TacticSource)) - 1

    def get_tactic_sources(self) -> int:
        return self._sources

    def set_tactic_sources(self, sources: int) -> bool:
        self._sources = sources
        return True

    def set_flag(self, flag: Any) -> None:
        self.flags_set.add(BuilderFlag(flag))

    def clear_flag(self, flag: Any) -> None:
        self.flags_set.discard(BuilderFlag(flag))

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> _TimingCache:
        return _TimingCache(content)

    def set_timing_cache(self, cache: _TimingCache, _: bool) -> bool:
        if cache.content not in (b"", b"timings"):
            return False
        self.timing_cache = cache
        return True

    @property
    def sources_outside(self) -> bool:
        return any(self._sources & 1 << int(source) for source in TacticSource if "CU" in source.name)


class _NewConfig(_Config):
    """That of the version which stands in for TensorRT-RTX too, and gets its attributes."""


class Builder:
    needs_device = True

    def __init__(self, logger: ILogger) -> None:
        if self.needs_device and not WISHES.devices:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger: Any = logger

    def create_network(self, flags: int) -> _Network:
        needed = int(NetworkDefinitionCreationFlag["EXPLICIT_BATCH" if _OLD else "STRONGLY_TYPED"])
        if not flags & 1 << needed:
            raise ValueError("the network is not of the kind that this program wants")
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config() if _OLD else _NewConfig()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> HostMemory | None:
        assert network.model is not None
        assert config.profiles
        assert not config.sources_outside
        lossy = [
            layer.name for layer in network._layers if isinstance(layer, _OldLayer) and layer.loses_float32
        ]
        if lossy and "FP16" in {flag.name for flag in config.flags_set}:
            self._fail(f"{lossy[0]} may run in fp16")
            return None
        size = _weight_bytes(network.model)
        if size > WISHES.memory:
            self._fail(f"[allocator] Requested size was {size} bytes: OutOfMemory (no further information)")
            return None
        tf32 = BuilderFlag.TF32 in config.flags_set
        note("build-tf32" if tf32 else "build", cuda.current_device() if self.needs_device else 0)
        inputs = {value.name for value in network.model.graph.input}
        assert all(set(shapes) == inputs for shapes in config.profiles)
        header = {"profiles": config.profiles, "folder": str(network.folder)}
        model: bytes = network.model.SerializeToString()
        return HostMemory(_MAGIC + json.dumps(header).encode() + b"\n" + model)

    def _fail(self, text: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, f"[engine.cpp::build::1] Error Code 2: {text}\n")


def _weight_bytes(model: onnx.ModelProto) -> int:
    places = ({entry.key: entry.value for entry in array.external_data} for array in model.graph.initializer)
    return sum(int(place["length"]) for place in places if place)


# Running.


class Runtime:
    error_recorder: Any = None

    def __init__(self, logger: ILogger) -> None:
        self._logger: Any = logger
        if _OLD and not cuda.has_current():
            # A segmentation fault, in 8.6.
            os._exit(139)

    def deserialize_cuda_engine(self, content: Any) -> _Engine | None:
        if type(content) not in (bytes, mmap.mmap):
            raise TypeError("a buffer that is taken without the GIL has to be bytes or a map")
        plan = bytes(content)
        if not plan.startswith(_MAGIC):
            self._logger.log(ILogger.Severity.ERROR, "magicTag mismatch")
            return None
        header, _, model = plan[len(_MAGIC) :].partition(b"\n")
        if WISHES.load_error:
            self.error_recorder.report_error(ErrorCodeTRT.FAILED_EXECUTION, WISHES.load_error)
            return None
        note("load", cuda.current_device())
        make = _OldEngine if _OLD else _NewEngine
        engine = make(json.loads(header), onnx.load_model_from_string(model))
        try:
            engine.weights = cuda.DeviceAllocation(_weight_bytes(engine.model))
            if cuda.mem_get_info()[0] < 0:
                raise cuda.MemoryError
        except cuda.MemoryError:
            code = ErrorCodeTRT.FAILED_ALLOCATION
            self.error_recorder.report_error(code, "CUDA initialization: Cuda Runtime (out of memory)")
            return None
        return engine


class _Engine:
    error_recorder: Any = None
    weights: Any = None

    def __init__(self, header: dict[str, Any], model: onnx.ModelProto) -> None:
        self.profiles = header["profiles"]
        self.model = model
        self.taken_profiles: set[int] = set()
        self.answers: dict[Any, dict[str, Any]] = {}
        largest = max(prod(shapes["token_ids"][-1]) for shapes in self.profiles)
        self.activation_bytes: int = largest * _ACTIVATION_BYTES_A_TOKEN
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", header["folder"]
        )
        self.session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def get_tensor_dtype(self, name: str) -> DataType:
        values = {value.name: value for value in (*self.model.graph.input, *self.model.graph.output)}
        return _TYPES[values[name].type.tensor_type.elem_type]

    def create_engine_inspector(self) -> _Inspector:
        return _Inspector(self.model)


class _OldEngine(_Engine):
    @property
    def device_memory_size(self) -> int:
        return self.activation_bytes

    def create_execution_context_without_device_memory(self) -> _Context:
        return _OldContext(self)


class _NewEngine(_Engine):
    @property
    def device_memory_size_v2(self) -> int:
        return self.activation_bytes

    def create_execution_context(self, strategy: Any) -> _Context:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return _NewContext(self)


class _Inspector:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model

    def get_engine_information(self, _: LayerInformationFormat) -> str:
        nodes = self._model.graph.node
        layers = [{"Name": node.name, "Metadata": f"[ONNX Layer: {node.name}]"} for node in nodes]
        return json.dumps({"Layers": layers})


class _Context:
    enqueued = 0
    error_recorder: Any = None

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory = 0
        self._profile: int | None = None

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert stream in cuda.Stream.by_handle
        free = profile < len(self._engine.profiles) and profile not in self._engine.taken_profiles
        if WISHES.refuse_profiles or not free:
            self._fail(f"profile {profile} cannot be taken")
            raise RuntimeError("Error in set optimization profile")
        self._profile = profile
        self._engine.taken_profiles.add(profile)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None
        least, _, most = self._engine.profiles[self._profile][name]
        if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return self._fail(f"{name} {shape} is outside profile {self._profile}")
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % 256:
            return self._fail(f"{name} is not aligned")
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        _Context.enqueued += 1
        if _Context.enqueued == WISHES.fail_enqueue:
            return self._fail("[myelinGraphContext.h] Error Code 1: Myelin (no kernel image)")
        cuda.device_view(self._memory, self._engine.activation_bytes)
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        cuda.Stream.by_handle[handle].push(lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        inputs = {}
        for name, shape in shapes.items():
            kind = _NUMPY_TYPES[self._engine.get_tensor_dtype(name)]
            size = prod(shape) * np.dtype(kind).itemsize
            inputs[name] = cuda.device_view(addresses[name], size).view(kind).reshape(shape).copy()
        first = int(inputs["token_ids"][0, 0])
        if str(first) in WISHES.hold:
            note("held", cuda.current_device())
            note(f"holds:{first}", 0)
            while not Path(WISHES.hold[str(first)]).exists():
                time.sleep(0.01)
        if first == WISHES.lose_at_token:
            cuda.lose(cuda.current_device(), "cuEventSynchronize failed: unspecified launch failure")
            raise cuda.LaunchError("cuEventSynchronize failed: unspecified launch failure")
        if first == WISHES.late_at_token:
            cuda.lose_when_timed(
                cuda.current_device(), "cuEventElapsedTime failed: unspecified launch failure"
            )
        for name, value in self._outputs(inputs).items():
            cuda.device_view(addresses[name], value.nbytes)[:] = (
                np.ascontiguousarray(value).view(np.uint8).ravel()
            )

    def _outputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        names = [output.name for output in self._engine.session.get_outputs()]
        if not WISHES.seconds:
            return dict(zip(names, self._engine.session.run(names, inputs), strict=True))
        shapes = tuple((name, array.shape) for name, array in sorted(inputs.items()))
        if shapes not in self._engine.answers:
            computed = self._engine.session.run(names, inputs)
            self._engine.answers[shapes] = dict(zip(names, computed, strict=True))
        time.sleep(WISHES.seconds)
        return self._engine.answers[shapes]

    def _fail(self, text: str) -> bool:
        self.error_recorder.report_error(ErrorCodeTRT.FAILED_EXECUTION, text)
        return False


class _OldContext(_Context):
    @property
    def device_memory(self) -> int:
        raise AttributeError("it can be set and not read")

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        self._memory = address


class _NewContext(_Context):
    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self._engine.activation_bytes
        self._memory = address
