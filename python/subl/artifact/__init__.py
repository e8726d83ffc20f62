"""What a stage leaves behind: a directory that is either absent or complete.

The one idea: an artifact's key is the hash of its kind, the stage's format version, its spec and
its inputs' digests. The same key means the work is done, so `build` returns what is there; a
different key never overwrites.

    ARTIFACT/
      spec.json        the resolved configuration, format version, inputs' digests, key
      result.json      figures, machine-readable
      statement.json   in-toto Statement v1 with an SLSA provenance predicate
      ...              data: whatever the stage makes; only these files make the digest
"""

from subl.artifact.build import Artifact, build, difference_between, open_artifact, plan_key
from subl.artifact.digest import directory_digest, file_digest, json_digest, json_text
from subl.artifact.files import sync, write_atomically, written_whole
from subl.artifact.lineage import LineageNode, lineage
from subl.artifact.spec import StageSpec
from subl.artifact.statement import input_digest, made_here, read_statement, row_counts

__all__ = [
    "Artifact",
    "LineageNode",
    "StageSpec",
    "build",
    "difference_between",
    "directory_digest",
    "file_digest",
    "input_digest",
    "json_digest",
    "json_text",
    "lineage",
    "made_here",
    "open_artifact",
    "plan_key",
    "read_statement",
    "row_counts",
    "sync",
    "write_atomically",
    "written_whole",
]
