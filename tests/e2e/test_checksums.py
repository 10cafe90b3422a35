"""Checksums of clients: kept, given back, and refused when they do not fit."""

import base64
import hashlib
import zlib

import awscrt.checksums
import pytest

from content import CHUNK, KIB, MIB, data
from refusals import refused, send

SIZES = [0, 9, 16 * KIB + 1, 3 * CHUNK + 1]


def big_endian(number, size=4):
    return number.to_bytes(size, "big")


ALGORITHMS = {
    "CRC32": lambda b: big_endian(zlib.crc32(b)),
    "CRC32C": lambda b: big_endian(awscrt.checksums.crc32c(b)),
    "CRC64NVME": lambda b: big_endian(awscrt.checksums.crc64nvme(b), 8),
    "SHA1": lambda b: hashlib.sha1(b).digest(),
    "SHA256": lambda b: hashlib.sha256(b).digest(),
}


def checksum(algorithm, body):
    return base64.b64encode(ALGORITHMS[algorithm](body)).decode()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tls", [False, True], ids=["header", "trailer"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_is_kept_and_given_back(cluster, bucket, algorithm, tls, size):
    body = data(algorithm, size)
    # Over https boto3 sends the checksum as a trailer, over http as a header.
    client = cluster.nodes[0].s3(tls=tls)
    put = client.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)

    name, wanted = f"Checksum{algorithm}", checksum(algorithm, body)
    assert put[name] == wanted
    for node in cluster.nodes:
        answer = node.s3().get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert answer["Body"].read() == body
        assert answer[name] == wanted
        assert answer["ChecksumType"] == "FULL_OBJECT"
        head = node.s3().head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert head[name] == wanted


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_checksum_in_a_header_is_refused_and_nothing_is_stored(
    cluster, s3, bucket, algorithm, size
):
    body = data(algorithm, size)
    wrong = {f"Checksum{algorithm}": checksum(algorithm, body + b"!")}

    with refused("BadDigest", status=400):
        s3.put_object(Bucket=bucket, Key="k", Body=body, **wrong)

    for node in cluster.nodes:
        with refused("NoSuchKey"):
            node.s3().get_object(Bucket=bucket, Key="k")


def chunked(body, trailer=None, cut=65536):
    """aws-chunked framing with an unsigned trailer."""
    out = bytearray()
    for start in range(0, len(body), cut):
        piece = body[start : start + cut]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
    out += b"0\r\n"
    if trailer:
        out += f"{trailer[0]}:{trailer[1]}\r\n".encode()
    return bytes(out + b"\r\n")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_checksum_in_a_trailer_is_refused_and_nothing_is_stored(
    cluster, s3, bucket, algorithm, tls
):
    body = data(algorithm, 3 * CHUNK + 1)
    name = f"x-amz-checksum-{algorithm.lower()}"
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-trailer": name,
        "x-amz-decoded-content-length": str(len(body)),
        "content-encoding": "aws-chunked",
    }
    status, codes = {}, {}
    for what, value in [("right", checksum(algorithm, body)), ("wrong", checksum(algorithm, b"?"))]:
        framed = chunked(body, (name, value))
        path = f"/{bucket}/{what}"
        status[what], _, answer = send(cluster.nodes[0], "PUT", path, headers, framed, tls=tls)
        codes[what] = answer

    assert status["right"] == 200, codes["right"]
    assert status["wrong"] == 400 and b"<Code>BadDigest</Code>" in codes["wrong"], codes["wrong"]
    listed = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == ["right"]
    right = s3.get_object(Bucket=bucket, Key="right")
    assert right["Body"].read() == body
    assert not right.get("ContentEncoding")


@pytest.mark.parametrize("cut_off", ["no end", "half a chunk", "no trailer"])
def test_a_chunked_body_that_is_cut_off_is_refused_and_nothing_is_stored(
    cluster, s3, bucket, cut_off
):
    body = data("cut", 200_000)
    framed = chunked(body, ("x-amz-checksum-crc32", checksum("CRC32", body)))
    framed = {
        "no end": framed[: framed.rindex(b"0\r\nx-amz")],
        "half a chunk": framed[: len(framed) // 2],
        "no trailer": chunked(body),
    }[cut_off]
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": str(len(body)),
    }

    status, _, answer = send(cluster.nodes[0], "PUT", f"/{bucket}/k", headers, framed)

    assert status == 400, answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_content_md5_is_checked(s3, bucket, size):
    body = data("md5", size)

    def md5(of):
        return base64.b64encode(hashlib.md5(of).digest()).decode()

    put = s3.put_object(Bucket=bucket, Key="right", Body=body, ContentMD5=md5(body))
    with refused("BadDigest", status=400):
        s3.put_object(Bucket=bucket, Key="wrong", Body=body, ContentMD5=md5(body + b"?"))
    with refused("InvalidDigest", status=400):
        s3.put_object(Bucket=bucket, Key="no", Body=body, ContentMD5="not a digest")

    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["right"]


def test_a_body_whose_signed_hash_does_not_fit_is_refused(cluster, s3, bucket):
    headers = {"x-amz-content-sha256": hashlib.sha256(b"another").hexdigest()}

    status, _, answer = send(cluster.nodes[0], "PUT", f"/{bucket}/k", headers, b"body")

    assert status == 400 and b"XAmzContentSHA256Mismatch" in answer, answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_multipart_object_has_the_checksum_that_was_asked_for(
    cluster, bucket, algorithm, kind, tls
):
    if (algorithm, kind) in {("CRC64NVME", "COMPOSITE")} or (
        algorithm.startswith("SHA") and kind == "FULL_OBJECT"
    ):
        with refused("InvalidRequest", status=400):
            cluster.nodes[0].s3(tls=tls).create_multipart_upload(
                Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind
            )
        return
    client = cluster.nodes[0].s3(tls=tls)
    bodies = [data("one", 5 * MIB + 3), data("two", 100 * KIB)]
    upload = client.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind
    )
    name = f"Checksum{algorithm}"
    parts = []
    for number, body in enumerate(bodies, 1):
        part = client.upload_part(
            Bucket=bucket,
            Key="k",
            UploadId=upload["UploadId"],
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm=algorithm,
        )
        assert part[name] == checksum(algorithm, body)
        parts.append({"PartNumber": number, "ETag": part["ETag"], name: part[name]})
    if kind == "COMPOSITE":
        joined = b"".join(ALGORITHMS[algorithm](body) for body in bodies)
        wanted = checksum(algorithm, joined) + "-2"
    else:
        wanted = checksum(algorithm, b"".join(bodies))

    done = client.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
    )

    assert done[name] == wanted
    assert done["ChecksumType"] == kind
    md5s = b"".join(hashlib.md5(body).digest() for body in bodies)
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-2"'
    for node in cluster.nodes:
        head = node.s3().head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert head[name] == wanted
        assert head["ETag"] == done["ETag"]
    answer = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert answer["Body"].read() == b"".join(bodies)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_a_wrong_checksum_of_the_whole_object_refuses_its_completion(s3, bucket, algorithm):
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT"
    )["UploadId"]
    body, name = b"only part", f"Checksum{algorithm}"
    part = s3.upload_part(
        Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=body, ChecksumAlgorithm=algorithm
    )
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], name: part[name]}]}
    common = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": parts}

    with refused("BadDigest", "InvalidRequest", status=400):
        s3.complete_multipart_upload(**common, **{name: checksum(algorithm, b"other")})
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    s3.complete_multipart_upload(**common, **{name: checksum(algorithm, body)})

    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_a_copy_keeps_or_makes_a_checksum(clients, bucket):
    body = data("copied", MIB + 1)
    clients[0].put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="SHA256")

    clients[1].copy_object(Bucket=bucket, Key="kept", CopySource=f"{bucket}/k")
    clients[1].copy_object(
        Bucket=bucket, Key="made", CopySource=f"{bucket}/k", ChecksumAlgorithm="CRC32C"
    )

    def head(key):
        return clients[2].head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")

    assert head("kept")["ChecksumSHA256"] == checksum("SHA256", body)
    assert head("made")["ChecksumCRC32C"] == checksum("CRC32C", body)


def test_the_attributes_of_an_object_tell_its_checksum_size_and_parts(s3, bucket):
    body = b"attributes"
    s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="SHA1")

    told = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass"]
    )

    assert told["Checksum"]["ChecksumSHA1"] == checksum("SHA1", body)
    assert told["ObjectSize"] == len(body)
    assert told["ETag"] == hashlib.md5(body).hexdigest()
