"""Keep the first of rows that are alike, over all shards of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from subl.artifact import write_atomically


def keep_first(shards: Sequence[Path], completions_alone: bool) -> None:
    """Write shards again without the rows that an earlier row is like.

    A digest of each row is remembered, about a hundred bytes. Done again on what it left, it
    changes nothing.
    """
    seen: set[bytes] = set()
    for shard in shards:
        with shard.open(encoding="utf-8") as lines:
            rows = list(lines)
        kept = []
        for line in rows:
            row = json.loads(line)
            said = row.get("completion", row.get("messages"))
            alike = said if completions_alone else [row.get("prompt"), said]
            if completions_alone and "messages" in row:
                alike = said[-1]["content"]
            key = blake2b(json.dumps(alike).encode(), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                kept.append(line)
        if len(kept) < len(rows):
            write_atomically(shard, "".join(kept))
