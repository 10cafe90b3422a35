"""Nodes that are away for a while: what the others do meanwhile, and what it finds on its return."""

import concurrent.futures
import shutil
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cluster import until
from content import KIB, MIB, data
from refusals import refused

SIZES = [5, 20 * KIB, 300 * KIB, 2 * MIB]


def puts(client, bucket, bodies):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: client.put_object(Bucket=bucket, Key=k, Body=bodies[k]), bodies))


def listed(client, bucket):
    keys = []
    for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 7}
    ):
        keys += [(item["Key"], item["Size"]) for item in page.get("Contents", [])]
    return keys


def agrees(client, bucket, bodies, gone=()):
    """This node shows exactly these objects."""
    assert listed(client, bucket) == sorted((k, len(b)) for k, b in bodies.items())
    for key, body in bodies.items():
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    for key in gone:
        with refused("NoSuchKey", status=404):
            client.get_object(Bucket=bucket, Key=key)


def test_a_node_that_was_away_shows_no_old_state_even_when_another_leaves(new_cluster):
    cluster = new_cluster(3)
    first, second, third = cluster.nodes
    client = first.s3()
    client.create_bucket(Bucket="away")
    bodies = {f"k{n:03d}": data(f"away {n}", SIZES[n % 4]) for n in range(60)}
    puts(client, "away", bodies)

    third.kill()
    until(
        lambda: first.metric("quorate_s3_requests_total") > 0, 5, lambda: "no figures"
    )
    time.sleep(2)
    gone = [key for number, key in enumerate(bodies) if number % 3 == 0]
    changed = [key for number, key in enumerate(bodies) if number % 3 == 1]
    for key in gone:
        client.delete_object(Bucket="away", Key=key)
        del bodies[key]
    bodies.update({key: data(f"again {key}", SIZES[len(key + key[-1]) % 4]) for key in changed})
    puts(client, "away", {key: bodies[key] for key in changed})
    bodies.update({f"new{n}": data(f"new {n}", 30 * KIB) for n in range(10)})
    puts(client, "away", {key: body for key, body in bodies.items() if key.startswith("new")})
    agrees(second.s3(), "away", bodies, gone)

    third.start(wait="ready")
    agrees(third.s3(), "away", bodies, gone)
    first.kill()
    time.sleep(2)

    # Now the one that was away is half of every quorum.
    agrees(third.s3(), "away", bodies, gone)
    agrees(second.s3(), "away", bodies, gone)


def test_one_node_of_three_refuses_rather_than_answer_what_it_cannot_know(new_cluster):
    cluster = new_cluster(3)
    client = cluster.nodes[0].s3(read_timeout=45)
    client.create_bucket(Bucket="lonely")
    client.put_object(Bucket="lonely", Key="k", Body=b"x")
    cluster.nodes[1].kill()
    cluster.nodes[2].kill()
    time.sleep(2)

    for attempt in (
        lambda: client.put_object(Bucket="lonely", Key="new", Body=b"x"),
        lambda: client.get_object(Bucket="lonely", Key="none"),
        lambda: client.delete_object(Bucket="lonely", Key="k"),
        lambda: client.list_objects_v2(Bucket="lonely"),
        lambda: client.create_multipart_upload(Bucket="lonely", Key="u"),
    ):
        began = time.monotonic()
        with refused("ServiceUnavailable", "SlowDown", status=503):
            attempt()
        assert time.monotonic() - began < 35
    assert cluster.nodes[0].healthy("live")

    cluster.nodes[1].start(wait="ready")

    def writes_again():
        try:
            client.put_object(Bucket="lonely", Key="after", Body=b"y")
        except (ClientError, BotoCoreError):
            return False
        return True

    until(writes_again, 10, lambda: cluster.tails())
    assert client.get_object(Bucket="lonely", Key="after")["Body"].read() == b"y"


def test_buckets_are_made_while_a_node_is_away_or_refused_without_a_trace(new_cluster):
    cluster = new_cluster(3)
    clients = [node.s3() for node in cluster.nodes]
    clients[0].create_bucket(Bucket="before")
    cluster.nodes[2].kill()
    time.sleep(2)

    try:
        clients[0].create_bucket(Bucket="meanwhile")
        there = ["before", "meanwhile"]
    except ClientError as error:
        told = error.response["ResponseMetadata"]
        assert told["HTTPStatusCode"] == 503, error
        # Begun before the node was known to be away, it may be there or not; else it is not.
        unknown = told["HTTPHeaders"].get("x-quorate-outcome") == "unknown"
        there = None if unknown else ["before"]
    cluster.nodes[2].start(wait="ready")
    time.sleep(4)

    for client in clients:
        names = [b["Name"] for b in client.list_buckets()["Buckets"]]
        there = there or names
        assert names == there and names[0] == "before"
    clients[2].create_bucket(Bucket="meanwhile")
    for client in clients:
        assert [b["Name"] for b in client.list_buckets()["Buckets"]] == ["before", "meanwhile"]


def test_a_node_that_lost_its_whole_folder_harms_nobody(new_cluster):
    cluster = new_cluster(3)
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="lost")
    bodies = {f"k{n:02d}": data(f"lost {n}", SIZES[n % 4]) for n in range(24)}
    puts(client, "lost", bodies)
    lost = cluster.nodes[2]
    lost.kill()
    shutil.rmtree(lost.data_dir)
    lost.data_dir.mkdir()

    # It re-enters as the member that it was, and counts for nothing until it is rebuilt.
    lost.start(wait="ready")

    for node in cluster.nodes:
        agrees(node.s3(), "lost", bodies)
    client.put_object(Bucket="lost", Key="later", Body=b"z")
    assert cluster.nodes[1].s3().get_object(Bucket="lost", Key="later")["Body"].read() == b"z"


@pytest.mark.parametrize("what", ["sst", "log"])
def test_damage_in_a_nodes_tables_is_never_taken_for_absence(new_cluster, what):
    cluster = new_cluster(3)
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="tables")
    bodies = {f"k{n:03d}": data(f"tables {n}", 12 * KIB) for n in range(200)}
    puts(client, "tables", bodies)
    node = cluster.nodes[1]
    node.stop() if what == "sst" else node.kill()
    if what == "sst":
        # A second start and stop, so that the log's rows are in tables.
        node.start(wait="ready")
        node.stop()
    files = [f for f in (node.data_dir / "meta").glob(f"*.{what}") if f.stat().st_size > 20 * KIB]
    if not files:
        pytest.skip(f"this node has no large .{what} file")
    for path in files:
        raw = bytearray(path.read_bytes())
        for offset in range(8 * KIB, len(raw) - 8 * KIB, 40 * KIB):
            raw[offset] ^= 0x10
        path.write_bytes(raw)

    node.start(wait=None)
    time.sleep(3)

    # It may refuse to start, if it says why; it may not serve what is not so.
    if not node.alive():
        said = node.log_text().lower()
        assert "corrupt" in said or "damage" in said or "checksum" in said, node.tail()
        assert "panicked" not in said
    others = [one for one in cluster.nodes if one is not node]
    for one in others:
        agrees(one.s3(), "tables", bodies)
    if node.alive():
        node.wait("ready")
        agrees(node.s3(), "tables", bodies)
        log = node.log_text().lower()
        said = "damage" in log.replace("damage: [], damage_count: 0", "") or "corrupt" in log
        assert said or node.metric("quorate_store_damaged_reads_total") > 0, "nobody is told"
