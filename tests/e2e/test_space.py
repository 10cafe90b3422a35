"""Bytes follow their records: room comes back, and what is missing or damaged comes back too."""

import concurrent.futures
import os
import threading
import time
import urllib.request

from botocore.exceptions import BotoCoreError, ClientError

from cluster import until
from content import KIB, MIB, data

# Small, so that a minute shows what else takes hours.
QUICK = """
[store]
segment_size = "4MiB"
read_grace = "10s"

[repair]
interval = "5s"
purge_lag = "20s"

[limits]
request_deadline = "5s"
"""

SIZES = [40 * KIB, 300 * KIB, 1 * MIB, 3 * MIB]


def folder(node):
    return node.data_dir / "segments"


def used(node):
    """Bytes that a node's segments take on its disk."""
    return sum(
        path.stat().st_blocks * 512 for path in folder(node).rglob("*") if path.is_file()
    )


def puts(client, bodies):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: client.put_object(Bucket="space", Key=k, Body=bodies[k]), bodies))


def reads(node, bodies):
    client = node.s3()
    for key, body in bodies.items():
        assert client.get_object(Bucket="space", Key=key)["Body"].read() == body, key


def settled(*nodes):
    """Nothing is missing at any of them."""
    return all(node.metric("quorate_extents_missing") == 0 for node in nodes)


def figures(cluster):
    names = ["quorate_unrefs", "quorate_extents_freed_total", "quorate_extents_missing"]
    return [(n.number, used(n), {m: n.metric(m) for m in names}) for n in cluster.nodes]


def abort_an_upload(client):
    upload = client.create_multipart_upload(Bucket="space", Key="aborted")["UploadId"]
    where = {"Bucket": "space", "Key": "aborted", "UploadId": upload}
    client.upload_part(**where, PartNumber=1, Body=data("aborted", 6 * MIB))
    client.abort_multipart_upload(**where)


def complete_an_upload(client):
    """Makes an object of two parts of three, one of them uploaded twice; gives its bytes."""
    upload = client.create_multipart_upload(Bucket="space", Key="made")["UploadId"]
    where = {"Bucket": "space", "Key": "made", "UploadId": upload}
    bodies = {1: data("one", 5 * MIB), 2: data("two", 5 * MIB), 3: data("three", 1 * MIB)}
    client.upload_part(**where, PartNumber=1, Body=data("replaced", 5 * MIB))
    tags = {n: client.upload_part(**where, PartNumber=n, Body=b)["ETag"] for n, b in bodies.items()}
    parts = [{"PartNumber": number, "ETag": tags[number]} for number in (1, 3)]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    return bodies[1] + bodies[3]


def test_the_room_of_overwritten_and_deleted_objects_comes_back(new_cluster):
    cluster = new_cluster(3, more_config=QUICK)
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="space")
    bodies = {f"k{n:02d}": data(f"first {n}", SIZES[n % 4]) for n in range(60)}
    puts(client, bodies)
    abort_an_upload(client)
    bodies["made"] = complete_an_upload(client)
    full = min(used(node) for node in cluster.nodes)
    assert full > 60 * MIB, "the bytes are in the segments"

    numbered = [key for key in bodies if key != "made"]
    overwritten = {key: data(f"second {key}", 50 * KIB) for key in numbered[::3]}
    puts(client, overwritten)
    bodies.update(overwritten)
    for key in numbered[1::3] + numbered[2::6]:
        client.delete_object(Bucket="space", Key=key)
        del bodies[key]

    kept = sum(len(body) for body in bodies.values())
    bound = 2 * kept + 3 * 4 * MIB
    assert bound < 0.7 * full, "there is something to see"
    until(
        lambda: max(used(node) for node in cluster.nodes) < bound,
        120,
        lambda: f"{full} bytes were used, {kept} are kept, {bound} allowed: {figures(cluster)}",
    )
    for node in cluster.nodes:
        reads(node, bodies)


def lose_segments(node):
    """As if the disk with the segments were new."""
    node.kill()
    for path in folder(node).rglob("*.seg"):
        os.unlink(path)
    node.start(wait=None)


def test_what_a_node_missed_comes_to_it_and_is_as_good_as_what_the_others_have(new_cluster):
    cluster = new_cluster(3, more_config=QUICK)
    first, second, third = cluster.nodes
    client = first.s3()
    client.create_bucket(Bucket="space")
    third.kill()
    bodies = {f"k{n:02d}": data(f"missed {n}", SIZES[n % 4]) for n in range(24)}
    puts(client, bodies)

    third.start(wait="ready")

    size = sum(len(body) for body in bodies.values())
    until(
        lambda: used(third) >= size and settled(third),
        90,
        lambda: f"{size} bytes were missed: {figures(cluster)}",
    )
    # What is missing is counted every five seconds: what the last reads found may not be yet.
    time.sleep(7)
    until(lambda: settled(third), 60, lambda: f"{figures(cluster)}")
    # From now on nobody else has them.
    for node in (first, second):
        lose_segments(node)
    for node in (first, second):
        node.wait("ready")
    reads(third, bodies)


def test_a_damaged_chunk_is_mended_once_it_was_read(new_cluster):
    cluster = new_cluster(3, more_config=QUICK)
    first, second, third = cluster.nodes
    client = first.s3()
    client.create_bucket(Bucket="space")
    bodies = {f"k{n:02d}": data(f"damaged {n}", SIZES[n % 4]) for n in range(8)}
    puts(client, bodies)
    until(lambda: used(third) > 8 * MIB, 20, lambda: f"{figures(cluster)}")
    third.stop()
    for path in folder(third).rglob("*.seg"):
        with open(path, "r+b") as file:
            for offset in range(150 * KIB, path.stat().st_size, 900 * KIB):
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes([byte[0] ^ 1]))

    third.start(wait="ready")
    reads(third, bodies)

    assert third.metric("quorate_store_damaged_reads_total") > 0
    until(
        lambda: third.metric("quorate_extents_fetched_total") > 0 and settled(third),
        60,
        lambda: f"{figures(cluster)}",
    )
    # What is missing is counted every five seconds: what the last reads found may not be yet.
    time.sleep(7)
    until(lambda: settled(third), 60, lambda: f"{figures(cluster)}")
    # From now on nobody else has them.
    for node in (first, second):
        lose_segments(node)
    for node in (first, second):
        node.wait("ready")
    reads(third, bodies)


def test_what_a_dead_gateway_had_written_is_freed(new_cluster):
    cluster = new_cluster(3, more_config=QUICK)
    first, second, _third = cluster.nodes
    first.s3().create_bucket(Bucket="space")
    first.s3().put_object(Bucket="space", Key="kept", Body=data("kept", 2 * MIB))
    before = used(second)

    def put():
        try:
            first.s3().put_object(Bucket="space", Key="cut", Body=data("cut", 200 * MIB))
        except (BotoCoreError, ClientError):
            pass

    putting = threading.Thread(target=put)
    putting.start()
    # The first extent of 64 MiB is whole, and nothing names it.
    until(
        lambda: used(second) > before + 72 * MIB or not putting.is_alive(),
        60,
        lambda: f"{figures(cluster)}",
    )
    first.kill()
    putting.join()
    assert used(second) > before + 64 * MIB, "it was cut in the middle"

    first.start(wait="ready")

    until(
        lambda: max(used(node) for node in cluster.nodes) < before + 16 * MIB,
        150,
        lambda: f"{before} bytes were used before: {figures(cluster)}",
    )
    assert sum(node.metric("quorate_orphan_extents_total") for node in cluster.nodes) > 0
    for node in cluster.nodes:
        reads(node, {"kept": data("kept", 2 * MIB)})


def at_level(level):
    """Names the level of a bucket that is created."""
    return lambda request, **_: request.headers.add_header("x-quorate-level", level)


def test_bytes_are_kept_for_owners_that_are_away_and_brought_to_them(new_cluster):
    cluster = new_cluster(5, more_config=QUICK)
    client = cluster.nodes[0].s3()
    client.meta.events.register("before-sign.s3.CreateBucket", at_level("quorum"))
    client.create_bucket(Bucket="space")
    away, there = cluster.nodes[3:], cluster.nodes[:3]
    for node in away:
        node.kill()
    until(
        lambda: all(peers_up(node) == len(there) for node in there),
        30,
        lambda: f"{[peers_up(node) for node in there]} peers are up",
    )
    bodies = {f"k{n:02d}": data(f"kept {n}", SIZES[n % 4]) for n in range(24)}

    puts(client, bodies)
    for node in there:
        reads(node, bodies)
    # Most bytes are placed where all owners are there; the records are not.
    assert sum(node.metric("quorate_hints") for node in there) > 0

    for node in away:
        node.start(wait=None)
    for node in away:
        node.wait("ready")
    size = sum(len(body) for body in bodies.values())
    until(
        lambda: sum(node.metric("quorate_hints") for node in there) == 0
        and settled(*cluster.nodes)
        and 3 * size < sum(used(node) for node in cluster.nodes) < 3 * size + 5 * 2 * 4 * MIB
        and all(used(node) > 0 for node in away),
        120,
        lambda: f"{size} bytes: {figures(cluster)}, hints "
        f"{[node.metric('quorate_hints') for node in cluster.nodes]}",
    )
    for node in cluster.nodes:
        reads(node, bodies)


def peers_up(node):
    """How many nodes a node sees, itself included."""
    with urllib.request.urlopen(f"{node.admin_url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counts = [float(line.rsplit(" ", 1)[1]) for line in lines if 'gossip_peers{liveness="up"}' in line]
    return sum(counts)
