"""Sloppy buckets: writable while owners are away, equal again soon after they are back."""

import concurrent.futures
import json
import secrets
import shutil
import time

import botocore.exceptions

from cluster import until
from content import KIB, data
from kv import Kv

WRITES = 10_000
WRITERS = 16


def hints(node):
    """Rows that are kept for owners that were away, all nodes together."""
    report = json.loads(node.cli("hints", "-o", "json").stdout)
    return sum(kept["rows"] for kept in report["hints"])


def location(node, bucket, key):
    return json.loads(node.cli("locate", bucket, key, "-o", "json").stdout)["replicas"]


def owners_agree(node, bucket, keys):
    """Every owner of these keys holds the same write of each."""
    for key in keys:
        owners = [held for held in location(node, bucket, key) if held["role"] == "owner"]
        stamps = {(held["holding"], held["stamp"]) for held in owners}
        if len(owners) != 3 or len(stamps) != 1 or owners[0]["holding"] != "object":
            return False
    return True


def test_any_two_owners_may_die_and_nothing_acknowledged_is_lost(new_cluster):
    cluster = new_cluster(5)
    first = cluster.nodes[0]
    first.cli("bucket", "create", "sloppy", "--level", "eventual", "--owner", cluster.key[0])
    until(
        lambda: all("sloppy" in str(n.s3().list_buckets()) for n in cluster.nodes), 10, lambda: "?"
    )
    for node in cluster.nodes[1:3]:
        node.kill()
    # Gossip needs about two seconds to notice; until then a request may wait for the dead.
    until(lambda: first.cli("status", check=False).stdout.count("DOWN") >= 2, 20, lambda: "no DOWN")

    living = [cluster.nodes[0], cluster.nodes[3], cluster.nodes[4]]
    clients = [node.s3() for node in living]
    body = data("available", KIB)

    def put(number):
        client = clients[number % len(clients)]
        client.put_object(Bucket="sloppy", Key=f"k{number:05d}", Body=body + b"%d" % number)

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(put, range(WRITES)))
    written = time.monotonic() - begun
    assert hints(first) > 0
    for number in range(0, WRITES, 97):
        read = clients[number % 3].get_object(Bucket="sloppy", Key=f"k{number:05d}")["Body"].read()
        assert read == body + b"%d" % number

    for node in cluster.nodes[1:3]:
        node.start(wait="ready")
    back = time.monotonic()
    until(lambda: hints(first) == 0, 60, lambda: first.cli("hints").stdout)
    drained = time.monotonic() - back
    sample = [f"k{number:05d}" for number in range(0, WRITES, 211)]
    until(lambda: owners_agree(first, "sloppy", sample), 60, lambda: "owners differ")
    equal = time.monotonic() - back
    print(f"{WRITES} writes in {written:.1f} s; hints gone after {drained:.1f} s, equal {equal:.1f} s")
    listed = 0
    for page in cluster.nodes[1].s3().get_paginator("list_objects_v2").paginate(Bucket="sloppy"):
        listed += len(page.get("Contents", []))
    assert listed == WRITES


def test_values_of_both_sides_stand_side_by_side_when_all_are_back(new_cluster):
    cluster = new_cluster(3)
    nodes = cluster.nodes
    nodes[0].cli("bucket", "create", "sides", "--level", "eventual", "--owner", cluster.key[0])
    until(lambda: all("sides" in str(n.s3().list_buckets()) for n in nodes), 10, lambda: "?")

    # Neither side ever sees the other: first the one is down, then the other two.
    nodes[2].kill()
    assert Kv(nodes[0]).ask("PUT", "sides", "key", b"left").status == 204
    for node in nodes[:2]:
        node.kill()
    nodes[2].start(wait="live")
    until(
        lambda: Kv(nodes[2]).ask("PUT", "sides", "key", b"right").status == 204, 40, lambda: "503"
    )
    for node in nodes[:2]:
        node.start(wait="ready")

    def both():
        answer = Kv(nodes[1]).ask("GET", "sides", "key", level="all")
        return answer.status == 300 and answer.siblings == 2

    until(both, 60, lambda: Kv(nodes[1]).ask("GET", "sides", "key"))
    seen = Kv(nodes[0]).ask("GET", "sides", "key", level="all")
    assert Kv(nodes[0]).ask("PUT", "sides", "key", b"one", context=seen.context).status == 204
    until(lambda: Kv(nodes[2]).ask("GET", "sides", "key").body == b"one", 20, lambda: "?")


def test_a_wiped_node_is_refilled_while_the_others_serve(new_cluster):
    cluster = new_cluster(3, more_config='[repair]\ninterval = "10s"\n')
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="whole")
    sizes = [100, 20 * KIB, 600 * KIB, 3000 * KIB]
    bodies = {f"k{n:03d}": data(f"whole {n}", sizes[n % 4]) for n in range(48)}
    for key, body in bodies.items():
        client.put_object(Bucket="whole", Key=key, Body=body)
    wiped = cluster.nodes[2]
    wiped.kill()
    shutil.rmtree(wiped.data_dir)
    wiped.data_dir.mkdir()
    until(lambda: "DOWN" in cluster.nodes[0].cli("status", check=False).stdout, 20, lambda: "up?")
    wiped.start(wait="live")
    first = cluster.nodes[0]
    until(lambda: "REBUILDING" in first.cli("status", check=False).stdout, 30, lambda: "not seen")

    def healthy():
        status = cluster.nodes[0].cli("status", check=False)
        return status.returncode == 0 and "REBUILDING" not in status.stdout

    served = 0

    def served_and_healthy():
        nonlocal served
        key = secrets.choice(sorted(bodies))
        try:
            assert client.get_object(Bucket="whole", Key=key)["Body"].read() == bodies[key]
            served += 1
        except botocore.exceptions.ClientError as error:
            raise AssertionError(f"a read failed while a node was rebuilt: {error}") from error
        return healthy()

    until(served_and_healthy, 90, lambda: cluster.nodes[0].cli("status", check=False).stdout)
    assert served > 0
    # Whole again: it alone has the bytes now, and one other the rows that agree.
    shutil.rmtree(cluster.nodes[1].data_dir / "segments")
    cluster.nodes[1].kill()
    reader = wiped.s3()
    until(lambda: "DOWN" in wiped.cli("status", check=False).stdout, 20, lambda: "up?")
    for key, body in bodies.items():
        assert reader.get_object(Bucket="whole", Key=key)["Body"].read() == body, key
