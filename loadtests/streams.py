"""Many concurrent streams against a running gateway: are they all complete and right, and how fast?

Each prompt is asked once alone, for reference; then all streams run at once, and every answer must be
the reference of its own prompt, to the letter: a piece of another stream's text would show. Greedy
decoding makes the answers repeatable.

    python loadtests/streams.py --url http://127.0.0.1:8080/v1 --streams 200 --tokens 64

Exit code 1 when any answer was wrong or incomplete. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

import httpx
from openai import AsyncOpenAI


@dataclass
class Seen:
    """One stream as its client saw it; times in seconds, `texts` are the times of non-empty deltas."""

    prompt: str
    text: str = ""
    tokens: int = 0
    began: float = 0.0
    texts: list[float] = field(default_factory=list)
    ended: float = 0.0
    error: str = ""

    @property
    def ttft(self) -> float:
        return self.texts[0] - self.began

    @property
    def tpot(self) -> float:
        return (self.ended - self.texts[0]) / max(1, self.tokens - 1)


def prompts(count: int) -> list[str]:
    """Prompts whose answers are long, and differ from the first tokens on."""
    return [f"Count from {1 + 3 * index} to {60 + 3 * index}." for index in range(count)]


async def ask(client: AsyncOpenAI, model: str, prompt: str, tokens: int) -> Seen:
    """One streamed answer; an error is recorded, not raised: the run reports it."""
    seen = Seen(prompt, began=time.perf_counter())
    try:
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                seen.texts.append(time.perf_counter())
                seen.text += chunk.choices[0].delta.content
            if chunk.usage is not None:
                seen.tokens = chunk.usage.completion_tokens
    except Exception as error:  # whatever a client can meet is a result here
        seen.error = f"{type(error).__name__}: {error}"
    seen.ended = time.perf_counter()
    return seen


async def run(url: str, model: str, streams: int, tokens: int) -> dict[str, object]:
    """Reference answers one after another, then all at once; the figures."""
    limits = httpx.Limits(max_connections=streams, max_keepalive_connections=streams)
    transport = httpx.AsyncClient(limits=limits, timeout=120)
    async with AsyncOpenAI(base_url=url, api_key="none", http_client=transport, max_retries=0) as client:
        reference = {prompt: (await ask(client, model, prompt, tokens)).text for prompt in prompts(streams)}
        began = time.perf_counter()
        seen = await asyncio.gather(*[ask(client, model, prompt, tokens) for prompt in prompts(streams)])
        wall = time.perf_counter() - began
    good = [one for one in seen if not one.error and one.text and one.text == reference[one.prompt]]
    return {
        "streams": streams,
        "right": len(good),
        "errors": [one.error for one in seen if one.error][:5],
        "tokens": sum(one.tokens for one in seen),
        "tokens_per_s": round(sum(one.tokens for one in seen) / wall, 1),
        "ttft_ms": _spread([one.ttft * 1000 for one in good]),
        "tpot_ms": _spread([one.tpot * 1000 for one in good]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p95": round(ordered[int(len(ordered) * 0.95)], 2),
        "max": round(ordered[-1], 2),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1")
    # A pin by default, so that alone and together the same version answers.
    parser.add_argument("--model", default="assistant@v2", help="endpoint@version, or an endpoint with one version")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64, help="tokens asked of each stream")
    options = parser.parse_args()
    figures = asyncio.run(run(options.url, options.model, options.streams, options.tokens))
    print(f"{figures['right']} of {options.streams} streams complete and right, {figures['tokens_per_s']} tokens/s")
    print(f"TTFT ms {figures['ttft_ms']}   TPOT ms {figures['tpot_ms']}")
    print(json.dumps(figures))
    sys.exit(0 if figures["right"] == options.streams else 1)


if __name__ == "__main__":
    main()
