"""Server-sent events are parsed by the HTML standard, wherever a stream's pieces are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.network.connections import EventDecoder, ServerSentEvent, events_in

FIRST = ServerSentEvent("content", "1", "one")


@pytest.mark.parametrize(
    "text",
    [
        "id: 1\nevent: content\ndata: one\n\n",
        "id:1\nevent:content\ndata:one\n\n",
        "\ufeffid: 1\nevent: content\ndata: one\n\n",
        "id: 1\r\nevent: content\r\ndata: one\r\n\r\n",
        "id: 1\revent: content\rdata: one\r\r",
        "id: 1\r\nevent: content\ndata: one\r\r\n",
        ": before\n\nid: 1\n: between\nevent: content\ndata: one\n: after\n\n: keepalive\n\n",
        "retry: 3000\n\nid: 1\nevent: content\nunknown: x\ndata: one\n\nretry: 5\n\n",
        "id: 1\nevent: content\ndata: one\n\nid: 2\n\nevent: none\n\n",
        "id: 1\nid: a\0b\nevent: content\ndata: one\n\n",
        "id: 1\nevent: content\ndata: one\n\nid: 2\nevent: content\ndata: cut off",
    ],
)
def test_one_event(text: str) -> None:
    assert events_in(text.encode()) == [FIRST]


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("data: a\ndata: b\n\n", ServerSentEvent("message", "", "a\nb")),
        ("data\n\n", ServerSentEvent("message", "", "")),
        ("data:  two spaces\n\n", ServerSentEvent("message", "", " two spaces")),
        ("data: \u2028 is no end of a line\x0b\x0c\x85\n\n",
         ServerSentEvent("message", "", "\u2028 is no end of a line\x0b\x0c\x85")),
        ("data: a\ufeffb\n\n", ServerSentEvent("message", "", "a\ufeffb")),
    ],
)  # fmt: skip
def test_data(text: str, event: ServerSentEvent) -> None:
    assert events_in(text.encode()) == [event]


def test_an_event_keeps_the_last_id() -> None:
    assert [each.id for each in events_in(b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n")] == ["1", "1", ""]


STREAMS = st.lists(
    st.sampled_from(["id: 1", "data: \u00e9\u20ac", "data", ": c", "event: e", "", "retry: 1"])
)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


@given(lines=STREAMS, end=ENDS, mark=st.booleans(), cuts=st.lists(st.integers(0, 200)))
def test_chunk_boundaries_do_not_change_the_events(
    lines: list[str], end: str, mark: bool, cuts: list[int]
) -> None:
    body = ("\ufeff" * mark + end.join([*lines, "", ""])).encode()
    decoder, found = EventDecoder(), []
    places = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})
    for start, stop in pairwise(places):
        found += decoder.feed(body[start:stop])
    decoder.end()
    assert found == events_in(body)
    assert found == events_in(("\ufeff" * mark + "\n".join([*lines, "", ""])).encode())


def test_other_bytes_than_utf8_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        events_in(b"data: \xe9\n\n")
    cut = EventDecoder()
    cut.feed(b"data: \xc3")
    with pytest.raises(UnicodeDecodeError):
        cut.end()
