"""Memory: what the allocator keeps after a burst goes back to the system.

glibc keeps freed memory below the highest block in use. A thousand bodies of 100 kB at once left a
worker at 150 MiB, of which Python used 50: whatever was allocated last lay above them. glibc's
``malloc_trim`` returns the free pages wherever they lie, and nothing else does. (A fixed
M_MMAP_THRESHOLD would, at the price of two system calls for every large block.) Other C libraries
lack the function, and then nothing is done.
"""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from api_hour.worker.recycling import resident

INTERVAL = 10  # heartbeats between two looks
GROWTH = 32 << 20  # bytes by which a worker grows before anybody looks: ctypes itself takes one MiB
ENOUGH = 16 << 20  # bytes that are worth a trim, which takes some 10 ms for 100 MiB


class FreeMemory:
    """The memory that the allocator holds without using it."""

    def __init__(self) -> None:
        self._heartbeats = 0
        self._at_first = resident()
        self._libc: Any = None
        self._kept = 0  # bytes that are free, but were given back already

    def give_back(self) -> None:
        """Return free memory to the system if much has become free; called at each heartbeat."""
        self._heartbeats += 1
        if self._heartbeats % INTERVAL or resident() < self._at_first + GROWTH:
            return
        self._libc = self._libc or _libc()
        free = self._libc.mallinfo2().fordblks
        self._kept = min(self._kept, free)
        if free >= self._kept + ENOUGH:
            self._libc.malloc_trim(0)
            self._kept = self._libc.mallinfo2().fordblks


def _libc() -> Any:
    """Return the C library with glibc's functions, or with ones that do nothing."""
    import ctypes  # only in a worker that has grown

    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")
    fields = [(name, ctypes.c_size_t) for name in (*names, "uordblks", "fordblks", "keepcost")]
    mallinfo2 = type("mallinfo2", (ctypes.Structure,), {"_fields_": fields})
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # glibc before 2.33, or another library
        libc.mallinfo2.restype = mallinfo2
        libc.malloc_trim.argtypes = (ctypes.c_size_t,)
        return libc
    return SimpleNamespace(mallinfo2=mallinfo2, malloc_trim=int)
