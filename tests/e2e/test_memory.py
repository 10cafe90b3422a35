"""How much memory a node takes: little at rest, and no more for a big object."""

import time

import boto3.s3.transfer
import pytest

from content import GIB, MIB, Stream
from watch import BUSY_MAX, IDLE_MAX, Watch


def test_a_node_at_rest_takes_little_memory(new_cluster):
    cluster = new_cluster(3)
    time.sleep(3)

    taken = [node.rss_bytes() for node in cluster.nodes]

    print("at rest:", ", ".join(f"{one / MIB:.0f} MiB" for one in taken))
    assert max(taken) < IDLE_MAX, [one // MIB for one in taken]


@pytest.mark.heavy
def test_an_object_of_five_gibibytes_takes_no_more_memory_than_a_small_one(new_cluster):
    cluster, size = new_cluster(3), 5 * GIB
    cluster.nodes[0].s3().create_bucket(Bucket="big")
    transfer = boto3.s3.transfer.TransferConfig(multipart_chunksize=64 * MIB, max_concurrency=4)

    with Watch(cluster.nodes) as watch:
        began = time.monotonic()
        cluster.nodes[0].s3().upload_fileobj(Stream("big", size), "big", "k", Config=transfer)
        up = time.monotonic() - began
        answer = cluster.nodes[1].s3().get_object(Bucket="big", Key="k")
        same = Stream("big", size).equals(answer["Body"])
        down = time.monotonic() - began - up

    print(f"5 GiB: up {up:.1f} s, down {down:.1f} s, most resident: {watch}")
    assert same
    assert max(watch.most) < BUSY_MAX, str(watch)
