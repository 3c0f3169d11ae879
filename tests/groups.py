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
MATRIX = ("architectures", "bake", "named_models", "prefixes_everywhere")  # files with a test for each architecture
LONG = (  # the other files whose tests take more than 20 seconds together: browsers, kills, object stores, whole runs
    "at_once", "bake_refusals", "benchmarks", "capabilities", "cli", "cli_walk", "explorer_bombs", "explorer_fuzz",
    "explorer_load", "explorer_merging", "explorer_objects", "explorer_page", "explorer_page_edges",
    "explorer_page_look", "explorer_page_watch", "explorer_spec", "explorer_walls", "fuzz", "hub", "judge", "kills",
    "library_candidates", "memory", "notebook_api", "objects", "odd_specs", "one_name", "openai_api", "packs",
    "pipeline", "plan", "recovery", "scorers", "search", "side_effects", "store", "store_creation", "store_given",
    "store_places", "tables", "terminal", "training", "unpaired", "unsaid_strength", "vector_meaning", "vector_methods",
    "vectors",
)  # fmt: skip
LONGEST = (
    "prefect", "tests/test_examples.py", "tests/test_notebooks.py", "tests/test_benchmarks.py", "tests/test_memory.py",
    "tests/test_architectures.py", "tests/test_bake.py", "tests/test_at_once.py", "tests/test_odd_specs.py",
    "tests/test_pipeline.py", "tests/test_objects.py", "tests/test_cli_concepts.py", "tests/test_side_effects.py",
    "tests/test_cli.py", "tests/test_explorer_page.py", "tests/test_tables.py", "tests/test_packs.py",
    "tests/test_stability.py",
    "tests/test_store.py", "tests/test_store_places.py", "tests/test_store_upkeep.py", "tests/test_readme.py",
    "tests/test_kills.py", "tests/test_bake_refusals.py",
)  # fmt: skip


def group_of(node: str) -> str:
    """The group of a test, by its node id."""
    return "prefect" if node.startswith(PREFECT) else node.partition("::")[0]


def rank_of(node: str) -> int:
    """Where a test's group stands among the longest; after them where it is none of these."""
    group = group_of(node)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def marks_of(node: str) -> list[str]:
    """What `make quick` leaves a test out for, beside its own marks: `matrix` or `long`, by its file."""
    file = node.partition("::")[0].removeprefix("tests/test_").removesuffix(".py")
    return ["matrix"] * (file in MATRIX) + ["long"] * (file in LONG)


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """A worker takes a whole group at a time, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
