"""Progress of many shards is one sum."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.filter.meter import Meter, Stopped
from subl.progress import Progress


def test_sums_are_those_of_all_shards_and_know_what_was_skipped(tmp_path: Path) -> None:
    shards = {}
    for name, size in (("a", 100), ("b", 50), ("c", 0)):
        shards[name] = tmp_path / name
        shards[name].write_bytes(bytes(size))
    reports: list[Progress] = []
    meter = Meter("filter", shards, reports.append)
    meter.skip("b", 5, 4)
    assert reports == []
    meter.update("a", 100, 1, 1, 60)  # all is read, but not all is done
    meter.update("a", 100, 2, 1, 60)
    meter.finish("a", 10, 5)
    meter.finish("c", 0, 0)
    assert [(each.done, each.skipped, each.figures["rows"]) for each in reports] == [
        (149, 110, 6),
        (149, 110, 7),
        (150, 110, 15),
        (150, 110, 15),
    ]
    assert reports[-1].note == "15 rows, 60.0 % kept"
    assert {each.total for each in reports} == {150}
    meter.stop.set()
    with pytest.raises(Stopped):
        meter.update("a", 100, 2, 1, 60)
