"""How much memory a node takes: little at rest, and no more for a big object."""

import threading
import time

import boto3.s3.transfer
import pytest

from content import GIB, MIB, Stream

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


def test_a_node_at_rest_takes_little_memory(new_cluster):
    cluster = new_cluster(3)
    time.sleep(3)

    taken = [node.rss_bytes() for node in cluster.nodes]

    print("at rest:", ", ".join(f"{one / MIB:.0f} MiB" for one in taken))
    assert max(taken) < IDLE_MAX, [one // MIB for one in taken]


def carry(cluster, size, part):
    """Takes an object up through one node and down through another."""
    cluster.nodes[0].s3().create_bucket(Bucket="big")
    transfer = boto3.s3.transfer.TransferConfig(multipart_chunksize=part, max_concurrency=4)
    with Watch(cluster.nodes) as watch:
        began = time.monotonic()
        cluster.nodes[0].s3().upload_fileobj(Stream("big", size), "big", "k", Config=transfer)
        up = time.monotonic() - began
        answer = cluster.nodes[1].s3().get_object(Bucket="big", Key="k")
        same = Stream("big", size).equals(answer["Body"])
        down = time.monotonic() - began - up
    print(f"{size / GIB:.0f} GiB: up {up:.1f} s, down {down:.1f} s, most resident: {watch}")
    assert same
    assert max(watch.most) < BUSY_MAX, str(watch)


def test_an_object_of_one_gibibyte_takes_no_more_memory_than_a_small_one(new_cluster):
    carry(new_cluster(3), GIB, 32 * MIB)


@pytest.mark.heavy
def test_an_object_of_five_gibibytes_takes_no_more_memory_than_a_small_one(new_cluster):
    carry(new_cluster(3), 5 * GIB, 64 * MIB)
