"""The load client's way straight to Triton: what an answer takes without any gateway.

The HTTP/2 client is the gateway's own, the thinnest that there is: through grpcio, the client would be the figure.
"""

from collections.abc import Sequence

from tritonclient.grpc import service_pb2

from gateway.engines.channel import Channel
from gateway.engines.triton import STREAM_INFER, parse_url
from loadtests.bench.asking import Asked, Link, Run, clock
from loadtests.bench.question import Question
from loadtests.bench.reply import Incomplete, Reads, Reply

_CONNECT_S = 10.0


class TritonTarget:
    """`url` is HOST:PORT of its gRPC, `model` a model with the tensors of NVIDIA's `ensemble`."""

    def __init__(self, url: str, model: str, question: Question) -> None:
        self._where = url
        self._model = model
        self._question = question
        self._channel: Channel | None = None

    async def connect(self, run: Run) -> Link:
        if self._channel is None:
            host, port = parse_url(self._where)
            self._channel = Channel(host, port)
            await self._channel.start()
            if not await self._channel.wait_ready(_CONNECT_S):
                raise ConnectionError(f"no Triton at {self._where}: {self._channel.counters.last_error}")
        return TritonLink(run, self, self._channel)

    def request(self, serial: int) -> bytes:
        """A ModelInferRequest as the gateway sends it."""
        question = self._question
        request = service_pb2.ModelInferRequest(model_name=self._model, id=f"bench-{serial}")
        prompt = question.prompt(serial).encode()
        for name, dtype, value in (
            ("text_input", "BYTES", len(prompt).to_bytes(4, "little") + prompt),
            ("max_tokens", "INT32", (question.tokens * 2).to_bytes(4, "little")),
            ("stream", "BOOL", bytes([question.streams])),
            ("return_num_input_tokens", "BOOL", b"\1"),
            ("return_num_output_tokens", "BOOL", b"\1"),
        ):
            request.inputs.add(name=name, datatype=dtype, shape=[1, 1])
            request.raw_input_contents.append(value)
        message: bytes = request.SerializeToString()
        return message

    def read(self, reads: Reads) -> Reply:
        """Raises Incomplete. Its finish is "stop" once all tokens were counted, for Triton's `ensemble` has none."""
        reply, pieces, tokens = Reply(), [], 0
        for at, data in reads:
            message = service_pb2.ModelStreamInferResponse.FromString(data)
            if message.error_message:
                raise Incomplete(message.error_message)
            values = _outputs(message.infer_response)
            tokens += int.from_bytes(values["num_output_tokens"], "little")
            if text := values["text_output"][4:].decode():
                pieces.append(text)
                reply.texts_at.append(at)
        if tokens != self._question.tokens:
            raise Incomplete(f"{tokens} of {self._question.tokens} tokens")
        reply.text, reply.finish = "".join(pieces), "stop"
        return reply

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class TritonLink:
    """One call at a time; the receiver of its messages."""

    def __init__(self, run: Run, target: TritonTarget, channel: Channel) -> None:
        self._run = run
        self._target = target
        self._channel = channel
        self._asked: Asked | None = None

    def ask(self, serial: int) -> None:
        request = self._target.request(serial)
        self._asked = self._run.begin(self, serial)
        self._channel.call(STREAM_INFER, request, self)

    def on_message(self, message: bytes) -> None:
        if self._asked is not None:
            self._asked.reads.append((clock(), message))

    def on_close(self, status: int, detail: str) -> None:
        if self._asked is not None:
            self._asked = None
            self._run.ended(self, f"gRPC status {status}: {detail}" if status else "")

    def close(self) -> None:
        self._asked = None


def _outputs(response: service_pb2.ModelInferResponse) -> dict[str, bytes]:
    raws: Sequence[bytes] = response.raw_output_contents
    return {output.name: raw for output, raw in zip(response.outputs, raws, strict=True)}
