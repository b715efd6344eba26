"""What a snippet in a process of its own walks graphs and measures memory with.

Nothing here imports more than the standard library: NumPy and pytest, which `oracles` needs, would
take most of the time of a hundred such processes.
"""

import gc
import os
import subprocess
from pathlib import Path


def topological(root, operands):
    """Every node that `root` reaches, operands before users, each once."""
    order, seen, stack = [], {id(root)}, [(root, iter(operands(root)))]
    while stack:
        node, rest = stack[-1]
        for child in rest:
            if id(child) not in seen:
                seen.add(id(child))
                stack.append((child, iter(operands(child))))
                break
        else:
            order.append(node)
            stack.pop()
    return order


def nodes_of(root):
    """Every entry that `root` reaches by `_prev`, operands first; holding the list holds them."""
    return topological(root, lambda v: v._prev)


def resident_bytes():
    """Resident memory of this process, in bytes, after a full garbage collection."""
    gc.collect()
    return resident_bytes_now()


def resident_bytes_now():
    """Resident memory of this process, in bytes, as it is."""
    if os.path.exists("/proc/self/statm"):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    listing = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return int(listing.stdout) * 1024
