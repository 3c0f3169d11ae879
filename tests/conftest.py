"""Fixtures: a tiny model and a concept for it, a toy whose answers are known, an empty store, the embedded model."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from steering_core.concepts import Concept, Item, Pair
from steering_core.engine import decoding, draws
from steering_core.interventions.declarations import OPERATIONS
from steering_core.interventions.operations import FUNCTIONS
from steering_core.models import Model, open_model
from steering_core.scores.metrics import ANSWER_METRICS, ITEM_METRICS, NEUTRAL_METRICS, TEXT_METRICS, Setup
from steering_core.statistics.metric_names import METRICS
from steering_core.store import Store
from steering_core.store.views import write_catalog
from steering_core.vectors.discovery import DISCOVERIES
from steering_core.vectors.methods import METHODS, TRAINED, UNPAIRED
from steering_core.vectors.vector import Vector
from tests import toy
from tests.explorer import AGREE, copied, ran_store, served, serving
from tests.groups import Groups, group_of, marks_of, rank_of
from tests.machine import new_machine
from tests.reported import reported_store
from tests.s3 import s3_bucket
from tests.sailors import sailor_at, shelf_in
from tests.stored import made_up_concept
from tests.tiny import save_tiny_model

REGISTRIES: tuple[Any, ...] = (  # dictionaries and sets
    METHODS, TRAINED, UNPAIRED, DISCOVERIES, METRICS, ITEM_METRICS, NEUTRAL_METRICS, ANSWER_METRICS, TEXT_METRICS,
    OPERATIONS, FUNCTIONS,
)  # fmt: skip


MACHINE = pytest.StashKey[contextlib.ExitStack]()


def needs_machine(item: pytest.Item) -> bool:
    """Whether a test needs Prefect's server."""
    return item.get_closest_marker("server") is not None and "machine" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest groups first, and mark tests by their files.

    Raises UsageError for a test that needs the server and is not of its group.
    """
    items.sort(key=lambda item: rank_of(item.nodeid))
    for item in items:
        for mark in marks_of(item.nodeid):
            item.add_marker(mark)
    if apart := [item.nodeid for item in items if needs_machine(item) and group_of(item.nodeid) != "prefect"]:
        raise pytest.UsageError(f"these need Prefect's server: name them in PREFECT of tests/groups.py: {apart}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """Groups are dealt out whole; `--no-loadscope-reorder` keeps their order."""
    return Groups(config, log)


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    """What a test registers under a decorator is gone after it, so that no test sees another's method or metric."""
    before = [registry.copy() for registry in REGISTRIES]
    yield
    for registry, kept in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(kept)


@pytest.fixture(autouse=True, scope="session")
def _unflushed() -> Iterator[None]:
    """No test cuts the power, so none waits for the disk: a small run flushes a hundred times. Children of tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steering_core.store.files._flush", lambda path: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_servers_behind() -> Iterator[None]:
    """Temporary servers that Prefect started in this process end with it: xdist's workers run no atexit functions."""
    yield
    if "prefect.server.api.server" in sys.modules:
        servers = sys.modules["prefect.server.api.server"].SubprocessASGIServer
        for server in list(servers._instances.values()):
            server.stop()


@pytest.fixture(autouse=True, scope="session")
def _no_catalogues() -> Iterator[None]:
    """A store that a test makes has no catalog.duckdb: binding its views is 95 % of what making a store costs.

    Tests of the catalogue itself ask for the fixture `catalogues`; children of tests write it as ever.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steering_core.store.opening.write_catalog", lambda folder: None)
        yield


@pytest.fixture(scope="module")
def catalogues() -> Iterator[None]:
    """Stores have their catalogue in this module's tests, as they do outside of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steering_core.store.opening.write_catalog", write_catalog)
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_side_effects() -> Iterator[None]:
    """A run of one concept measures no side effects on the fifteen shipped ones; test_side_effects has runs that do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steering_core.pipeline.wanted.ALONE", ())
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama as an mlx-lm folder."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Iterator[Model]:
    """The tiny model, open: 4 layers, width 32."""
    with open_model(str(tiny_folder)) as model:
        yield model


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, whose answers are known, as an mlx-lm folder."""
    return toy.save_toy_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def toy_model(toy_folder: Path) -> Iterator[Model]:
    """The toy, open."""
    with open_model(str(toy_folder)) as model:
        yield model


@pytest.fixture(scope="module")
def setup(toy_model: Model) -> Setup:
    """The toy with its concept."""
    return Setup(toy_model, toy.CONCEPT)


@pytest.fixture(params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of taking steps with sampling: tokens looked at first (CPU), or the next pass under way (GPU)."""
    for module in (draws, decoding):
        monkeypatch.setattr(module, "on_cpu", lambda: request.param == "cpu")
    return str(request.param)


@pytest.fixture(scope="session")
def real() -> Iterator[Model]:
    """The embedded model, SmolLM2-135M-Instruct."""
    with open_model("smollm2-135m") as model:
        yield model


@pytest.fixture(scope="session")
def agree_run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A store's folder with a small run of the concept `agree` on the tiny model, for tests to copy."""
    return Path(ran_store(tmp_path_factory.mktemp("agree"), tiny_folder, AGREE).root)


@pytest.fixture(scope="session")
def sailors(tiny: Model) -> list[Vector]:
    """A vector of the made-up concept `sailor` at each layer of the tiny model."""
    return [sailor_at(tiny, made_up_concept("sailor").concept_id, layer) for layer in range(4)]


@pytest.fixture
def shelf(tiny: Model, sailors: list[Vector], tmp_path: Path) -> Store:
    """A store in which layers 1 and 2 of `sailor` are recommended together, at doses 0.3 and 0.1."""
    return shelf_in(tmp_path, tiny, sailors)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a run whose report, charts and verdict are read; nobody writes there."""
    return reported_store(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, agree_run: Path) -> Store:
    """A copy of that store for one module's tests; some modules have a run of their own under this name."""
    return copied(agree_run, tmp_path_factory.mktemp("ran"))


@pytest.fixture(scope="module")
def place(ran: Store) -> Path:
    """The folder of `ran`."""
    return Path(ran.root)


@pytest.fixture(scope="module")
def client(ran: Store) -> Iterator[TestClient]:
    """A client of the explorer over `ran`."""
    with serving(ran) as client:
        yield client


@pytest.fixture(scope="module")
def address(ran: Store) -> Iterator[str]:
    """The address of the explorer over `ran`, on a real server."""
    with served(ran) as address:
        yield address


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def concept() -> Concept:
    """A small concept: 10 pairs, 3 prompts, 8 items."""
    return Concept(
        name="loud",
        chat=True,
        pairs=tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD!", negative=f"{i} quiet.") for i in range(10)),
        prompts=("Hello", "Tell me more", "Why so?"),
        items=tuple(Item(prompt=f"Shout {i}?", matching="YES", not_matching="nope") for i in range(8)),
    )


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Prefect's server, deployments and a worker, until no test needs them; the environment in which they answer."""
    with contextlib.ExitStack() as running:
        request.session.stash[MACHINE] = running
        yield running.enter_context(new_machine(tmp_path_factory.mktemp("Jörg's machine")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Stop Prefect's server after the last test of its group: it takes CPU as long as it is up."""
    yield
    if group_of(item.nodeid) == "prefect" and not (nextitem and group_of(nextitem.nodeid) == "prefect"):
        item.session.stash.get(MACHINE, contextlib.ExitStack()).close()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """s3://… of an empty bucket."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with s3_bucket() as url:
        yield url
