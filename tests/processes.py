"""The project's programs as real processes."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from scoring.v1 import scoring_pb2_grpc as pb_grpc
from trt_common.installed_program import program

START_SECONDS = 60.0
# What is installed beside it changes no test: on a CPU that is the engine, where a test does not name one.
os.environ.setdefault("TRT_SERVER_ENGINE", "onnxruntime")
# Without a peak each start and each run measures it, on all cores, for up to half a second: tests of what is
# measured unset it.
PEAK = "TRT_SERVER_PEAK_FLOPS"
os.environ.setdefault(PEAK, "1e12")


class ServerProcess:
    """A trt-server on free ports, with JSON logs that are read as they come."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        descriptors: int | None = None,
    ) -> None:
        """Start it.

        Args:
            arguments: The server's.
            environment: Further variables.
            before: A command that runs it.
            descriptors: How many the system lets it open; None: as many as the tests' own process.
        """
        command = [*before, program("trt-server"), *FREE_PORTS, "--log-format", "json"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=None if descriptors is None else lambda: _allow(descriptors),
        )
        self.lines: list[str] = []
        self._unread: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ports: dict[str, Any] = {}

    def wait_for_event(self, event: str) -> dict[str, Any]:
        """The log record of an event. Fails where the process ends first."""
        while (line := self._unread.get(timeout=START_SECONDS)) is not None:
            if line.startswith("{") and (record := json.loads(line)).get("event") == event:
                return dict(record)
        raise AssertionError(f"trt-server ended before {event!r}:\n" + "".join(self.lines))

    def wait_until_serving(self) -> ServerProcess:
        self.ports = self.wait_for_event("serving")
        return self

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.ports['grpc_port']}"

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.url)

    def stub(self) -> Any:
        return pb_grpc.ScoringStub(self.channel())  # type: ignore[no-untyped-call]

    def metrics(self, *, by_device: bool = False) -> dict[str, float]:
        """Sample name with its labels' values, as `name{value,…}`, → value.

        Without `by_device` all devices' values are added up, and the device is no label.
        """
        address = f"http://127.0.0.1:{self.ports['metrics_port']}/metrics"
        text = urllib.request.urlopen(address, timeout=10).read().decode()
        values: dict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = [value for name, value in sample.labels.items() if by_device or name != "device"]
                values[sample.name + (f"{{{','.join(labels)}}}" if labels else "")] += sample.value
        return dict(values)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(timeout=START_SECONDS)

    def health(self) -> int:
        """What it says of its health."""
        stub = health_pb2_grpc.HealthStub(self.channel())
        return int(stub.Check(health_pb2.HealthCheckRequest()).status)

    @property
    def http(self) -> str:
        """The address of a server that was started with `--http-port`."""
        return f"http://127.0.0.1:{self.ports['http_port']}"

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._unread.put(line)
        self._unread.put(None)


def _allow(descriptors: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


# Whatever else runs here.
FREE_PORTS = ("--grpc-port", "0", "--metrics-port", "0")


def run_program(name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a console script to its end."""
    command = [program(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
