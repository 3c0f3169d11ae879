"""`steer generate` and `steer chat`: vectors by name, strengths, expressions, and steering changed on the fly."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import steering_core as steer
from steering_core.cli import chat, generate
from steering_core.cli.chat import ChatSession
from steering_core.foundation.errors import InterventionError, SteerflowError, VectorMismatch, VectorNotFound
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors.saving import save
from tests.tiny import save_tiny_model

SHORT = steer.Sampling(max_tokens=6)


@pytest.fixture(scope="module")
def vector(tiny: Model) -> steer.Vector:
    return steer.contrast(tiny, "I love it", "I hate it", layer=1)


@pytest.fixture(scope="module")
def shelf(tiny: Model, vector: steer.Vector, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which the vector goes by the name `warm`."""
    store = Store(tmp_path_factory.mktemp("shelf") / "store")
    store.append("models", [dataclasses.asdict(tiny.identity)])
    save(store, [vector], "warm")
    return str(store.root)


def run(app: object, folder: Path, *arguments: str, said: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(folder), *arguments], input=said)


def test_generate_prints_what_the_api_gives(tiny: Model, tiny_folder: Path, vector: steer.Vector, shelf: str) -> None:
    expected = steer.generate(tiny, "Hello", vector, alpha=4, sampling=SHORT)
    options = ["Hello", "--max-tokens", "6", "--store", shelf]
    for way in (["-v", "warm", "-a", "4"], ["-s", "4*warm"], ["-v", "warm", "-a", "4", "--stream"]):
        done = run(generate.app, tiny_folder, *options, *way)
        assert (done.exit_code, done.stdout) == (0, expected + "\n"), done.output
    milder = steer.generate(tiny, "Hello", vector, alpha=vector.alpha(5.0), sampling=SHORT)
    for dose in ("5", "500%"):
        assert run(generate.app, tiny_folder, *options, "-v", "warm", "--dose", dose).stdout == milder + "\n"


def test_a_vector_of_a_sibling_model_is_taken_where_that_is_allowed(
    tiny: Model, vector: steer.Vector, shelf: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sibling = save_tiny_model(tmp_path / "sibling", seed=1)
    options = ["Hello", "--max-tokens", "6", "--store", shelf, "-v", "warm", "-a", "4"]
    refused = run(generate.app, sibling, *options)
    assert isinstance(refused.exception, VectorNotFound)
    done = run(generate.app, sibling, *options, "--same-family")
    with steer.open_model(str(sibling)) as model:
        expected = steer.generate(model, "Hello", vector.intervention(20, "generation"), sampling=SHORT)
        plain = steer.generate(model, "Hello", sampling=SHORT)
    assert done.stdout == expected + "\n" != plain + "\n"
    assert "whether it means the same there is for you to measure" in caplog.text
    wide = save_tiny_model(tmp_path / "wide", {"hidden_size": 48})
    assert isinstance(run(generate.app, wide, *options, "--same-family").exception, VectorMismatch)


def test_compare_shows_both_texts(tiny: Model, tiny_folder: Path, vector: steer.Vector, shelf: str) -> None:
    options = ["Hello", "Bye", "--max-tokens", "6", "--store", shelf, "--compare", "-v", "warm", "-a", "4"]
    rows = json.loads(run(generate.app, tiny_folder, *options, "--format", "json").stdout)
    assert [(row["prompt"], row["intervention"]) for row in rows] == [
        (prompt, what) for prompt in ("Hello", "Bye") for what in ("unsteered", "4*warm @generation")
    ]
    assert rows[2]["text"] == steer.generate(tiny, "Bye", sampling=SHORT)
    assert rows[3]["text"] == steer.generate(tiny, "Bye", vector, alpha=4, sampling=SHORT)
    table = run(generate.app, tiny_folder, *options).stdout
    assert "unsteered" in table
    assert "4*warm @generation" in table


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-a", "2"], "a strength without a vector"),
        (["-v", "warm", "-s", "warm"], "not both"),
        (["-v", "warm", "-a", "1", "--dose", "1"], "not both"),
        (["-v", "warm", "-v", "warm", "-v", "warm", "-a", "1", "-a", "2"], "one each, or one for all"),
        (["-v", "warm", "--phase", "later"], "expected all, prompt, generation, response, thinking, tool"),
        (["-v", "wrm"], "did you mean 'warm'"),
    ],
)
def test_options_that_do_not_fit_are_told(tiny_folder: Path, shelf: str, options: list[str], words: str) -> None:
    done = run(generate.app, tiny_folder, "Hello", "--store", shelf, *options)
    assert isinstance(done.exception, SteerflowError)
    assert words in str(done.exception)


@pytest.mark.parametrize("options", [["-a", "nan"], ["-a", "inf"]])
def test_a_strength_beyond_all_bounds_is_told(tiny_folder: Path, shelf: str, options: list[str]) -> None:
    done = run(generate.app, tiny_folder, "Hello", "--store", shelf, "-v", "warm", *options)
    assert done.exit_code == 2
    assert f"'{options[0]}'" in done.output
    assert "Input should be less than or equal to" in done.output


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["-v", "warm", "--dose", "30"], "did you mean 30%, which is a dose of 0.3?"),
        (["-v", "warm", "-a", "30"], "did you mean 30%, which is a dose of 0.3?"),
        (["-s", "30*warm"], "did you mean 30%, which is a dose of 0.3?"),
        (["-v", "warm", "--dose", "3000%"], "did you mean 30%, which is a dose of 0.3?"),
        (["-v", "warm", "--dose", "1e307"], "10 is the most"),
        (["-v", "warm", "--dose", "nan"], "give a finite one"),
        (["-s", "3000%*warm"], "did you mean 30%, which is a dose of 0.3?"),
    ],
)
def test_a_dose_beyond_all_bounds_is_asked_about(
    tiny: Model, tiny_folder: Path, vector: steer.Vector, shelf: str, options: list[str], asked: str
) -> None:
    done = run(generate.app, tiny_folder, "Hello", "--store", shelf, *options)
    assert isinstance(done.exception, InterventionError)
    assert asked in str(done.exception)
    with pytest.raises(InterventionError, match="did you mean 30%"):
        steer.generate(tiny, "Hello", vector, dose=30)


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_is_bounded(tiny_folder: Path, seed: str) -> None:
    done = run(generate.app, tiny_folder, "Hello", "--temperature", "1", "--seed", seed)
    assert done.exit_code == 2
    assert "than or equal to" in done.output


def test_a_chat_remembers_and_its_steering_changes_on_the_fly(tiny: Model, vector: steer.Vector, shelf: str) -> None:
    def shown(steering: str, alpha: float) -> str:
        place = f"warm at layer {vector.layer} with alpha {alpha:.3g}, dose {vector.dose(alpha):.2g}"
        return f"steering: {steering} ({place})\n"

    this = ChatSession(tiny, store=shelf, max_tokens=6)
    plain = "".join(this.hear("Hello"))
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": plain.removesuffix("\n")}]
    assert this.messages == said
    assert "".join(this.hear("/vector warm")) == shown("warm", 1)
    assert "".join(this.hear("/alpha 4")) == shown("4*warm", 4)
    steered = "".join(this.hear("/again"))
    assert steered != plain
    assert len(this.messages) == 2
    assert "".join(this.hear("/alpha 40%")) == shown("40%*warm", vector.alpha(0.4))
    by_alpha = "".join(this.hear("/again"))
    assert "".join(this.hear("/dose 0.4")) == "".join(this.hear("/dose 40%")) == shown("40%*warm", vector.alpha(0.4))
    assert "".join(this.hear("/again")) == by_alpha
    assert "".join(this.hear("/dose")) == shown("warm", 1)
    assert "".join(this.hear("/vector off")) == "steering: none\n"
    assert "did you mean /vector off?" in "".join(this.hear("/off"))
    for off in ("/steer none", "/dose off", "/alpha OFF"):
        list(this.hear("/vector warm"))
        assert "".join(this.hear(off)) == "steering: none\n"
    assert "".join(this.hear("/again")) == plain
    list(this.hear("More"))
    assert [message["role"] for message in this.messages] == ["user", "assistant"] * 2
    assert "".join(this.hear("/clear")) == "a new conversation\n"
    assert this.messages == []


def test_chat_tells_mistakes_and_goes_on(tiny: Model, shelf: str) -> None:
    this = ChatSession(tiny, store=shelf, max_tokens=6)
    assert "no command /sing" in "".join(this.hear("/sing"))
    assert "did you mean /temperature?" in "".join(this.hear("/temp 0"))
    assert "did you mean /alpha?" in "".join(this.hear("/alhpa 1"))
    assert "not a dose" in "".join(this.hear("/dose much"))
    assert "no command /answer" in "".join(this.hear("/answer x"))
    assert "nothing is steered" in "".join(this.hear("/alpha 2"))
    assert "nothing has been said" in "".join(this.hear("/again"))
    assert "not a number of tokens" in "".join(this.hear("/tokens many"))
    assert "/alpha A" in "".join(this.hear("/help"))
    list(this.hear("/steer 2*warm"))
    for line, error in (
        ("/steer 2*wrm", VectorNotFound),
        ("/steer 2*", InterventionError),
        ("/alpha x", InterventionError),
        ("/alpha 30", InterventionError),
        ("/dose 30", InterventionError),
    ):
        with pytest.raises(error):
            list(this.hear(line))
        assert str(this.steering) == "2*warm"


def test_chat_reads_lines_until_the_end(tiny_folder: Path, shelf: str) -> None:
    said = "/vector wrm\n/vector warm\nHello\n/quit\nnever\n"
    done = run(chat.app, tiny_folder, "--store", shelf, "--max-tokens", "4", said=said)
    assert done.exit_code == 0, done.output
    assert "did you mean 'warm'" in done.stdout
    assert "steering: warm" in done.stdout
    assert "never" not in done.stdout
