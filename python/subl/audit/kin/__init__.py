"""Whether two models share an initialisation, and what they are to each other.

Statistics of how hidden units of the one stand to those of the other, with p values in closed form,
say whether; distances of weights say what. See docs/kin.md.
"""

from subl.audit.kin.compare import UNITS, kin, parents
from subl.audit.kin.declared import PARENT, Claim, Finding, by_construction, declared
from subl.audit.kin.merge import Merge
from subl.audit.kin.nearness import Nearness
from subl.audit.kin.units import Outcome
from subl.audit.kin.verdict import Channel, Kinship, Parents, Verdict

__all__ = [
    "PARENT",
    "UNITS",
    "Channel",
    "Claim",
    "Finding",
    "Kinship",
    "Merge",
    "Nearness",
    "Outcome",
    "Parents",
    "Verdict",
    "by_construction",
    "declared",
    "kin",
    "parents",
]
