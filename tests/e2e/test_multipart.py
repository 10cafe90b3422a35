"""Multipart uploads: their parts, their lists, their ends."""

import concurrent.futures
import hashlib

import pytest

from content import EXTENT, KIB, MIB, data
from refusals import refused

PART = 5 * MIB


@pytest.fixture
def upload(s3, bucket):
    """Begins an upload of "k"; gives its names."""
    made = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ContentType="a/b", Metadata={"m": "1"}
    )
    return {"Bucket": bucket, "Key": "k", "UploadId": made["UploadId"]}


def put_parts(clients, upload, bodies):
    def put(numbered):
        number, body = numbered
        part = clients[number % 3].upload_part(**upload, PartNumber=number, Body=body)
        assert part["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        return {"PartNumber": number, "ETag": part["ETag"]}

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        return list(pool.map(put, bodies.items()))


def test_parts_sent_to_all_nodes_in_any_order_make_one_object(clients, upload):
    bodies = {n: data(n, PART + n) for n in (9, 2, 1000, 1, 10000)}
    parts = sorted(put_parts(clients, upload, bodies), key=lambda p: p["PartNumber"])

    done = clients[1].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    whole = b"".join(bodies[n] for n in sorted(bodies))
    md5s = b"".join(hashlib.md5(bodies[n]).digest() for n in sorted(bodies))
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-5"'
    for client in clients:
        answer = client.get_object(Bucket=upload["Bucket"], Key="k")
        assert answer["Body"].read() == whole
        assert answer["ETag"] == done["ETag"]
        assert (answer["ContentType"], answer["Metadata"]) == ("a/b", {"m": "1"})
        assert client.list_objects_v2(Bucket=upload["Bucket"])["Contents"][0]["Size"] == len(whole)
    third = clients[2].get_object(Bucket=upload["Bucket"], Key="k", PartNumber=3)
    assert third["Body"].read() == bodies[9]
    assert third["PartsCount"] == 5
    head = clients[0].head_object(Bucket=upload["Bucket"], Key="k", PartNumber=5)
    assert head["ContentLength"] == PART + 10000
    with refused("InvalidPart", "InvalidPartNumber", "InvalidRange"):
        clients[0].get_object(Bucket=upload["Bucket"], Key="k", PartNumber=6)


def test_a_part_that_is_sent_again_replaces_the_former(clients, upload):
    put_parts(clients, upload, {1: b"former"})
    parts = put_parts(clients, upload, {1: b"latter"})

    clients[2].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    body = clients[0].get_object(Bucket=upload["Bucket"], Key="k")["Body"].read()
    assert body == b"latter"


def test_only_the_parts_that_are_named_become_the_object(clients, upload):
    parts = put_parts(clients, upload, {1: data(1, PART), 2: b"left out", 3: b"end"})

    clients[0].complete_multipart_upload(
        **upload, MultipartUpload={"Parts": [parts[0], parts[2]]}
    )

    body = clients[1].get_object(Bucket=upload["Bucket"], Key="k")["Body"].read()
    assert body == data(1, PART) + b"end"


def test_parts_are_listed_through_pages(clients, upload):
    put_parts(clients, upload, {n: str(n).encode() for n in range(1, 24)})

    for client in clients:
        numbers, marker, pages = [], 0, 0
        while True:
            page = client.list_parts(**upload, MaxParts=5, PartNumberMarker=marker)
            found = page.get("Parts", [])
            numbers += [part["PartNumber"] for part in found]
            assert all(part["Size"] == len(str(part["PartNumber"])) for part in found)
            pages += 1
            if not page["IsTruncated"]:
                break
            marker = page["NextPartNumberMarker"]
        assert numbers == list(range(1, 24))
        assert pages == 5
        assert len(client.list_parts(**upload)["Parts"]) == 23


def test_uploads_are_listed_through_pages_until_they_end(clients, bucket):
    made = []
    for key in ["a", "a", "b/1", "b/2", "c"]:
        answer = clients[0].create_multipart_upload(Bucket=bucket, Key=key)
        made.append((key, answer["UploadId"]))

    for client in clients:
        found, markers = [], {}
        while True:
            page = client.list_multipart_uploads(Bucket=bucket, MaxUploads=2, **markers)
            found += [(u["Key"], u["UploadId"]) for u in page.get("Uploads", [])]
            if not page["IsTruncated"]:
                break
            markers = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }
        assert sorted(found) == sorted(made)
        assert [key for key, _ in found] == ["a", "a", "b/1", "b/2", "c"]
        grouped = client.list_multipart_uploads(Bucket=bucket, Delimiter="/")
        assert [p["Prefix"] for p in grouped["CommonPrefixes"]] == ["b/"]
        narrow = client.list_multipart_uploads(Bucket=bucket, Prefix="b/")
        assert [u["Key"] for u in narrow["Uploads"]] == ["b/1", "b/2"]
    for key, name in made:
        clients[1].abort_multipart_upload(Bucket=bucket, Key=key, UploadId=name)
    for client in clients:
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_an_aborted_upload_is_gone_and_leaves_no_object(clients, upload):
    parts = put_parts(clients, upload, {1: b"x"})

    clients[1].abort_multipart_upload(**upload)

    for client in clients:
        with refused("NoSuchUpload", status=404):
            client.upload_part(**upload, PartNumber=2, Body=b"y")
        with refused("NoSuchUpload", status=404):
            client.list_parts(**upload)
        with refused("NoSuchUpload", status=404):
            client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        with refused("NoSuchKey"):
            client.get_object(Bucket=upload["Bucket"], Key="k")


def test_a_completion_that_is_repeated_gets_the_same_answer(clients, upload):
    parts = put_parts(clients, upload, {1: data(1, PART), 2: b"end"})

    answers = [
        clients[n % 3].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        for n in range(4)
    ]

    assert len({answer["ETag"] for answer in answers}) == 1
    assert {answer["ResponseMetadata"]["HTTPStatusCode"] for answer in answers} == {200}
    clients[0].put_object(Bucket=upload["Bucket"], Key="k", Body=b"newer")
    clients[1].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    body = clients[2].get_object(Bucket=upload["Bucket"], Key="k")["Body"].read()
    assert body == b"newer", "a repeat does not bring the object back"


def test_completions_at_the_same_time_make_one_object(clients, upload):
    parts = put_parts(clients, upload, {1: data(1, PART), 2: b"end"})

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda n: clients[n % 3].complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": parts}
                )["ETag"],
                range(6),
            )
        )

    assert len(set(answers)) == 1
    body = clients[1].get_object(Bucket=upload["Bucket"], Key="k")["Body"].read()
    assert body == data(1, PART) + b"end"


def test_a_completion_that_does_not_fit_is_refused_and_may_be_mended(s3, clients, upload):
    parts = put_parts(clients, upload, {1: data(1, PART), 2: data(2, PART), 3: b"end"})
    wrong_etag = [parts[0], {"PartNumber": 2, "ETag": '"0123456789abcdef0123456789abcdef"'}]
    missing = [*parts[:2], {"PartNumber": 5, "ETag": parts[2]["ETag"]}]
    disordered = [parts[1], parts[0]]
    twice = [parts[0], parts[0]]
    small = [parts[2] | {"PartNumber": 3}, *put_parts(clients, upload, {4: b"more"})]

    for wrong, code in [
        (wrong_etag, "InvalidPart"),
        (missing, "InvalidPart"),
        (disordered, "InvalidPartOrder"),
        (twice, "InvalidPartOrder"),
        (small, "EntityTooSmall"),
        ([], "MalformedXML"),
    ]:
        with refused(code, status=400):
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": wrong})

    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    body = s3.get_object(Bucket=upload["Bucket"], Key="k")["Body"].read()
    assert body == data(1, PART) + data(2, PART) + b"end"


def test_part_numbers_and_unknown_uploads_are_refused(s3, upload):
    for number in (0, 10001, -1):
        with refused("InvalidArgument", status=400):
            s3.upload_part(**upload, PartNumber=number, Body=b"x")
    with refused("NoSuchUpload", status=404):
        s3.upload_part(**(upload | {"UploadId": "no-such-upload"}), PartNumber=1, Body=b"x")
    with refused("NoSuchUpload", status=404):
        s3.upload_part(**(upload | {"Key": "another"}), PartNumber=1, Body=b"x")


def test_parts_are_copied_from_ranges_of_objects(clients, upload):
    bucket = upload["Bucket"]
    body = data("source", EXTENT + 3 * MIB)
    clients[0].put_object(Bucket=bucket, Key="source", Body=body)
    ranges = [(0, PART - 1), (EXTENT - 3 * MIB, EXTENT + 2 * MIB + 7), (7, 7)]
    parts = []
    for number, (first, last) in enumerate(ranges, 1):
        copied = clients[number % 3].upload_part_copy(
            **upload,
            PartNumber=number,
            CopySource={"Bucket": bucket, "Key": "source"},
            CopySourceRange=f"bytes={first}-{last}",
        )["CopyPartResult"]
        assert copied["ETag"] == f'"{hashlib.md5(body[first : last + 1]).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": copied["ETag"]})
    with refused("InvalidRange", "InvalidArgument"):
        clients[0].upload_part_copy(
            **upload,
            PartNumber=9,
            CopySource=f"{bucket}/source",
            CopySourceRange=f"bytes=0-{len(body)}",
        )

    clients[0].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    wanted = b"".join(body[first : last + 1] for first, last in ranges)
    for client in clients:
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == wanted


def test_a_whole_object_is_copied_as_a_part(clients, upload):
    bucket, body = upload["Bucket"], data("whole", 100 * KIB)
    clients[0].put_object(Bucket=bucket, Key="source", Body=body)

    copied = clients[1].upload_part_copy(**upload, PartNumber=1, CopySource=f"{bucket}/source")
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    clients[2].complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    assert clients[0].get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_a_bucket_with_an_open_upload_and_no_object_can_be_deleted_after_the_abort(clients, upload):
    clients[0].abort_multipart_upload(**upload)

    clients[1].delete_bucket(Bucket=upload["Bucket"])
