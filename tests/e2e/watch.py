"""The nodes' resident memory while something happens."""

import threading

from content import MIB

IDLE_MAX = 64 * MIB
BUSY_MAX = 300 * MIB


class Watch:
    """Takes the nodes' resident memory ten times a second and keeps the most."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.most = [0] * len(nodes)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._ending.wait(0.1):
            for number, node in enumerate(self.nodes):
                self.most[number] = max(self.most[number], node.rss_bytes())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()

    def __str__(self):
        return ", ".join(f"{most / MIB:.0f} MiB" for most in self.most)
