"""`Endpoint`: a server that speaks OpenAI's chat completions, asked in order, a few questions at a time."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from steering_core.foundation.errors import EndpointError
from steering_core.foundation.key_names import API_KEY, checked_key_name
from steering_core.foundation.keys import seed_from
from steering_core.foundation.validation import shortened

log = logging.getLogger(__name__)

SECONDS_TO_WAIT = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before another try; a server's Retry-After counts up to the last
TRIES_OF_NOBODY = 2
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # HTTP statuses after which asking again may help

PlainMessages = Sequence[Mapping[str, str]]
"""A conversation: role and content of each turn."""


@dataclass(frozen=True)
class EndpointSampling:
    """How answers are sampled."""

    max_tokens: int = 80
    temperature: float = 0.8
    seed: int = 0


@dataclass(frozen=True)
class EndpointAnswer:
    """What a server said, whether the token limit cut it off, and which model it says answered."""

    text: str
    cut: bool
    version: str


@dataclass(frozen=True)
class Endpoint:
    """A base URL such as http://localhost:8080/v1, and a model there.

    The key in the environment's variable `key_from` is sent where it is set. A question that meets a busy or absent
    server is asked again, `retries` times at most. Raises SettingError for a name that `checked_key_name` refuses.
    """

    url: str
    model: str
    key_from: str = API_KEY
    timeout: float = 120.0
    retries: int = 3

    def __post_init__(self) -> None:
        checked_key_name(self.key_from)

    def answers(
        self, asked: Sequence[PlainMessages], sampling: EndpointSampling, at_once: int = 1
    ) -> Iterator[EndpointAnswer]:
        """The answer to each conversation, in their order. Raises EndpointError where the server gives none."""
        if not self.url.startswith(("http://", "https://")):
            raise EndpointError(f"{self.url!r} is no address of a server: it begins with http:// or https://")
        with httpx.Client(timeout=self.timeout, headers=self._headers()) as client, ThreadPoolExecutor(at_once) as pool:
            try:
                yield from pool.map(lambda messages: self._answer(client, messages, sampling), asked)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _address(self) -> str:
        return f"{self.url.rstrip('/')}/chat/completions"

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.key_from)
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _answer(self, client: httpx.Client, messages: PlainMessages, sampling: EndpointSampling) -> EndpointAnswer:
        body = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": seed_from(sampling.seed, messages[-1]["content"]),
        }
        return self._read(self._posted(client, body))

    def _posted(self, client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
        """The server's reply; asked again, up to `retries` times, where it does not answer or says a passing fault.

        Where nobody listens it is asked again `TRIES_OF_NOBODY` times at most.
        """
        waits = [SECONDS_TO_WAIT[min(i, len(SECONDS_TO_WAIT) - 1)] for i in range(self.retries)]
        for attempt, wait in enumerate([*waits, None]):
            try:
                reply = client.post(self._address, json=body)
            except (httpx.HTTPError, httpx.InvalidURL) as fault:
                nobody = isinstance(fault, httpx.ConnectError) and attempt >= TRIES_OF_NOBODY
                if wait is None or nobody:
                    raise EndpointError(
                        f"{self._address} cannot be used ({type(fault).__name__}: {fault}): start a server there "
                        "(mlx_lm.server, llama-server, ollama), mend the address, or name a local model instead"
                    ) from fault
            else:
                if wait is None or reply.status_code not in TRANSIENT:
                    return reply
                wait = _asked_to_wait(reply, wait)
            log.warning("%s does not answer, or is busy: it is asked again in %.3g s", self._address, wait)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _read(self, reply: httpx.Response) -> EndpointAnswer:
        if reply.is_error or reply.is_redirect:
            key = "set" if os.environ.get(self.key_from) else "not set"
            raise EndpointError(
                f"{self._address} answers {reply.status_code}: {shortened(reply.text, 300)} (model {self.model!r}; the "
                f"environment's {self.key_from} is {key})"
            )
        try:
            found = reply.json()
            choice = found["choices"][0]
            text, finish = str(choice["message"]["content"] or ""), choice.get("finish_reason")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as fault:
            said = shortened(reply.text, 200)
            raise EndpointError(
                f"{self._address} does not answer as OpenAI's chat completions do ({fault!r}): {said}"
            ) from fault
        version = (str(found[name]) for name in ("model", "system_fingerprint") if found.get(name))
        return EndpointAnswer(text, finish == "length", " ".join(version) or self.model)


def _asked_to_wait(reply: httpx.Response, least: float) -> float:
    """Seconds until the next try: what the server asks for, between `least` and the longest wait."""
    asked = reply.headers.get("Retry-After", "")
    return min(max(float(asked), least), SECONDS_TO_WAIT[-1]) if asked.isdecimal() else least
