"""How words and replies travel: a JSON header with byte strings beside it, which whoever reads them need not trust.

A frame on a pipe is the length of its header (4 bytes), the header, and the byte strings, whose lengths stand in the header.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

from durable_nb.engine.executors import Reply, Word
from durable_nb.log.records import Failure

Parts = tuple[dict[str, Any], list[bytes]]


def frame(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Give a frame as bytes."""
    head = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join([len(head).to_bytes(4, "big"), head, *blobs])


def read(file: IO[bytes]) -> Parts | None:
    """Read a frame from a pipe; None, where it has ended."""
    size = file.read(4)
    if len(size) < 4:
        return None
    head = file.read(int.from_bytes(size, "big"))
    try:
        header = json.loads(head)
    except ValueError:  # it broke off
        return None
    blobs = [file.read(size) for size in header["sizes"]]
    if [len(blob) for blob in blobs] != header["sizes"]:
        return None
    return header, blobs


def parts_of_word(word: Word) -> Parts:
    """Give a word as header and byte strings."""
    fields = dict(word.fields)
    chunk = fields.get("what")
    if not isinstance(chunk, bytes):
        return {"word": word.kind, "fields": fields}, []
    del fields["what"]
    return {"word": word.kind, "fields": fields}, [chunk]


def word_of(header: dict[str, Any], blobs: Sequence[bytes]) -> Word:
    """Read what `parts_of_word` gave."""
    fields = header["fields"]
    return Word(header["word"], {**fields, "what": bytes(blobs[0])} if blobs else fields)


def parts_of_reply(reply: Reply) -> Parts:
    """Give a reply as header and byte strings."""
    header = {
        "failure": None if reply.failure is None else reply.failure.to_json(),
        "is_final": reply.is_final,
        "artifacts": list(reply.artifacts),
    }
    text = [] if reply.text is None else [reply.text.encode("utf-8", "surrogatepass")]
    return {"reply": header}, [*reply.artifacts.values(), *text]


def reply_of(header: dict[str, Any], blobs: Sequence[bytes]) -> Reply:
    """Read what `parts_of_reply` gave."""
    said = header["reply"]
    artifacts = dict(zip(said["artifacts"], map(bytes, blobs), strict=False))
    text = bytes(blobs[-1]).decode("utf-8", "surrogatepass") if len(blobs) > len(artifacts) else None
    failure = None if said["failure"] is None else Failure.from_json(said["failure"])
    return Reply(text=text, artifacts=artifacts, failure=failure, is_final=said["is_final"])
