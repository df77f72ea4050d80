"""How large messages are checked. Light: a process that is spawned to do it imports no rows."""

import zlib


def digest(thing):
    """(Size in bytes, checksum of some of them) of anything that has a buffer."""
    data = memoryview(thing).cast("B")
    return data.nbytes, zlib.crc32(bytes(data[::4093]))


def send_digest(thing, conn):
    conn.send(digest(thing))
