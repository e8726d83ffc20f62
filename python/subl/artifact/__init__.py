"""What a stage leaves behind: a directory that is either absent or complete.

The one idea: an artifact's key is the hash of its kind, the stage's format version, its spec and
its inputs' digests. The same key means the work is done, so `build` returns what is there; a
different key never overwrites.

    ARTIFACT/
      spec.json        the resolved configuration, format version, inputs' digests, key
      result.json      figures, machine-readable
      statement.json   in-toto Statement v1 with an SLSA provenance predicate
      .seen.json       sizes, times and digests of the files that were read: so nobody has to read
                     them to ask whether the work is done
    ...              data: whatever the stage makes; only these files make the digest
"""

from subl.artifact.build import (
    Artifact,
    Made,
    build,
    check_out,
    difference_between,
    open_artifact,
    plan_key,
)
from subl.artifact.comparing import compares, comparing
from subl.artifact.digest import (
    ENVELOPE,
    data_digest,
    directory_digest,
    file_digest,
    file_digests,
    json_digest,
    json_text,
)
from subl.artifact.files import read_notes, sync, write_atomically, written_whole
from subl.artifact.identity import Identity, identify
from subl.artifact.inputs import check_made_with, check_there, input_digest
from subl.artifact.lineage import LineageNode, artifacts_in, compare, lineage
from subl.artifact.parts import WHOLE, Parts, Slice, balanced, build_parts
from subl.artifact.place import check_folder, check_place
from subl.artifact.seen import Reading, remember, rereading, rereads
from subl.artifact.spec import PartsSpec, StageSpec
from subl.artifact.statement import (
    artifact_around,
    input_place,
    made_here,
    parse_statement,
    read_statement,
    row_counts,
    spec_record,
    stage_of,
)

__all__ = [
    "ENVELOPE",
    "WHOLE",
    "Artifact",
    "Identity",
    "LineageNode",
    "Made",
    "Parts",
    "PartsSpec",
    "Reading",
    "Slice",
    "StageSpec",
    "artifact_around",
    "artifacts_in",
    "balanced",
    "build",
    "build_parts",
    "check_folder",
    "check_made_with",
    "check_out",
    "check_place",
    "check_there",
    "compare",
    "compares",
    "comparing",
    "data_digest",
    "difference_between",
    "directory_digest",
    "file_digest",
    "file_digests",
    "identify",
    "input_digest",
    "input_place",
    "json_digest",
    "json_text",
    "lineage",
    "made_here",
    "open_artifact",
    "parse_statement",
    "plan_key",
    "read_notes",
    "read_statement",
    "remember",
    "rereading",
    "rereads",
    "row_counts",
    "spec_record",
    "stage_of",
    "sync",
    "write_atomically",
    "written_whole",
]
