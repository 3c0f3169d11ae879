"""Serving: what a conversation's turns wait for, how many tokens clients get at once, and what probes cost.

    python -m benchmarks.serving [--model smollm2-135m] [--tokens 24] [--clients 1,4,16] [--rounds 3]

Turns: seconds to the first token of turns 2, 5 and 10 of one conversation, with the prefix cache and without it.
Throughput: new tokens a second of so many clients that ask at once over HTTP, each steered in its own way, beside
mlx-lm's own server, unsteered, which reads the same weights as float32 with the same BLAS; the two take turns, each
in a process of its own. First token: what one client waits for it in a stream, behind a prompt that is new and behind
one that was read before. Probes: a step of 8 rows with four probes against the same step without, in pairs.

Beside seconds stand CPU seconds (of all the server's threads): where other work shares the cores, they alone
say what a token costs. A short run, three minutes on an idle machine: `--tokens 16 --rounds 2`.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.telling import left_out, options, say
from steering_core.engine.prefixes import Prefixes
from steering_core.engine.probes import Probe
from steering_core.engine.running import Running
from steering_core.engine.sampling import Request
from steering_core.models import Model, open_model
from steering_core.models.model import model_folder
from steering_core.prompts import conversation
from steering_core.store import Store
from tests.tiny import save_tiny_model

TURNS = (2, 5, 10)
QUESTIONS = ("How was your day?", "What did you like best about it?", "And the weather there?", "Who was with you?")
WORDS = " It was a long story, told slowly, and every word of it was weighed twice before it was said." * 2
OURS = "from steering_core.cli import main; import sys; sys.argv[:1] = ['steer', 'explore']; main()"
MLX_LM = "import sys; import steering_core.backend.mlx; from mlx_lm.server import main; sys.argv[0] = 'server'; main()"


# -- turns ----------------------------------------------------------------------------------------------------------


def first_tokens(model: Model, remembers: bool) -> dict[int, float]:
    """Seconds from a turn's request to its first token, for each of `TURNS`; replies have some forty tokens."""
    prefixes = Prefixes(model) if remembers else None
    messages: list[dict[str, str]] = []
    found = {}
    for turn in range(1, max(TURNS) + 1):
        messages.append({"role": "user", "content": QUESTIONS[turn % len(QUESTIONS)]})
        tokens = conversation(model, messages).tokens
        running = Running(model, prefixes)
        started = time.perf_counter()
        running.add({0: Request(tokens, max_tokens=2)})
        running.step()
        found[turn] = time.perf_counter() - started
        running.step()
        messages.append({"role": "assistant", "content": WORDS})
    return {turn: found[turn] for turn in TURNS}


# -- throughput -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A server that is measured: its address, the model's name there, and its process."""

    address: str
    model: str
    pid: int


@dataclass(frozen=True)
class Rate:
    """New tokens a second, and CPU seconds a token; nan where the system does not tell another process's."""

    tokens: float
    cpu: float


def rate(server: Server, bodies: Sequence[dict[str, Any]]) -> Rate:
    """How fast a server answers requests that are sent at once."""
    with httpx.Client(base_url=server.address, timeout=600) as client, ThreadPoolExecutor(len(bodies)) as pool:
        cpu, started = cpu_seconds(server.pid), time.perf_counter()
        answers = list(pool.map(lambda body: client.post("/v1/chat/completions", json=body), bodies))
        seconds, spent = time.perf_counter() - started, cpu_seconds(server.pid) - cpu
    tokens = sum(answer.json()["usage"]["completion_tokens"] for answer in answers)
    return Rate(tokens / seconds, spent / tokens)


def cpu_seconds(pid: int) -> float:
    """What a process has used of the CPU in all its threads; nan where only Linux would tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bodies(model: str, clients: int, tokens: int, stop: int, steered: bool) -> list[dict[str, Any]]:
    """A request of each client, each its own question, which runs to its limit; every other way to steer is another."""
    found = []
    for i in range(clients):
        content = f"{QUESTIONS[i % len(QUESTIONS)]} ({i})"
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0,
                                "max_tokens": tokens, "logit_bias": {str(stop): -100}}  # fmt: skip
        if steered:
            body["steering"] = {"expression": f"{5 + i}%*mine @generation"}
        found.append(body)
    return found


def first_token(server: Server, body: dict[str, Any]) -> tuple[float, float]:
    """Seconds, and the server's CPU seconds, until the first piece of a text comes in a stream of one token."""
    with httpx.Client(base_url=server.address, timeout=600) as client:
        cpu, started = cpu_seconds(server.pid), time.perf_counter()
        whole = {**body, "stream": True, "max_tokens": 1}
        with client.stream("POST", "/v1/chat/completions", json=whole) as answer:
            came = [time.perf_counter() for line in answer.iter_lines() if line.startswith("data:")]
        found = came[0] - started
        return found, cpu_seconds(server.pid) - cpu


def mlx_lm_server(folder: Path) -> AbstractContextManager[Server]:
    """mlx-lm's server for the model in `folder`."""
    return _process(MLX_LM, ["--model", str(folder), "--log-level", "ERROR"], "/health", "default_model")


def own_server(store: Store, model: str) -> AbstractContextManager[Server]:
    """`steer explore` over `store`."""
    options = ["--store", str(store.root), "--model", model, "--no-browser"]
    return _process(OURS, options, "/v1/models", model)


@contextmanager
def _process(code: str, options: Sequence[str], ready: str, model: str) -> Iterator[Server]:
    """The server that `code` runs, from the time when it answers at `ready`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", code, *options, "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{address}{ready}", timeout=5)
                break
            except httpx.TransportError:
                if running.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server of {model} did not start") from None
                time.sleep(0.2)
        yield Server(address, model, running.pid)
    finally:
        running.terminate()
        running.wait()


def float32_folder(folder: Path, work: Path) -> Path:
    """The same model with weights as float32, in which alone a CPU is fast."""
    from mlx.utils import tree_flatten

    from steering_core.backend.mlx import mx
    from steering_core.models.mlx_lm import lazy_network

    copy = work / "float32"
    copy.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            (copy / file.name).write_bytes(file.read_bytes())
    network = lazy_network(folder, full_precision=True)
    weights = {name: array for name, array in tree_flatten(network.parameters()) if not name.startswith("lm_head")}
    mx.save_safetensors(str(copy / "model.safetensors"), weights, metadata={"format": "mlx"})
    config = json.loads((copy / "config.json").read_text())
    config.pop("quantization", None)
    (copy / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}))
    return copy


def library(model: Model, folder: Path) -> Store:
    """A store with one vector for the model."""
    from dataclasses import asdict

    from steering_core.vectors.saving import save
    from steering_core.vectors.vector import Vector

    store = Store(folder / "store")
    store.append("models", [asdict(model.identity)])
    direction = np.random.default_rng(0).standard_normal(model.identity.width).astype(np.float32)
    layer = model.identity.n_layers // 2
    save(store, [Vector("0" * 20, model.identity.model_id, None, "random", layer, 100.0, direction=direction)], "mine")
    return store


# -- probes ---------------------------------------------------------------------------------------------------------


def probe_cost(model: Model, pairs: int) -> tuple[float, float, float]:
    """Seconds of a step of 8 rows, and how many times as long one with four probes takes, by the clock and on the CPU.

    The steps come in pairs, of which each ratio is the median.
    """
    draw = np.random.default_rng(0)
    layers = np.linspace(1, model.identity.n_layers - 1, 4).astype(int)
    probes = tuple(Probe(int(n), draw.standard_normal(model.identity.width).astype(np.float32)) for n in layers)
    tokens = conversation(model, [{"role": "user", "content": QUESTIONS[0]}]).tokens
    both = (Running(model), Running(model))
    for running, some in zip(both, ((), probes), strict=True):
        running.add({i: Request(tokens, seed=i, probes=some) for i in range(8)})
        running.step()
    timed = [[_step(running) for running in both] for _ in range(pairs)]
    clock, cpu = (statistics.median(b[at] / a[at] for a, b in timed if a[at] > 0) for at in (0, 1))
    return statistics.median(a[0] for a, _ in timed), clock, cpu


def _step(running: Running) -> tuple[float, float]:
    """Seconds of a step by the clock, and on the CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    running.step()
    return time.perf_counter() - started, time.process_time() - cpu


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the three parts."""
    parser = options(__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        if given.tiny:
            config = {"max_position_embeddings": 8192}
            given.model = str(save_tiny_model(Path(work) / "tiny", config))
            given.tokens, given.clients, given.rounds = 3, "1,2", 1
        with open_model(given.model) as model:
            first_tokens(model, remembers=True)  # loads the weights
            for remembers in (False, True):
                said = ", ".join(f"turn {n} {s * 1000:.0f} ms" for n, s in first_tokens(model, remembers).items())
                say(f"first token {'with' if remembers else 'without'} the prefix cache: {said}")
            seconds, clock, cpu = probe_cost(model, 5 if given.tiny else 40)
            ratios = f"{clock:.3f} times as long, {cpu:.3f} in CPU time"
            say(f"a step of 8 rows {seconds * 1000:.1f} ms; with four probes {ratios}")
            store, stop = library(model, Path(work)), model.tokenizer.eos_token_id
        folder = float32_folder(model_folder(given.model), Path(work))
        try:
            throughput(given, store, folder, stop)
        except RuntimeError as error:
            left_out("throughput beside mlx-lm's server", str(error))


def first_tokens_of_both(ours: Server, theirs: Server, stop: int, rounds: int) -> None:
    """Print what one client waits for the first token of a stream."""
    for known in (False, True):
        found: dict[Server, list[tuple[float, float]]] = {ours: [], theirs: []}
        for turn in range(rounds + 1):
            for server in (ours, theirs):
                (body,) = bodies(server.model, 1, 1, stop, server is ours)
                new = "" if known else f"{turn}: "
                body["messages"][0]["content"] = f"{new}{QUESTIONS[0]} {WORDS}"
                found[server].append(first_token(server, body))
        mine, its = (_medians(found[server][1:]) for server in (ours, theirs))
        say(f"first token of a stream behind a {'known' if known else 'new'} prompt: {mine}; mlx-lm's server {its}")


def _medians(found: Sequence[tuple[float, float]]) -> str:
    clock, cpu = (statistics.median(each) * 1000 for each in zip(*found, strict=True))
    return f"{clock:.0f} ms ({cpu:.0f} of CPU)"


def throughput(given: Any, store: Store, folder: Path, stop: int) -> None:
    """Print tokens a second of both servers at each number of clients."""
    with own_server(store, given.model) as ours, mlx_lm_server(folder) as theirs:
        for server in (ours, theirs):
            rate(server, bodies(server.model, 1, 2, stop, server is ours))  # loads the weights
        first_tokens_of_both(ours, theirs, stop, given.rounds)
        for clients in map(int, given.clients.split(",")):
            asked = {
                server: bodies(server.model, clients, given.tokens, stop, server is ours) for server in (ours, theirs)
            }
            rounds = [(rate(ours, asked[ours]), rate(theirs, asked[theirs])) for _ in range(given.rounds)]
            mine, its = (statistics.median(one.tokens for one in side) for side in zip(*rounds, strict=True))
            ratio = statistics.median(a.tokens / b.tokens for a, b in rounds)
            cpu = statistics.median(b.cpu / a.cpu for a, b in rounds)
            say(f"{clients} clients: {mine:.1f} tokens a second, each steered in its own way")
            say(
                f"  beside mlx-lm's server, unsteered, with {its:.1f}: {ratio:.2f} times as many; {cpu:.2f} in CPU time"
            )


if __name__ == "__main__":
    main()
