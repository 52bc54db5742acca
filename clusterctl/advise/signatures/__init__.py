"""The table: every failure that is known, the more specific one first."""

from __future__ import annotations

from clusterctl.advise.signature import Signature
from clusterctl.advise.signatures.ends import ENDS
from clusterctl.advise.signatures.files import FILES
from clusterctl.advise.signatures.frameworks import FRAMEWORKS
from clusterctl.advise.signatures.gpu import GPU
from clusterctl.advise.signatures.memory import MEMORY
from clusterctl.advise.signatures.network import NETWORK
from clusterctl.advise.signatures.software import SOFTWARE

FAMILIES = (
    ("GPUs", GPU),
    ("Memory", MEMORY),
    ("Disks, files, checkpoints, downloads", FILES),
    ("Training frameworks", FRAMEWORKS),
    ("Software, arguments, numbers", SOFTWARE),
    ("Network and collectives", NETWORK),
    ("Ends without a word", ENDS),
)
SIGNATURES: tuple[Signature, ...] = tuple(each for _, family in FAMILIES for each in family)
