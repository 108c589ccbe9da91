"""A vision-language model behind an address that speaks OpenAI's protocol of chat completions."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Any

import requests

TRIES = 5
WAIT = 2.0
"""Seconds before the second try; each later one waits twice as long, or as long as the server says."""
LONGEST = 60.0
CONNECT, READ = 10.0, 120.0
"""Seconds to wait for a connection, and for an answer."""
TRY_AGAIN = {408, 409, 429, 500, 502, 503, 504, 529}


class Endpoint:
    """A model at an address.

    Args:
        url: as far as /v1.
        key: goes into the header alone, never into a message or a file.
        wait, timeout: seconds before the second try, and to wait for an answer.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None,
        temperature: float,
        tries: int = TRIES,
        wait: float = WAIT,
        timeout: float = READ,
    ) -> None:
        self.url, self.model, self.temperature = url.rstrip("/"), model, temperature
        self.tries, self.wait, self.timeout = tries, wait, timeout
        self.session = requests.Session()
        # Otherwise requests would take a password for the host from ~/.netrc and send it in place of the key.
        self.session.trust_env = False
        self.session.proxies = requests.utils.get_environ_proxies(self.url)
        if key:
            self.session.headers["Authorization"] = f"Bearer {key}"
        self.name = f"{model} at {self.url}"
        """Tells this model from others in the cache."""

    def answer(self, question: str, pictures: Sequence[bytes]) -> str:
        """The answer of the model to a question about pictures, each a PNG file.

        Raises:
            ConnectionError: no answer came in several tries, or the server refused. The sentence says which.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": question}]
        for picture in pictures:
            address = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
            content.append({"type": "image_url", "image_url": {"url": address}})
        message = {"role": "user", "content": content}
        body = {"model": self.model, "messages": [message], "temperature": self.temperature}
        told, pause = "", 0.0
        for attempt in range(self.tries):
            time.sleep(pause)
            pause = min(LONGEST, self.wait * 2**attempt)
            try:
                reply = self.session.post(f"{self.url}/chat/completions", json=body, timeout=(CONNECT, self.timeout))
            except requests.Timeout:
                told = "it took too long"
                continue
            except requests.ConnectionError:
                told = "it cannot be reached"
                continue
            except requests.RequestException as error:
                raise ConnectionError(f"{self.name} cannot be asked ({type(error).__name__}).") from None
            if reply.status_code in TRY_AGAIN:
                told = f"it says {reply.status_code} {reply.reason}"
                pause = min(LONGEST, _seconds(reply.headers.get("Retry-After"), pause))
                continue
            if reply.status_code != 200:
                raise ConnectionError(f"{self.name} refuses: {reply.status_code} {reply.reason}, {_said(reply)}")
            return _text(reply, self.name)
        raise ConnectionError(f"{self.name} gave no answer in {self.tries} tries: {told}.")


def _text(reply: requests.Response, name: str) -> str:
    try:
        text = reply.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ConnectionError(f"{name} does not answer as OpenAI's protocol has it: give an address that ends in /v1.")
    return text


def _said(reply: requests.Response) -> str:
    """The sentence in which the server explains an error, in one line. Some repeat the start of a wrong key, so nothing that looks like one is told."""
    try:
        text = str(reply.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        text = reply.text
    words = [word if len(word) < 24 else "…" for word in text.split()]
    return " ".join(words)[:200] or "and says no more"


def _seconds(told: str | None, otherwise: float) -> float:
    try:
        return max(0.0, float(told)) if told else otherwise
    except ValueError:
        # A date, which is allowed too.
        return otherwise
