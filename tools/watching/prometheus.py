"""A Prometheus with the configuration of deploy/prometheus in a child process, and its HTTP API."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tools.free_port import free_port

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "prometheus"
PATIENCE_SECONDS = 60.0


class QueryError(Exception):
    """Prometheus refused a query; the message is its own."""


@dataclass(frozen=True)
class Series:
    """A time series.

    Attributes:
        labels: Its labels.
        values: Unix seconds and values in order of time; an instant query gives one.
    """

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]


class Prometheus:
    """A Prometheus that runs inside a `with` block.

    It scrapes and evaluates rules every second, where the configuration has five, to save time.
    """

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
        """Copy the configuration.

        Args:
            folder: A folder for its files.
            targets: The addresses to scrape, by the name of their file in targets/.
        """
        self._folder = folder / "prometheus"
        shutil.copytree(CONFIGURATION, self._folder)
        file = self._folder / "prometheus.yml"
        file.write_text(file.read_text(encoding="utf-8").replace(": 5s", ": 1s"), encoding="utf-8")
        for name, addresses in targets.items():
            self.set_targets(name, addresses)
        self.address = f"127.0.0.1:{free_port()}"

    def set_targets(self, name: str, addresses: Sequence[str]) -> None:
        """Scrape these addresses from now on."""
        # The file is renamed into place, because Prometheus refuses a file that is half written.
        partial = self._folder / f"{name}.partial"
        partial.write_text(yaml.safe_dump([{"targets": list(addresses)}]), encoding="utf-8")
        partial.rename(self._folder / "targets" / f"{name}.yml")

    def __enter__(self) -> Prometheus:
        self._log = (self._folder / "log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self.address}",
                "--log.level=warn",
            ],
            stderr=self._log,
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                said = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"prometheus does not start: {said}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        self._log.close()

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """Return the result of a query at a time in Unix seconds, or now.

        Raises:
            QueryError: Prometheus refused the query.
        """
        parameters = {"query": expression} if at is None else {"query": expression, "time": str(at)}
        return [
            Series(item["metric"], [_sample(item["value"])]) for item in self._vector("query", parameters)
        ]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Return the result of a query at every `step` seconds from start to end.

        Raises:
            QueryError: Prometheus refused the query.
        """
        parameters = {"query": expression, "start": str(start), "end": str(end), "step": str(step)}
        return [
            Series(item["metric"], [_sample(value) for value in item["values"]])
            for item in self._vector("query_range", parameters)
        ]

    def wait_for(self, expression: str) -> list[Series]:
        """Return the result of a query once it is not empty.

        Raises:
            TimeoutError: It stayed empty for a minute.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (series := self.query(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing answers {expression}")
            time.sleep(0.1)
        return series

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """Return the data of an answer of the API.

        Raises:
            QueryError: Prometheus refused the query.
        """
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters or {})}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(json.load(error)["error"]) from None

    def _vector(self, path: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        return list(self.get(path, parameters)["result"])

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5):
                return True
        except OSError:
            return False


def _sample(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
