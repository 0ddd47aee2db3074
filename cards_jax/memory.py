"""Memory that is free on this machine, for programs that a container or a batch system may have given less of it."""

import contextlib
import os
from pathlib import Path

UNKNOWN = 4 * 2**30  # of a system that tells nothing
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free() -> int:
    """Bytes that programs can still have; what the system keeps of files gives way."""
    found = [_of_machine()]
    with contextlib.suppress(OSError, ValueError):  # of other systems than Linux
        for line in (PROC / "self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += _of_groups(CGROUP, path, "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                names = "memory.limit_in_bytes", "memory.usage_in_bytes"
                found += _of_groups(CGROUP / "memory", path, *names)
    return max(0, min(found))


def _of_machine() -> int:
    with contextlib.suppress(OSError):
        lines = (PROC / "meminfo").read_text().splitlines()
        available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        if available:
            return 1024 * int(available[0])
    # Not every system tells what is free: of all that there is, half.
    for name, share in (("SC_AVPHYS_PAGES", 1.0), ("SC_PHYS_PAGES", 0.5)):
        with contextlib.suppress(OSError, ValueError):
            return int(share * os.sysconf(name) * os.sysconf("SC_PAGE_SIZE"))
    return UNKNOWN


def _of_groups(root: Path, path: str, limit: str, used: str) -> list[int]:
    """What a control group and those above it leave; nothing of one without a limit.

    A container sees its own group as the root, whatever its path is said to be.
    """
    place, found = root / path.lstrip("/"), []
    for group in (place, *place.parents):
        with contextlib.suppress(OSError, ValueError):  # the word "max" is no number
            most = int((group / limit).read_text())
            found.append(most - int((group / used).read_text()) + _of_files(group))
        if group == root:
            return found
    return found


def _of_files(group: Path) -> int:
    """Bytes of files that nobody looked at for a while: they count as used, and give way."""
    with contextlib.suppress(OSError, ValueError):
        lines = (group / "memory.stat").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return 0
