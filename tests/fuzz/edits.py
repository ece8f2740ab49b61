"""Hostile changes to a file's bytes: blind ones, and ones to the parts of what the bytes say."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Pick = Callable[[int], int]
"""Chooses one of so many: hypothesis, a random generator or a coverage-guided fuzzer."""
Form = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
"""From bytes to plain values and back; the first raises ValueError for bytes of another form."""

NUMBERS = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
WORDS = (
    *(b"", b"\0", b"\n", b",", b'"', b"'", b"-1", b"0", b"1.5", b"1e999", b"NaN", b"99999999999999999999", b"9" * 5000),
    *(b"null", b"[]", b"{}", b'{"a":', b"../../etc/passwd", b"/etc/passwd", b"C:\\x", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"\xed\xa0\x80", b"[" * 100_000, b'{"a":' * 5000, b"- " * 3000, b"x" * 70_000, "\u202e\u00b2\u0663".encode()),
    *(b"&a [*a, *a]", b"!!python/name:os.system"),
)  # fmt: skip
DROP = object()
VALUES = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**70), 10**400, 0.5, 1e308, float("nan"), float("inf"), DROP),
    *("", "x", "0", "../../x", "/etc/passwd", "\ud800", "\0", "a\nb", "²", "x" * 5000, "2026-01-01", "npz:x", "os:system"),
    *([], {}, [None], [[]], [1, 2], ["x", "x"], {"a": None}, {"kind": "x"}, [[1], [2, 3]], ["x"] * 300),
)  # fmt: skip


def edited(content: bytes, pick: Pick, others: Sequence[bytes], forms: Sequence[Form]) -> bytes:
    """The content after one to four changes; now and then, nothing but noise."""
    if not pick(20):
        return bytes(pick(256) for _ in range(pick(40)))
    for _ in range(1 + pick(4)):
        spoken = spoken_form(content, forms) if pick(2) else None
        content = in_part(content, pick, spoken) if spoken else in_bytes(content, pick, others)
    return content


def in_bytes(content: bytes, pick: Pick, others: Sequence[bytes]) -> bytes:
    """One blind change: some bytes overwritten, put in, left out, doubled, cut off, or taken from another file."""
    at, kind = pick(len(content) + 1), pick(7)
    if kind == 0:
        return content[:at] + bytes([pick(256)]) + content[at + 1 :]
    if kind == 1:
        number, width = NUMBERS[pick(len(NUMBERS))], (1, 2, 4, 8)[pick(4)]
        new = struct.pack(("<Q", ">Q")[big := pick(2)], number)
        new = new[-width:] if big else new[:width]
        return content[:at] + new + content[at + width :]
    if kind == 2:
        word = WORDS[pick(len(WORDS))]
        end = next((i for i in range(at, min(at + 40, len(content))) if content[i : i + 1] in b" ,:\n\t}]"), at)
        return content[:at] + word + content[end:]
    if kind == 3:
        return content[:at]
    length = pick(min(64, len(content) + 1))
    if kind == 4:
        return content[:at] + content[at + length :]
    if kind == 5:
        return content[:at] + content[at : at + length] * (1 + pick(20)) + content[at:]
    other = others[pick(len(others))]
    return content[:at] + other[pick(len(other) + 1) :]


def in_part(content: bytes, pick: Pick, spoken: tuple[Any, Form]) -> bytes:
    """Another value in place of one that the file says, or nothing in its place."""
    value, (_, encode) = spoken
    places = list(places_in(value))
    new = VALUES[pick(len(VALUES))]
    if not places:
        return content
    try:
        return encode(changed(value, places[pick(len(places))], new))
    except Exception:
        return content  # this form can't say it


def spoken_form(content: bytes, forms: Sequence[Form]) -> tuple[Any, Form] | None:
    """What the bytes say and in which of the forms."""
    for form in forms:
        try:
            return form[0](content), form
        except (ValueError, RecursionError):
            continue
    return None


INSIDE = object()  # on the way to a part: through JSON in a text


def places_in(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every part of plain values, and of JSON in their texts."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from ((INSIDE, *way) for way in places_in(inner))
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 20)) if isinstance(value, list) else ()
    for key in keys:
        yield (key,)
        yield from ((key, *way) for way in places_in(value[key]))


def changed(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at the end of the way."""
    key, *rest = way
    if key is INSIDE:
        return json.dumps(changed(json.loads(value), tuple(rest), new))
    copy = value.copy()
    if not rest and new is DROP:
        del copy[key]
    else:
        copy[key] = changed(value[key], tuple(rest), new) if rest else new
    return copy


def _safetensors(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size or not size:
        raise ValueError("no header")
    return {"header": json.loads(content[8 : 8 + size]), "tensors": content[8 + size :].hex()}


def _as_safetensors(value: Any) -> bytes:
    header = json.dumps(value["header"]).encode()
    return struct.pack("<Q", len(header)) + header + bytes.fromhex(value["tensors"])


JSON: Form = (json.loads, lambda value: json.dumps(value, indent=1).encode())
SAFETENSORS: Form = (_safetensors, _as_safetensors)
