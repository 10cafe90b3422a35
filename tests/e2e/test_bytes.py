"""What went in comes out: whole and by ranges, through every node."""

import concurrent.futures
import hashlib
import time

import boto3.s3.transfer
import pytest
from botocore.exceptions import ClientError

from content import CHUNK, EXTENT, GIB, KIB, MIB, Stream, data
from watch import BUSY_MAX, Watch

SIZES = [0, 1, 16 * KIB, 16 * KIB + 1, MIB, MIB + 1, EXTENT + 1]


def ranges(size):
    """Header and the (start, end) that it must answer."""
    wanted = {(0, 0), (size - 1, size - 1), (0, size - 1)}
    for border in (16 * KIB, CHUNK, MIB, EXTENT, size // 2):
        wanted |= {(border - 1, border), (border, border), (border - 3, border + CHUNK + 5)}
    for start, last in sorted(wanted):
        if 0 <= start <= last and start < size:
            yield f"bytes={start}-{last}", start, min(last + 1, size)
    yield "bytes=0-", 0, size
    yield f"bytes={size - 1}-", size - 1, size
    for count in (1, 7, CHUNK + 1, size, size + 9):
        yield f"bytes=-{count}", max(0, size - count), size


@pytest.mark.parametrize("size", SIZES)
def test_an_object_comes_back_whole_and_by_ranges_through_every_node(clients, bucket, size):
    body = data(f"size {size}", size)
    put = clients[0].put_object(Bucket=bucket, Key="k", Body=body)

    for client in clients:
        whole = client.get_object(Bucket=bucket, Key="k")

        assert whole["Body"].read() == body
        assert whole["ContentLength"] == size
        assert whole["ETag"] == put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        assert whole["AcceptRanges"] == "bytes"
        assert client.head_object(Bucket=bucket, Key="k")["ContentLength"] == size
        if size == 0:
            continue
        for header, start, end in ranges(size):
            part = client.get_object(Bucket=bucket, Key="k", Range=header)

            assert part["Body"].read() == body[start:end], header
            assert part["ContentRange"] == f"bytes {start}-{end - 1}/{size}", header
            assert part["ResponseMetadata"]["HTTPStatusCode"] == 206, header


@pytest.mark.parametrize("size", [0, 5])
def test_a_range_beyond_the_end_is_refused(s3, bucket, size):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * size)

    for header in [f"bytes={size}-", f"bytes={size + 7}-{size + 9}", "bytes=-0"]:
        with pytest.raises(ClientError) as refused:
            s3.get_object(Bucket=bucket, Key="k", Range=header)

        assert refused.value.response["Error"]["Code"] == "InvalidRange", header
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 416


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=a-b", "items=0-1", "bytes=", "bytes=0-1,3-4"])
def test_a_range_that_means_nothing_yields_the_whole_object(s3, bucket, header):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    assert s3.get_object(Bucket=bucket, Key="k", Range=header)["Body"].read() == b"0123456789"


def test_an_object_of_a_gibibyte_comes_back_and_takes_little_memory(cluster, clients, bucket):
    transfer = boto3.s3.transfer.TransferConfig(multipart_chunksize=65 * MIB, max_concurrency=3)
    seed, began = "gib", time.monotonic()
    with Watch(cluster.nodes) as watch:
        clients[0].upload_fileobj(Stream(seed, GIB), bucket, "k", Config=transfer)
        up = time.monotonic() - began

        whole = clients[1].get_object(Bucket=bucket, Key="k")
        same = Stream(seed, GIB).equals(whole["Body"])
    down = time.monotonic() - began - up
    print(f"1 GiB: up {up:.1f} s, down {down:.1f} s, most resident: {watch}")

    assert same
    assert max(watch.most) < BUSY_MAX, str(watch)
    assert whole["ETag"].endswith('-16"')
    borders = [0, CHUNK, EXTENT, 65 * MIB, 65 * MIB + EXTENT, 130 * MIB, GIB // 2, GIB - CHUNK - 9]
    for client in clients:
        for border in borders:
            start, end = max(0, border - 7), border + CHUNK + 7
            part = client.get_object(Bucket=bucket, Key="k", Range=f"bytes={start}-{end - 1}")
            assert Stream(seed, GIB).equals(part["Body"], start, end), border
        last = client.get_object(Bucket=bucket, Key="k", Range="bytes=-1")
        assert last["Body"].read() == Stream(seed, GIB).at(GIB - 1, GIB)
    clients[2].delete_object(Bucket=bucket, Key="k")


def test_parallel_readers_of_all_nodes_see_the_same_bytes(clients, bucket):
    body = data("parallel", 5 * MIB)
    clients[0].put_object(Bucket=bucket, Key="k", Body=body)

    def read(number):
        return clients[number % 3].get_object(Bucket=bucket, Key="k")["Body"].read() == body

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, range(36)))


def test_a_client_that_leaves_in_the_middle_of_a_read_does_no_harm(clients, bucket):
    body = data("leaves", 20 * MIB)
    clients[0].put_object(Bucket=bucket, Key="k", Body=body)

    for client in clients:
        for _ in range(5):
            answer = client.get_object(Bucket=bucket, Key="k")["Body"]
            answer.read(1000)
            answer.close()

    assert clients[1].get_object(Bucket=bucket, Key="k")["Body"].read() == body
