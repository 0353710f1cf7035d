"""Who holds the leases of a bulk scan, and whether they still live."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import datetime

from d3.domain.ports.scans import ScanLedger


def new_owner() -> str:
    """A name for this process, and nobody else, to hold leases by."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def release_dead(ledger: ScanLedger, scan_id: int, now: datetime) -> None:
    """Let go what processes of this machine held that are no more."""
    if dead := [one for one in ledger.holders(scan_id, now) if _is_dead(one)]:
        ledger.release(scan_id, dead)


def _is_dead(owner: str) -> bool:
    """Whether the process that held a lease was one of this machine, and is no more."""
    machine, process, _ = owner.rsplit(":", 2)
    if machine != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
