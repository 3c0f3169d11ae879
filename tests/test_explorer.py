"""The explorer's API on a tiny model: streams, drafts, the library, the evidence, OpenAI's forms, and the shield."""

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from steering_core.concepts import Concept, Item, Pair
from steering_core.engine.sampling import Request, sample
from steering_core.explorer.routes.look import DEFAULTS
from steering_core.foundation.counting import Work
from steering_core.models import open_model
from steering_core.prompts import prompt
from steering_core.store import Store
from steering_core.vectors import library
from tests.explorer import events, ran_store, serving

CONTRAST = {"positive": ["I love it!", "Great."], "negative": ["I hate it.", "Awful."]}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Store:
    loud = Concept(
        name="loud",
        chat=True,
        pairs=tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD!", negative=f"{i} quiet.") for i in range(10)),
        prompts=("Hello", "Tell me more"),
        items=tuple(Item(prompt=f"Shout {i}?", matching="YES", not_matching="nope") for i in range(8)),
    )
    return ran_store(tmp_path_factory.mktemp("explorer"), tiny_folder, loud)


@pytest.fixture
def wanted(tiny_folder: Path) -> dict[str, Any]:
    steering = {"vectors": [{"contrast": CONTRAST, "layers": [1, 2], "dose": 0.8}]}
    asked = {"prompt": "Hello", "steering": steering, "max_tokens": 6, "seed": 3, "temperature": 0.7}
    return {"model": str(tiny_folder), **asked}


def texts(found: list[dict[str, Any]]) -> dict[int, str]:
    rows: dict[int, str] = {}
    for event in found:
        if event["event"] == "token":
            rows[event["row"]] = rows.get(event["row"], "") + event["text"]
    return rows


# -- steer --------------------------------------------------------------------------------------------------------


def test_base_and_steered_text_stream_side_by_side(client: TestClient, wanted: dict[str, Any]) -> None:
    found = events(client, "/api/steer", wanted)
    kinds = [event["event"] for event in found]
    assert kinds[0] == "queued"
    assert kinds[-1] == "done"
    start = found[kinds.index("start")]
    assert start["rows"] == ["base", "steered"]
    assert [v["layer"] for v in start["vectors"]] == [1, 2]
    assert all(v["dose"] == pytest.approx(0.8) for v in start["vectors"])
    tokens = [event for event in found if event["event"] == "token"]
    assert {event["row"] for event in tokens} == {0, 1}
    assert all(len(event["projections"]) == 1 for event in tokens)
    both = texts(found)
    assert both[0] != both[1]


def test_the_streams_texts_are_the_engines_own(client: TestClient, wanted: dict[str, Any]) -> None:
    base = texts(events(client, "/api/steer", {**wanted, "steering": {}}))
    assert base[0] == base[1]
    with open_model(wanted["model"]) as model:
        tokens = prompt(model, "Hello", chat=True).tokens
        ((_, alone),) = sample(model, [Request(tokens, seed=3)], 6, 0.7, Work())
    assert base[0] == alone.text


def test_steering_at_a_stored_vector_moves_its_projection(client: TestClient, wanted: dict[str, Any]) -> None:
    vectors = client.get("/api/vectors", params={"model": wanted["model"]}).json()
    chosen = vectors[0]
    assert chosen["concept"] == "loud"
    assert chosen["verdict"] is not None
    steering = {"vectors": [{"vector": chosen["vector_id"], "dose": 1.5}]}
    found = events(client, "/api/steer", {**wanted, "steering": steering})
    first = {e["row"]: e["projections"][0] for e in reversed(found) if e["event"] == "token"}
    moved = first[1] - first[0]
    assert moved == pytest.approx(1.5 * chosen["residual_norm"], rel=0.01)
    (probe,) = next(e for e in found if e["event"] == "start")["probes"]
    assert probe["pushed"] == pytest.approx(moved, rel=0.01)


def test_an_expression_says_the_same_as_vectors(client: TestClient, wanted: dict[str, Any]) -> None:
    chosen = client.get("/api/vectors", params={"model": wanted["model"]}).json()[0]["vector_id"]
    listed = {"vectors": [{"vector": chosen, "dose": 0.7}]}
    told = {"expression": f"70%*{chosen}"}
    by_list, by_words = (events(client, "/api/steer", {**wanted, "steering": steering}) for steering in (listed, told))
    assert texts(by_list) == texts(by_words)
    *_, last = events(client, "/api/steer", {**wanted, "steering": {"expression": "70%*nowhere"}})
    assert "^" in last["message"]


def test_a_typed_contrast_becomes_a_vector_of_the_library(client: TestClient, ran: Store, tiny_folder: Path) -> None:
    drafts = client.post("/api/contrasts", json={"model": str(tiny_folder), "contrast": CONTRAST}).json()
    assert [draft["layer"] for draft in drafts] == [0, 1, 2, 3]
    body = {"model": str(tiny_folder), "vector_ids": [drafts[2]["vector_id"]], "name": "cheerful"}
    assert client.post("/api/vectors", json=body).status_code == 201
    saved = library.find(ran, "cheerful")
    assert (saved.vector_id, saved.layer, saved.n_pairs) == (drafts[2]["vector_id"], 2, 2)
    assert saved.lineage["positive"] == CONTRAST["positive"]
    listed = client.get("/api/vectors", params={"model": str(tiny_folder)}).json()
    assert "cheerful" in {vector["name"] for vector in listed}
    again = client.post("/api/vectors", json={**body, "name": "99"})
    assert again.status_code == 400
    assert "cannot be a vector's name" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"prompt": "x" * 60_000}, "prompt"),
        ({"temperature": -1}, "temperature"),
        ({"nonsense": 1}, "nonsense"),
        ({"steering": {"vectors": [{"vector": "a", "operation": "ablate"}]}}, "alpha or dose"),
        ({"steering": {"vectors": [{"contrast": CONTRAST, "layers": [1]}]}}, "alpha or dose"),
        ({"steering": {"vectors": [{"vector": "a", "dose": 30}]}}, "did you mean 30%"),
        ({"steering": {"vectors": [{"vector": "a", "alpha": 1, "dose": 1}]}}, "alpha or dose"),
        ({"steering": {"vectors": [{"vector": "a", "dose": 1, "operation": "ablate"}]}}, "share to remove"),
        ({"steering": {"vectors": [{"vector": "a", "alpha": 1}] * 9}}, "8"),
        ({"steering": {"vectors": [{"contrast": CONTRAST, "alpha": 1}]}}, "layers"),
    ],
)
def test_a_request_out_of_bounds_is_refused_at_once(
    client: TestClient, wanted: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    answer = client.post("/api/steer", json={**wanted, **change})
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "/etc"}, "there is no model '/etc' here"),
        ({"model": "someone/some-model"}, "there is no model"),
        ({"steering": {"vectors": [{"vector": "nowhere", "alpha": 1}]}}, "no vector 'nowhere'"),
        ({"steering": {"vectors": [{"contrast": CONTRAST, "layers": [99], "alpha": 1}]}}, "layers 0..3"),
        ({"prompt": "x" * 5000}, "beyond"),
    ],
)
def test_what_does_not_fit_is_told_in_the_stream(
    client: TestClient, wanted: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    *_, last = events(client, "/api/steer", {**wanted, **change})
    assert last["event"] == "error"
    assert said in last["message"]


# -- one accelerator, many tabs -----------------------------------------------------------------------------------


def test_many_tabs_are_served_together_each_as_if_alone(client: TestClient, wanted: dict[str, Any]) -> None:
    def seen(seed: int) -> list[tuple[str, list[float]]]:
        """Both rows' texts, whole, and their tokens' projections."""
        found = events(client, "/api/steer", {**wanted, "seed": seed, "max_tokens": 6 + seed})
        rows = [[e for e in found if e["event"] == "token" and e["row"] == row] for row in (0, 1)]
        assert all(len(row) <= 6 + seed and row[-1]["finish"] in ("stop", "length") for row in rows)
        return [("".join(e["text"] for e in row), [e["projections"][0] for e in row]) for row in rows]

    alone = [seen(seed) for seed in range(6)]
    together: dict[int, list[tuple[str, list[float]]]] = {}

    def tab(seed: int) -> None:
        together[seed] = seen(seed)

    tabs = [threading.Thread(target=tab, args=(seed,)) for seed in range(6)]
    for thread in tabs:
        thread.start()
    for thread in tabs:
        thread.join()
    for seed in range(6):
        for (text, projections), (own_text, own_projections) in zip(together[seed], alone[seed], strict=True):
            assert text == own_text
            assert projections == pytest.approx(own_projections, abs=1e-3)


# -- look and ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["layer_by_dose", "dose_response", "similarity", "frontier", "layer_profile", "token_projection"]
)
def test_charts_are_drawn_from_their_queries(client: TestClient, name: str) -> None:
    board = client.get("/api/rows/leaderboard").json()
    given = {"model_id": board[0]["model_id"], "concept_id": board[0]["concept_id"], "layer": board[0]["layer"]}
    given["recommendation_id"] = client.get("/api/rows/recommended").json()[0]["recommendation_id"]
    found = client.get(f"/api/charts/{name}", params=given).json()
    assert found["rows"] > 0
    assert found["chart"]["$schema"].startswith("https://vega.github.io/schema/vega-lite/v6")


def test_a_cell_of_the_heat_map_leads_to_its_texts(client: TestClient) -> None:
    cell = client.get("/api/rows/leaderboard").json()[0]
    ids = {name: cell[name] for name in ("model_id", "concept_id", "intervention_id")}
    found = client.get("/api/rows/texts_of_intervention", params=ids).json()
    assert {row["prompt"] for row in found} & {"Hello", "Tell me more"}
    assert all(row["base"] is not None and row["layers"] == str(cell["layer"]) for row in found)


def test_texts_are_sampled_for_a_cell_that_was_scored_and_for_no_other(
    client: TestClient, ran: Store, tiny_folder: Path
) -> None:
    (ids,) = ran.rows(
        "SELECT concept_id, intervention_id FROM leaderboard WHERE control IS NULL AND intervention_id NOT IN "
        "(SELECT intervention_id FROM generations) LIMIT 1"
    )
    wanted = {**ids, "model": str(tiny_folder)}
    for _ in range(2):  # the second time they are there already
        assert events(client, "/api/texts", wanted)[-1] == {"event": "sampled", "done": 1, "of": 1}
        assert len(ran.rows("SELECT text FROM generations WHERE intervention_id = ?", [ids["intervention_id"]])) == 2
    unknown = client.post("/api/texts", json={**wanted, "intervention_id": "0" * 20})
    assert (unknown.status_code, "choose a cell" in unknown.text) == (400, True)
    assert client.post("/api/texts", json={**wanted, "concept_id": "x"}).status_code == 422
    assert "Kullback" in client.get("/api/words").json()["kl"]


def test_the_prompts_nearest_to_a_vector_are_its_own_sides(client: TestClient, ran: Store, tiny_folder: Path) -> None:
    chosen = client.get("/api/vectors", params={"model": str(tiny_folder)}).json()[0]
    found = client.get("/api/rows/prompts_along_vector", params={"vector_id": chosen["vector_id"]}).json()
    assert [row["projection"] for row in found] == sorted((row["projection"] for row in found), reverse=True)
    assert "LOUD" in found[0]["text"]
    assert "quiet" in found[-1]["text"]


def test_a_vector_tells_what_tokens_it_promotes(client: TestClient, tiny_folder: Path) -> None:
    chosen = client.get("/api/vectors", params={"model": str(tiny_folder)}).json()[0]["vector_id"]
    found = client.get("/api/promoted", params={"model": str(tiny_folder), "vector": chosen}).json()
    logits = [row["logit"] for row in found if row["side"] == "promoted"]
    assert logits == sorted(logits, reverse=True)
    assert logits[0] > 0 > found[-1]["logit"]
    assert client.get("/api/promoted", params={"model": "/etc", "vector": chosen}).status_code == 404


def test_a_query_without_its_parameters_or_name_is_told(client: TestClient) -> None:
    assert "model_id, concept_id" in client.get("/api/rows/layer_by_dose").json()["error"]["message"]
    assert "did you mean 'leaderboard'" in client.get("/api/rows/leaderbord").json()["error"]["message"]


def test_every_named_query_answers(client: TestClient) -> None:
    cell = client.get("/api/rows/recommended").json()[0]
    for query in client.get("/api/queries").json():
        given = {name: cell[name] for name in query["parameters"] if name in cell}
        if not set(query["parameters"]) <= {*given, *DEFAULTS}:
            continue  # of sweeps and other things that this store has not
        answer = client.get(f"/api/rows/{query['name']}", params=given)
        assert answer.status_code == 200, (query["name"], answer.text)
        assert query["says"]


def test_sql_is_answered_cut_and_downloaded(client: TestClient) -> None:
    body = {"sql": "SELECT layer, vector FROM vectors ORDER BY layer", "max_rows": 2}
    found = client.post("/api/sql", json=body).json()
    assert (found["columns"], len(found["rows"]), found["cut"]) == (["layer", "vector"], 2, True)
    csv = client.post("/api/sql/download", json={"sql": "SELECT 1 AS a, [1, 2] AS b", "format": "csv"})
    assert csv.text == '"a","b"\n1,"[1, 2]"\n'
    parquet = client.post("/api/sql/download", json={"sql": "SELECT 1 AS a", "format": "parquet"})
    assert parquet.content[:4] == b"PAR1"
    refused = client.post("/api/sql", json={"sql": "COPY (SELECT 1) TO '/tmp/x.csv'"})
    assert refused.status_code == 400
    assert "only one SELECT" in refused.json()["error"]["message"]


@pytest.mark.parametrize(("n", "cut"), [(100_000, None), (100_001, "100000")])
def test_a_file_of_rows_that_were_cut_says_so(client: TestClient, n: int, cut: str | None) -> None:
    file = client.post("/api/sql/download", json={"sql": f"SELECT range AS a FROM range({n})", "format": "csv"})
    assert (file.text.count("\n") - 1, file.headers.get("x-steerflow-cut")) == (100_000, cut)


def test_the_pages_own_rows_that_were_cut_say_so(
    client: TestClient, ran: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    n = len(client.get("/api/rows/leaderboard").json())
    for most, cut in ((n, None), (n - 1, str(n - 1))):
        monkeypatch.setattr("steering_core.explorer.ask.MAX_DOWNLOAD_ROWS", most)
        with serving(ran) as client:
            rows = client.get("/api/rows/leaderboard")
            assert (len(rows.json()), rows.headers.get("x-steerflow-cut")) == (most, cut)
            assert client.get("/api/look").json()["leaderboard_cut"] is bool(cut)
        assert ("rows are shown of: -- " in caplog.text) is bool(cut)


def test_numbers_that_json_lacks_are_null(client: TestClient) -> None:
    found = client.post("/api/sql", json={"sql": "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b, [now()] AS c"}).json()
    assert found["rows"][0]["a"] is None
    assert found["rows"][0]["b"] is None


def test_the_openapi_document_covers_every_route(client: TestClient) -> None:
    paths = set(client.get("/api/openapi.json").json()["paths"])
    assert {"/api/steer", "/api/contrasts", "/api/vectors", "/api/sql", "/v1/chat/completions"} <= paths
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404


def test_a_drafts_layers_are_those_that_it_has(client: TestClient, wanted: dict[str, Any], tiny_folder: Path) -> None:
    drafts = client.post("/api/contrasts", json={"model": str(tiny_folder), "contrast": CONTRAST}).json()
    use = {"vector": drafts[2]["vector_id"], "dose": 0.5}
    for layers in ([2], "all", None):
        start = events(client, "/api/steer", {**wanted, "steering": {"vectors": [{**use, "layers": layers}]}})[1]
        assert [one["layer"] for one in start["vectors"]] == [2]
    *_, last = events(client, "/api/steer", {**wanted, "steering": {"vectors": [{**use, "layers": [1]}]}})
    assert (last["status"], "is of layer 2: ask for that layer" in last["message"]) == (404, True)


@pytest.mark.parametrize(("phase", "pushes"), [("all", True), ("generation", True), ("prompt", False)])
def test_the_push_is_what_acts_on_the_answer_however_it_was_asked_for(
    client: TestClient, wanted: dict[str, Any], phase: str, pushes: bool
) -> None:
    name = "loud/mean_difference/1"
    by_phase = {"vectors": [{"vector": name, "alpha": 2.0}], "phase": phase}
    by_expression = {"expression": f"2*{name} @{phase}", "phase": "generation" if phase == "prompt" else "prompt"}
    for steering in (by_phase, by_expression):
        start = events(client, "/api/steer", {**wanted, "steering": steering, "probes": [name]})[1]
        (watched,) = start["watched"]
        assert (watched["pushed"] > 0) == pushes, steering
