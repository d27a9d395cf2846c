"""The parts of streaming by themselves: what a model server sends, however it is cut, and the blocks made of it."""

import json
import socket
import time
from contextlib import closing, suppress
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.pipeline.sink import BlockSink, StreamEnded
from chat.providers import CompletionRequest, ProviderError
from chat.providers.openai import OpenAIProvider
from chat.providers.replies import BODY_LIMIT, ReplyStream, usage_counts
from tests.chat.streaming import draft_of
from tests.model_server import MODEL

USAGE = {"prompt_tokens": 3, "completion_tokens": 4}


class Parts(httpx.SyncByteStream):
    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        yield from self.parts


class Collected(BlockSink):
    def __init__(self):
        super().__init__(emit=lambda index, block: True, watch=lambda: None)


def read(*parts: bytes):
    """The reply, and the text that the sink got."""
    sink = Collected()
    stream = ReplyStream(sink)
    reply = stream.read(httpx.Response(200, stream=Parts(parts)))
    assert stream.text == sink.received
    return reply, sink.received


def event(text=None, *, finish=None, **more) -> str:
    delta = {} if text is None else {"content": text}
    return json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def raw_of(texts, *, end="\n\n", done=True, before="data: ") -> bytes:
    events = [event(text) for text in texts] + [event(finish="stop"), event(usage=USAGE)]
    return "".join(f"{before}{e}{end}" for e in [*events, *(["[DONE]"] if done else [])]).encode()


def cut(raw, places) -> list:
    at = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[a:b] for a, b in pairwise(at)]


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8)
ENDS = st.sampled_from(["\n\n", "\r\n\r\n", "\r\r", "\n", "\r\n: ping\r\n\r\n", "\n\n\n: x\n\n"])


@given(TEXTS, ENDS, st.lists(st.integers(0, 10_000), max_size=30), st.booleans(), st.sampled_from(["data: ", "data:"]))
def test_a_reply_is_the_same_however_it_is_cut(texts, end, places, done, before):
    reply, received = read(*cut(raw_of(texts, end=end, done=done, before=before), places))
    assert reply.text == received == "".join(texts)
    assert (reply.finish_reason, reply.model, reply.usage) == ("stop", "m", USAGE)


def test_a_reply_byte_by_byte():
    raw = raw_of(["M\u0101ori", "\u2028\u0085 865\u00a0mm \U0001f6a7"], end="\r\n\r\n")
    assert read(*(bytes([byte]) for byte in raw))[1] == "M\u0101ori\u2028\u0085 865\u00a0mm \U0001f6a7"


def test_what_is_no_data_is_passed_over():
    raw = f": hello\nevent: message\nid: 7\nretry: 10\n\n\ndata: {event('a')}\n\nevent: ping\n\nunknown\n\n"
    raw += "data: [DONE]\n\n"
    assert read(raw.encode())[1] == "a"


def test_a_last_line_without_an_end_counts():
    assert read(raw_of(["a"]).rstrip(b"\n"))[1] == "a"


def test_nothing_is_read_behind_done():
    assert read(raw_of(["a"]) + raw_of(["b"]))[1] == "a"


def test_without_done_a_finish_reason_will_do():
    assert read(raw_of(["a", "b"], done=False))[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("parts", "code", "retryable"),
    [
        ([b""], "dropped", True),
        ([f"data: {event('a')}\n\n".encode()], "dropped", False),
        ([b"data: {\n\n"], "malformed", True),
        ([f"data: {event('a')}\n\ndata: [\n\n".encode()], "malformed", False),
        ([b'data: {"error": {"message": "overloaded"}}\n\n'], "server_error", True),
        ([f'data: {event("a")}\n\ndata: {{"error": {{}}}}\n\n'.encode()], "server_error", False),
        ([b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'], "malformed", True),
        ([b"data: []\n\n"], "malformed", True),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "malformed", True),
        ([b"data: \xff\xfe\n\n"], "malformed", True),
        ([b"data: " + b"x" * (BODY_LIMIT + 1)], "oversize", False),
    ],
)
def test_what_is_no_reply_is_an_error_with_its_code(parts, code, retryable):
    with pytest.raises(ProviderError) as raised:
        read(*parts)
    assert (raised.value.code, raised.value.retryable) == (code, retryable)


def test_a_line_of_two_megabytes_is_read_in_linear_time():
    text = "x" * (BODY_LIMIT - 1000)
    raw = raw_of([text])

    def seconds(size: int) -> float:
        started = time.perf_counter()
        assert read(*(raw[at : at + size] for at in range(0, len(raw), size)))[1] == text
        return time.perf_counter() - started

    # Small packets must not have the line copied for each of them.
    assert seconds(1400) < 10 * seconds(len(raw)) + 0.3


def test_a_refusal_is_no_text():
    pieces = [{"refusal": "I'm "}, {"refusal": "sorry"}]
    raw = "".join(f"data: {json.dumps({'choices': [{'delta': piece}]})}\n\n" for piece in pieces)
    reply, received = read(f"{raw}data: {event(finish='stop')}\n\ndata: [DONE]\n\n".encode())
    assert (reply.refusal, reply.text, received) == ("I'm sorry", "", "")


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (USAGE, (3, 4)),
        (None, (None, None)),
        ([], (None, None)),
        ({"prompt_tokens": -1, "completion_tokens": True}, (None, None)),
    ],
)
def test_only_plausible_counts_of_tokens_are_taken(usage, counts):
    assert usage_counts(usage) == counts


# Against the stand-in server.


def provider_for(url: str) -> OpenAIProvider:
    return OpenAIProvider(base_url=url, api_key="", model="m", max_tokens=100)


@pytest.fixture
def provider(model_server):
    made = provider_for(model_server.url)
    yield made
    made._client.close()


def request_with(sink, seconds: float = 5) -> CompletionRequest:
    messages = [{"role": "user", "content": "?"}]
    return CompletionRequest("?", messages, (), time.monotonic() + seconds, sink=sink)


def test_connections_are_kept_after_completed_streams(provider, model_server):
    for _ in range(4):
        assert provider.complete(request_with(Collected())).model == MODEL
    assert len({received.connection for received in model_server.requests}) == 1


def test_a_connection_is_closed_when_the_reply_is_called_off(provider, model_server):
    class Enough(Collected):
        def text(self, delta):
            raise StreamEnded("stopped")

    model_server.reply("slow", seconds=0.01)
    with pytest.raises(StreamEnded):
        provider.complete(request_with(Enough()))
    provider.complete(request_with(Collected()))
    first, second = model_server.requests
    assert first.connection != second.connection


@pytest.mark.parametrize("mode", [{"mode": "stall", "where": "headers"}, {"mode": "pause", "size": 3}])
def test_a_silent_server_is_given_up_when_the_budget_is_used_up(provider, model_server, mode):
    ticks = []

    class Ticking(Collected):
        def tick(self):
            ticks.append(time.process_time())

    model_server.reply(**mode)
    with pytest.raises(ProviderError) as raised:
        provider.complete(request_with(Ticking(), seconds=1))
    assert raised.value.code == "timeout"
    # A few times a second, and no busy loop.
    assert 3 <= len(ticks) < 30


def test_a_connection_that_does_not_come_about_is_given_up_before_the_worker_seems_dead():
    """A producer gives no sign of life while it connects, and is taken for dead after 15 s without one."""
    with closing(socket.socket()) as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Connections that nobody accepts fill the queue; the kernel then leaves further ones unanswered.
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(full.getsockname())
        provider = provider_for(f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        started = time.monotonic()
        with pytest.raises(ProviderError) as raised:
            provider.complete(request_with(Collected(), seconds=60))
        assert raised.value.code == "timeout"
        assert time.monotonic() - started < 10
        for client in waiting:
            client.close()
        provider._client.close()


# The sink.


class Recorder:
    def __init__(self, *, takes: int = 1000, ends_after: int = 10**6):
        self.emitted, self.watched, self.takes, self.ends_after = [], 0, takes, ends_after
        self.sink = BlockSink(emit=self.emit, watch=self.watch)

    def emit(self, index, block):
        self.emitted.append((index, block))
        return len(self.emitted) <= self.takes

    def watch(self):
        self.watched += 1
        if self.watched > self.ends_after:
            raise StreamEnded("stopped")


RAW = json.dumps(draft_of(6), ensure_ascii=False)


@given(st.lists(st.integers(0, 10_000), max_size=60))
def test_any_cutting_gives_the_same_blocks_once_each(places):
    recorder = Recorder()
    for part in cut(RAW, places):
        recorder.sink.text(part)
    assert recorder.emitted == list(enumerate(draft_of(6)["blocks"]))
    assert (recorder.sink.blocks, recorder.sink.received) == (draft_of(6)["blocks"], RAW)


def test_a_block_that_was_not_sent_is_the_last_one_offered():
    recorder = Recorder(takes=2)
    for character in RAW:
        recorder.sink.text(character)
    assert [index for index, _ in recorder.emitted] == [0, 1, 2]
    assert recorder.sink.blocks == draft_of(6)["blocks"][:2]
    assert recorder.sink.received == RAW


def test_nothing_is_sent_of_a_stream_that_has_ended():
    """The end is looked for before a block is sent: it may be on record already."""
    recorder = Recorder(ends_after=0)
    with pytest.raises(StreamEnded):
        recorder.sink.text(RAW)
    assert recorder.emitted == recorder.sink.blocks == []


def test_plain_text_has_no_blocks():
    recorder = Recorder()
    recorder.sink.plain()
    recorder.sink.text(RAW)
    assert (recorder.emitted, recorder.sink.received) == ([], RAW)


def test_another_reply_begins_afresh_as_long_as_no_block_was_sent():
    recorder = Recorder()
    recorder.sink.text(RAW[: RAW.index("[")])
    first_text_at = recorder.sink.first_text_at
    recorder.sink.restart()
    recorder.sink.text(RAW)
    assert [block for _, block in recorder.emitted] == draft_of(6)["blocks"]
    assert (recorder.sink.received, recorder.sink.first_text_at) == (RAW, first_text_at)
    with pytest.raises(RuntimeError):
        recorder.sink.restart()


def test_a_plain_reply_that_is_replaced_stays_plain():
    recorder = Recorder()
    recorder.sink.plain()
    recorder.sink.restart()
    recorder.sink.text(RAW)
    assert recorder.emitted == []


def test_the_end_is_looked_for_while_nothing_comes():
    recorder = Recorder(ends_after=2)
    recorder.sink.tick()
    recorder.sink.tick()
    with pytest.raises(StreamEnded):
        recorder.sink.tick()
