"""An nvidia-smi for hosts without a card."""

from __future__ import annotations

import sys


def fake_smi(host: str, count: int, spoiled: dict[str, str] | None = None) -> str:
    """An nvidia-smi that answers `--query-gpu=FIELDS --format=csv` with ``count`` healthy cards.

    ``spoiled`` are fields of the last card that have another value.
    """
    return f'''#!{sys.executable}
import sys
VALUES = {{
    "name": "NVIDIA RTX A6000", "memory.total": "49140", "memory.used": "3", "driver_version": "550.54.15",
    "utilization.gpu": "0", "compute_mode": "Default", "mig.mode.current": "[N/A]", "count": "{count}",
    "ecc.errors.uncorrected.volatile.total": "0", "persistence_mode": "Enabled",
    "ecc.mode.current": "Enabled", "pcie.link.width.current": "16", "pcie.link.width.max": "16",
    "clocks_throttle_reasons.active": "0x0000000000000001", "remapped_rows.pending": "No",
    "remapped_rows.failure": "No", "power.limit": "300.00", "vbios_version": "94.02.5C.00.05",
    "pci.sub_device_id": "0x145910DE", "clocks.applications.graphics": "1800",
}}
SPOILED = {spoiled or {}!r}
query = next((arg.split("=", 1)[1] for arg in sys.argv if arg.startswith("--query-gpu=")), None)
if query:
    units = {{"memory.total": " MiB", "memory.used": " MiB", "utilization.gpu": " %"}}
    plain = "nounits" in " ".join(sys.argv)
    if "noheader" not in " ".join(sys.argv):
        print(", ".join(query.split(",")))
    for index in range({count}):
        bus = f"00000000:0{{index + 1}}:00.0"
        own = {{"index": str(index), "uuid": f"GPU-{host}-{{index}}", "pci.bus_id": bus}}
        cells = []
        for field in query.split(","):
            last = SPOILED if index == {count} - 1 else {{}}
            value = (VALUES | own | last).get(field.strip(), "[N/A]")
            cells.append(value + ("" if plain else units.get(field.strip(), "")))
        print(", ".join(cells))
elif not any(arg.startswith("--query") for arg in sys.argv):
    print("NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4")
'''
