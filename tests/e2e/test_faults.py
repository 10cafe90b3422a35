"""What real processes do when others are killed, starved, damaged, or strangers."""

import concurrent.futures
import os
import subprocess
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cluster import Node, until
from content import KIB, MIB, data
from load import Load

# After this many seconds the others know of a death and no request fails any more.
NOTICED_SECONDS = 4


def test_a_killed_node_fails_no_request_for_long_and_loses_nothing(new_cluster):
    cluster = new_cluster(3)
    survivors = [node.s3(read_timeout=20) for node in cluster.nodes[:2]]
    survivors[0].create_bucket(Bucket="load")

    survivors[0].create_bucket(Bucket="doomed")
    third = [cluster.nodes[2].s3(read_timeout=20)]
    with Load(survivors, "load") as load, Load(third, "doomed", threads=2) as doomed:
        time.sleep(3)
        cluster.nodes[2].kill()
        killed = time.monotonic()
        time.sleep(12)
        before_return = load.done
        cluster.nodes[2].start(wait="ready")
        time.sleep(3)

    late = load.failed_after(killed + NOTICED_SECONDS)
    print(f"{load.done} requests, {len(load.failures)} failed, {len(late)} of them late")
    assert before_return > 100
    assert not late, late[:5]
    assert not load.wrong, load.wrong[:3]
    # The one that came back serves as well, and knows what was written without it.
    everyone = [node.s3() for node in cluster.nodes]
    lost = load.audit(everyone) + doomed.audit(everyone)
    assert load.acknowledged() > 30
    assert doomed.acknowledged() > 3 and not doomed.wrong
    assert not lost, lost[:3]
    cluster.nodes[2].s3().put_object(Bucket="load", Key="by the returned", Body=b"x")


def test_all_nodes_killed_while_writing_lose_nothing_that_was_acknowledged(new_cluster):
    cluster = new_cluster(3)
    clients = [node.s3() for node in cluster.nodes]
    loads = []

    for turn in range(2):
        clients[0].create_bucket(Bucket=f"load-{turn}")
        with Load(clients, f"load-{turn}", seed=turn) as load:
            time.sleep(4)
            cluster.kill_all()
            load.stop()
        loads.append(load)
        cluster.restart()

        for load in loads:
            lost = load.audit(clients)
            assert load.acknowledged() > 10
            assert not load.wrong, load.wrong[:3]
            assert not lost, lost[:3]


def test_an_upload_of_parts_goes_on_after_all_nodes_were_killed(new_cluster):
    cluster = new_cluster(3)
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="parts")
    where = {"Bucket": "parts", "Key": "k"}
    where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
    bodies = {n: data(n, 5 * MIB + n) for n in (1, 2)}
    parts = []

    for number, body in bodies.items():
        part = cluster.nodes[number].s3().upload_part(**where, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
        cluster.kill_all()
        cluster.restart()
    until(
        lambda: _succeeds(
            lambda: client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        ),
        10,
        lambda: "the upload cannot be completed",
    )

    for node in cluster.nodes:
        body = node.s3().get_object(Bucket="parts", Key="k")["Body"].read()
        assert body == bodies[1] + bodies[2]


def _succeeds(attempt):
    try:
        attempt()
    except (ClientError, BotoCoreError):
        return False
    return True


def test_an_orderly_stop_fails_nothing_that_was_begun_and_ends_with_zero(new_cluster):
    cluster = new_cluster(3)
    client = cluster.nodes[2].s3()
    client.create_bucket(Bucket="stop")
    body = data("stop", 20 * MIB)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        puts = [
            pool.submit(client.put_object, Bucket="stop", Key=str(n), Body=body) for n in range(4)
        ]
        until(
            lambda: any(p.running() for p in puts), 5, lambda: "no put began"
        )
        time.sleep(0.15)
        code = cluster.nodes[2].stop()
        done = [put.exception() is None for put in puts]

    assert code == 0, cluster.nodes[2].tail()
    for number, acknowledged in enumerate(done):
        if acknowledged:
            answer = cluster.nodes[0].s3().get_object(Bucket="stop", Key=str(number))
            assert answer["Body"].read() == body
    assert "panic" not in cluster.nodes[2].log_text()


def test_a_node_of_another_cluster_secret_does_not_join_and_both_say_why(new_cluster):
    cluster = new_cluster(2)
    stranger = Node(cluster, 9)
    stranger.folder.mkdir()
    peers = [f"127.0.0.1:{node.peer_port}" for node in cluster.nodes]
    stranger.write_config(secret="f" * 64, peers=peers)
    cluster.nodes.append(stranger)

    stranger.start()

    def both_say_so():
        words = ("secret", "certificate")
        logs = [stranger.log_text(), *(node.log_text() for node in cluster.nodes[:2])]
        return [
            any("refused" in line and any(w in line for w in words) for line in log.splitlines())
            for log in logs
        ]

    until(
        lambda: both_say_so()[0] and any(both_say_so()[1:]),
        15,
        lambda: f"said so: {both_say_so()}; {cluster.tails()}",
    )
    assert not stranger.healthy("ready")
    status = cluster.nodes[0].cli("status", "-o", "json").stdout
    assert '"n9"' not in status
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="calm")
    client.put_object(Bucket="calm", Key="k", Body=b"x")


def segments(node):
    """The segment files of a node, largest first."""
    files = [path for path in (node.data_dir / "segments").rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def fill(cluster, count=6, size=3 * MIB):
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="damage")
    bodies = {f"k{n}": data(f"damage {n}", size) for n in range(count)}
    for key, body in bodies.items():
        client.put_object(Bucket="damage", Key=key, Body=body)
    return bodies


def read_all(cluster, bodies):
    for node in cluster.nodes:
        for key, body in bodies.items():
            found = node.s3().get_object(Bucket="damage", Key=key)["Body"].read()
            assert found == body, (node.number, key)


def test_flipped_bytes_on_one_disk_are_found_and_never_served(new_cluster):
    cluster = new_cluster(3)
    bodies = fill(cluster)
    node = cluster.nodes[1]
    node.stop()
    path = segments(node)[0]
    size = path.stat().st_size
    assert size > 10 * MIB, "the bytes are in the segments"
    with open(path, "r+b") as file:
        for offset in range(100 * KIB, size, 700 * KIB):
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 0x40]))

    node.start(wait="ready")
    for _ in range(2):
        read_all(cluster, bodies)

    counted = node.metric("quorate_store_damaged_reads_total")
    counted += node.metric("quorate_store_damaged_spans_total")
    assert counted > 0, "the damage is counted"
    log = node.log_text()
    assert "failed its check" in log or "damage in the segment log" in log
    assert node.alive()


def test_a_segment_that_lost_its_end_is_no_loss(new_cluster):
    cluster = new_cluster(3)
    bodies = fill(cluster)
    node = cluster.nodes[2]
    node.kill()
    path = segments(node)[0]
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)

    node.start(wait="ready")
    read_all(cluster, bodies)
    cluster.nodes[2].s3().put_object(Bucket="damage", Key="k0", Body=b"new")
    bodies["k0"] = b"new"

    read_all(cluster, bodies)
    assert node.alive()


def test_a_segment_that_was_removed_is_no_loss(new_cluster):
    cluster = new_cluster(3)
    bodies = fill(cluster)
    node = cluster.nodes[0]
    node.stop()
    segments(node)[0].unlink()

    node.start(wait="live")
    until(lambda: node.healthy("ready"), 30, lambda: node.tail())

    read_all(cluster, bodies)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "quorate-e2e", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def put_until_refused(client, bucket, size, limit=200):
    """Puts until one is refused; gives what was acknowledged, and the refusal."""
    bodies = {}
    for number in range(limit):
        key, body = f"full-{number:03d}", data(f"full {number}", size)
        try:
            client.put_object(Bucket=bucket, Key=key, Body=body)
        except ClientError as error:
            return bodies, error.response
        bodies[key] = body
    return bodies, None


@pytest.mark.parametrize("size", [16 * KIB, 512 * KIB, 3 * MIB], ids=["inline", "attached", "extent"])
def test_a_full_disk_refuses_writes_clearly_and_goes_on_reading(new_cluster, small_disk, size):
    ballast = small_disk / "ballast"
    cluster = new_cluster(1, data_dirs={1: small_disk / "data"})
    ballast.write_bytes(b"\1" * (50 * MIB))
    node = cluster.nodes[0]
    client = node.s3()
    client.create_bucket(Bucket="full")

    bodies, refusal = put_until_refused(client, "full", size, 90 * MIB // size)
    assert refusal is not None, "the disk did not fill"
    status = refusal["ResponseMetadata"]["HTTPStatusCode"]
    assert status in (503, 507), refusal
    assert any(w in refusal["Error"]["Message"].lower() for w in ("room", "full", "space")), refusal
    assert node.alive()

    def read_back():
        for key, body in bodies.items():
            assert client.get_object(Bucket="full", Key=key)["Body"].read() == body, key

    read_back()
    ballast.unlink()
    until(
        lambda: _succeeds(lambda: client.put_object(Bucket="full", Key="after", Body=b"x" * size)),
        20,
        lambda: f"no write after space was freed; {node.tail()}",
    )
    read_back()
    node.kill()
    node.start(wait="ready")
    read_back()
    assert len(client.get_object(Bucket="full", Key="after")["Body"].read()) == size


def test_one_full_disk_of_three_stops_no_client(new_cluster, small_disk):
    cluster = new_cluster(3, data_dirs={3: small_disk / "data"})
    space = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"\1" * (space.f_bavail * space.f_frsize - 20 * MIB))
    clients = [node.s3() for node in cluster.nodes]
    clients[0].create_bucket(Bucket="one-full")
    bodies, failed = {}, []
    for number in range(45):
        key, body = f"k{number:02d}", data(f"one full {number}", MIB + 1)
        try:
            clients[number % 2].put_object(Bucket="one-full", Key=key, Body=body)
            bodies[key] = body
        except ClientError as error:
            failed.append(error.response["Error"])

    assert not failed, (len(failed), failed[:2])
    space = os.statvfs(small_disk)
    assert space.f_bavail * space.f_frsize < 8 * MIB, "the disk did not fill"
    assert cluster.nodes[2].alive()
    for client in clients:
        for key, body in bodies.items():
            assert client.get_object(Bucket="one-full", Key=key)["Body"].read() == body
