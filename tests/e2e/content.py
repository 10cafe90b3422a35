"""Bytes that can be made again from a seed, so that nothing big is kept to compare with."""

import hashlib
import random

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CHUNK = 256 * KIB
EXTENT = 64 * MIB


def data(seed, size):
    """`size` bytes that depend on the seed alone."""
    return random.Random(seed).randbytes(size)


def digest(body):
    return hashlib.sha256(body).hexdigest()


class Stream:
    """A file-like object of `size` bytes: blocks of 1 MiB, each with its number in front."""

    def __init__(self, seed, size):
        self.size = size
        self.position = 0
        self.block = data(seed, MIB - 8)

    def at(self, start, end):
        """The bytes from `start` up to `end`."""
        end = min(end, self.size)
        out = bytearray()
        while start < end:
            number, offset = divmod(start, MIB)
            block = number.to_bytes(8, "big") + self.block
            piece = block[offset : offset + end - start]
            out += piece
            start += len(piece)
        return bytes(out)

    def read(self, count=-1):
        end = self.size if count is None or count < 0 else self.position + count
        piece = self.at(self.position, end)
        self.position += len(piece)
        return piece

    def equals(self, body, start=0, end=None):
        """Whether a body's stream holds the bytes from `start` up to `end`, and nothing more."""
        end = self.size if end is None else end
        while start < end:
            piece = body.read(min(4 * MIB, end - start))
            if not piece or piece != self.at(start, start + len(piece)):
                return False
            start += len(piece)
        return body.read(1) == b""
