"""Clients that were not written for this server: llm, LangChain's ChatOpenAI, and Open WebUI's requests."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from steering_core.explorer.routes.openai import UNREAD
from tests.foreign_clients import run_with_clients

FORMS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "open_webui_requests.json").read_text())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["what"])
def test_open_webuis_requests_are_answered(address: str, tiny_folder: Path, form: dict[str, Any]) -> None:
    """In the forms that its `utils/payload.py` and `routers/tasks.py` send; the model goes by a steered name."""
    models = [model["id"] for model in httpx.get(f"{address}/v1/models").json()["data"]]
    steered = next(name for name in models if name.startswith(f"{tiny_folder}+"))
    answer = httpx.post(f"{address}/v1/chat/completions", json={**form["body"], "model": steered}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers.get(UNREAD) == form["unread"]
    if not form["body"]["stream"]:
        assert answer.json()["choices"][0]["message"]["role"] == "assistant"
        return
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert chunks[-1]["usage"]["completion_tokens"] == len(chunks) - 1
    assert chunks[-2]["choices"][0]["finish_reason"] in ("stop", "length")


LANGCHAIN = """
import json, sys
from langchain_openai import ChatOpenAI
url, model = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=8, stream_usage=True,
                  extra_body={"steering": {"expression": "3*agree"}})
plain = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=8)
steered = chat.invoke("Hello")
print(json.dumps({
    "steered": steered.content, "plain": plain.invoke("Hello").content, "usage": steered.usage_metadata,
    "streamed": "".join(chunk.content for chunk in chat.stream("Hello")),
    "logprobs": plain.bind(logprobs=True).invoke("Hello").response_metadata["logprobs"]["content"],
}))
"""


@pytest.mark.registry
def test_langchains_chat_class_talks_to_a_steered_model(address: str, tiny_folder: Path, tmp_path: Path) -> None:
    found = json.loads(run_with_clients(["-c", LANGCHAIN, f"{address}/v1", str(tiny_folder)], tmp_path))
    same = {"model": str(tiny_folder), "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    ours = httpx.post(f"{address}/v1/chat/completions", json={**same, "temperature": 0}, timeout=60).json()
    assert found["plain"] == ours["choices"][0]["message"]["content"]
    assert found["streamed"] == found["steered"] != found["plain"]
    assert found["usage"]["output_tokens"] <= 8
    assert (
        bytes(byte for token in found["logprobs"] for byte in token["bytes"]).decode(errors="replace") == found["plain"]
    )


@pytest.mark.registry
@pytest.mark.parametrize("stream", [True, False])
def test_llm_prompts_a_model_that_is_steered_by_its_name(
    address: str, tiny_folder: Path, tmp_path: Path, stream: bool
) -> None:
    listed = {"model_id": "steered", "model_name": f"{tiny_folder}+agree:300%", "api_base": f"{address}/v1",
              "api_key_name": "openai"}  # fmt: skip
    plain = {**listed, "model_id": "plain", "model_name": str(tiny_folder)}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([listed, plain]))
    told = {}
    for name in ("steered", "plain"):
        arguments = ["-m", "llm", "-m", name, "-o", "temperature", "0", "-o", "max_tokens", "8", "Hello"]
        given = {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
        told[name] = run_with_clients([*arguments, *([] if stream else ["--no-stream"])], tmp_path, **given)
    assert told["steered"].strip("\n")
    assert told["steered"] != told["plain"]
