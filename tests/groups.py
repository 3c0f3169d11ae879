"""How tests are dealt out to the workers of `make test`: by file, those beside Prefect's server as one group.

There is one server then for the whole suite, whatever the number of workers, and it stops with the last test that needs
it. The longest groups begin first: a worker that gets one when the others have run out of tests keeps all waiting.
(pytest-xdist's own groups are without effect under pytest 9.2, which no longer reads the names that it changes; it
deals out files by their number of tests, so that the longest, of one test, come last.)
"""

from xdist.scheduler import LoadScopeScheduling

PREFECT = (
    "tests/test_deployment.py",
    "tests/test_flows.py",
    "tests/test_upkeep_flows.py",
    "tests/test_benchmarks.py::test_a_tiny_round_beside_a_prefect_server",
)
LONGEST = (
    "prefect", "tests/test_examples.py", "tests/test_notebooks.py", "tests/test_benchmarks.py", "tests/test_memory.py",
    "tests/test_architectures.py", "tests/test_bake.py", "tests/test_at_once.py", "tests/test_odd_specs.py",
    "tests/test_pipeline.py", "tests/test_objects.py", "tests/test_cli_concepts.py", "tests/test_side_effects.py",
    "tests/test_cli.py", "tests/test_explorer_page.py", "tests/test_tables.py", "tests/test_packs.py",
    "tests/test_stability.py",
    "tests/test_store.py", "tests/test_store_places.py", "tests/test_store_upkeep.py", "tests/test_readme.py",
    "tests/test_kills.py",
)  # fmt: skip


def group_of(node: str) -> str:
    """The group of a test, by its node id."""
    return "prefect" if node.startswith(PREFECT) else node.partition("::")[0]


def rank_of(node: str) -> int:
    """Where a test's group stands among the longest; after them where it is none of these."""
    group = group_of(node)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """A worker takes a whole group at a time, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
