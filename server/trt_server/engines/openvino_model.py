"""Graphs as OpenVINO's models, whose weights stay in their files, and one model of two."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import onnx
import openvino as ov
from openvino import opset13 as operators
from openvino.preprocess import PrePostProcessor

from trt_server.engines.mapped_weights import MappedWeights
from trt_server.model.graph.scoring_graph import Graph

# boolean [1], an input of a model that has two branches: whether a run's rows go on after keys and values.
CONTINUED = "continued"


def read_graph(core: ov.Core, graph: Graph, weights: MappedWeights) -> ov.Model:
    """Read a graph, and put its weights in.

    OpenVINO reads weights only from below the folder of the graph's own file: nobody may be allowed to write
    one there, and links of the hub's cache lead out of it. So the weights are inputs that become constants.
    """
    without = onnx.ModelProto()
    without.CopyFrom(graph.model)
    del without.graph.initializer[:]
    names = []
    for tensor in graph.model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            names.append(tensor.name)
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            without.graph.input.append(info)
        else:
            without.graph.initializer.append(tensor)
    model = core.read_model(BytesIO(without.SerializeToString()))
    inputs = {node.get_friendly_name(): node for node in model.get_parameters()}
    for name in names:
        tensor = ov.Tensor(weights.array(name), shared_memory=True)
        inputs[name].output(0).replace(ov.op.Constant(tensor, shared_memory=True).output(0))
        model.remove_parameter(inputs[name])
    model.validate_nodes_and_infer_types()
    return model


def with_values_of(model: ov.Model, element_type: ov.Type, names: set[str]) -> ov.Model:
    """Let these inputs and outputs of a model have another type, from and to which it converts them."""
    processor = PrePostProcessor(model)
    for node in model.inputs:
        if node.get_any_name() in names:
            processor.input(node.get_any_name()).tensor().set_element_type(element_type)
    for node in model.outputs:
        if node.get_any_name() in names:
            processor.output(node.get_any_name()).tensor().set_element_type(element_type)
    return processor.build()


def branched(plain: ov.Model, continued: ov.Model) -> ov.Model:
    """Make one model of two, of which the input `CONTINUED` says which is run.

    OpenVINO packs the weights of every model that it compiles for itself, but those of both branches once.

    Args:
        plain: Has some of the inputs and outputs of the other.
        continued: Its inputs and outputs are those of the whole; outputs that `plain` does not have come from
            there with no elements.
    """
    condition = _parameter(CONTINUED, ov.PartialShape([1]), ov.Type.boolean)
    choice = operators.if_op(condition.output(0))
    theirs = {_name(result.output(0)): result for result in plain.get_results()}
    names = [_name(result.output(0)) for result in continued.get_results()]
    results = [
        theirs[name] if name in theirs else operators.result(_nothing(result))
        for name, result in zip(names, continued.get_results(), strict=True)
    ]
    choice.set_then_body(continued)
    choice.set_else_body(ov.Model(results, plain.get_parameters(), "plain"))
    of_plain = {_name(node.output(0)): node for node in plain.get_parameters()}
    inputs = [condition]
    for node in continued.get_parameters():
        name = _name(node.output(0))
        inputs.append(_parameter(name, node.get_partial_shape(), node.get_element_type()))
        choice.set_input(inputs[-1].output(0), node, of_plain.get(name))
    outputs = []
    for name, *pair in zip(names, continued.get_results(), results, strict=True):
        output = choice.set_output(*pair)
        output.get_tensor().set_names({name})
        outputs.append(operators.result(output))
    return ov.Model(outputs, inputs, "branched")


def _name(output: ov.Output) -> str:
    return str(output.get_any_name())


def _parameter(name: str, shape: ov.PartialShape, element_type: ov.Type) -> ov.op.Parameter:
    parameter = operators.parameter(shape, element_type, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _nothing(result: ov.op.Result) -> ov.Node:
    """Return a constant of a result's type and rank with no elements."""
    sizes = [size.get_length() if size.is_static else 0 for size in result.get_output_partial_shape(0)]
    return operators.constant(np.zeros(sizes, np.float32), result.get_output_element_type(0))
