"""What a server tells about itself: GetModel, GetTokenizer, health, reflection."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest
from checkpoints import write_checkpoint
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from processes import PEAK, ServerProcess
from scoring.v1 import scoring_pb2 as pb
from transformers import AutoModelForCausalLM, AutoTokenizer
from trt_common.version import version


def test_model_is_described_as_it_is(server: ServerProcess, llama_folder: Path) -> None:
    model = server.stub().GetModel(pb.GetModelRequest())
    reference = AutoModelForCausalLM.from_pretrained(llama_folder)
    config = reference.config
    assert model.id == llama_folder.name
    assert model.architecture == "LlamaForCausalLM"
    assert model.geometry == pb.Geometry(
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        query_heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        vocabulary_size=config.vocab_size,
    )
    assert model.parameters.total == reference.num_parameters()
    products = sum(p.numel() for name, p in reference.model.layers.named_parameters() if p.ndim == 2)
    assert model.parameters.matmul == products
    assert (model.engine.name, model.engine.precision) == ("onnxruntime", "fp32")
    assert model.engine.load_seconds > 0
    assert model.limits == pb.Limits(
        max_prompt_tokens=2048,
        max_batch_size=8,
        max_queue_size=256,
        stream_window=64,
        max_batch_tokens=8 * 2048,
        prefix_cache_bytes=2**30,
        max_top_tokens=20,
        max_scored_positions=0,
        max_request_bytes=4 * 2**20,
        max_id_bytes=256,
        max_text_bytes=128 * 2048,
        max_candidates=512,
        max_appended_texts=4096,
        max_continuations=4096,
    )
    assert model.peak == pb.PeakFlops(
        flops_per_second=float(os.environ[PEAK]), source="given with --peak-flops"
    )
    assert (
        0 < model.device.memory_used_bytes <= model.device.memory_peak_bytes < model.device.memory_total_bytes
    )
    assert not model.HasField("reference")
    assert model.notice == ""
    assert model.server_version == version()


def test_fingerprint_follows_the_weights(server: ServerProcess, tmp_path: Path) -> None:
    def fingerprints(folder: Path) -> tuple[str, str]:
        with ServerProcess("--model", str(folder)) as other:
            model = other.wait_until_serving().stub().GetModel(pb.GetModelRequest())
            return model.fingerprint, model.engine.fingerprint

    here = server.stub().GetModel(pb.GetModelRequest())
    same = write_checkpoint(tmp_path / "same", "llama")
    other = write_checkpoint(tmp_path / "other", "llama", seed=1)
    assert fingerprints(same)[0] == here.fingerprint
    assert fingerprints(other)[0] != here.fingerprint
    assert fingerprints(other)[1] != here.engine.fingerprint


def test_tokenizer_files_make_the_same_tokenizer(
    server: ServerProcess, llama_folder: Path, tmp_path: Path
) -> None:
    tokenizer = server.stub().GetTokenizer(pb.GetTokenizerRequest())
    for file in tokenizer.files:
        assert file.content == (llama_folder / file.name).read_bytes()
        (tmp_path / file.name).write_bytes(file.content)
    text = "Which of the following numbers is the largest?"
    there, here = (AutoTokenizer.from_pretrained(folder) for folder in (llama_folder, tmp_path))
    assert here.encode(text) == there.encode(text)
    assert len(tokenizer.fingerprint) == 64


def test_a_model_without_tokenizer_says_so() -> None:
    with ServerProcess("--model", "dummy:tiny") as server:
        stub = server.wait_until_serving().stub()
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetTokenizer(pb.GetTokenizerRequest())
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "random weights" in stub.GetModel(pb.GetModelRequest()).notice


@pytest.mark.parametrize("service", ["", "scoring.v1.Scoring"])
def test_health_is_serving(server: ServerProcess, service: str) -> None:
    health = health_pb2_grpc.HealthStub(server.channel())
    reply = health.Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_describes_the_contract(server: ServerProcess) -> None:
    database = ProtoReflectionDescriptorDatabase(server.channel())
    assert {"scoring.v1.Scoring", "grpc.health.v1.Health"} <= set(database.get_services())
    methods = database.FindFileContainingSymbol("scoring.v1.Scoring").service[0].method
    assert {method.name for method in methods} == {"Score", "StreamScore", "GetModel", "GetTokenizer"}
