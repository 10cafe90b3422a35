"""Who may do what, and that nothing which is not served is ignored."""

import contextlib
import datetime
import http.client
import time
import urllib.parse

import pytest

from refusals import refused, send


@pytest.fixture(scope="module")
def stranger(cluster):
    """Another credential, with a bucket of its own."""
    key = cluster.create_key("stranger")
    client = cluster.nodes[0].s3(key)
    client.create_bucket(Bucket="strangers-own")
    client.put_object(Bucket="strangers-own", Key="k", Body=b"theirs")
    return key


def fetch(url, method="GET", body=None, **headers):
    """Unlike urllib.request, this adds no Content-Type, which signatures of version 2 cover."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_presigned_urls_put_get_and_delete_without_credentials(cluster, bucket):
    node, other = cluster.nodes[0].s3(), cluster.nodes[1].s3()
    where = {"Bucket": bucket, "Key": "a b/ü+"}

    put = fetch(node.generate_presigned_url("put_object", Params=where), "PUT", b"signed")
    got = fetch(other.generate_presigned_url("get_object", Params=where))
    ranged = fetch(node.generate_presigned_url("get_object", Params=where), Range="bytes=1-2")
    over = fetch(
        node.generate_presigned_url(
            "get_object", Params={**where, "ResponseContentType": "text/x"}
        )
    )
    listed = fetch(other.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket}))
    gone = fetch(node.generate_presigned_url("delete_object", Params=where), "DELETE")

    assert put[0] == 200 and got == (200, b"signed") and over == (200, b"signed")
    assert ranged == (206, b"ig")
    assert listed[0] == 200 and b"<Key>" in listed[1]
    assert gone[0] == 204
    assert fetch(other.generate_presigned_url("get_object", Params=where))[0] == 404


def test_a_presigned_url_of_signature_version_2_is_served(cluster, bucket):
    client = cluster.client(cluster.nodes[0].endpoint, signature_version="s3")
    where = {"Bucket": bucket, "Key": "k"}

    url = client.generate_presigned_url("put_object", Params=where)
    assert "Signature=" in url and "X-Amz" not in url
    assert fetch(url, "PUT", b"v2")[0] == 200
    assert fetch(client.generate_presigned_url("get_object", Params=where)) == (200, b"v2")


def test_a_presigned_url_is_good_for_its_request_alone(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="other", Body=b"y")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})

    for wrong, method in [
        (url.replace("/k?", "/other?"), "GET"),
        (url, "PUT"),
        (url, "DELETE"),
        (url + "&x=1", "GET"),
        (url.replace("Expires=3600", "Expires=36000"), "GET"),
    ]:
        status, body = fetch(wrong, method, b"z" if method == "PUT" else None)
        assert status == 403 and b"SignatureDoesNotMatch" in body, (wrong, method, body)

    assert fetch(url) == (200, b"x")
    assert fetch(url.replace("Expires=3600", "Expires=604801"))[0] in (400, 403)


def test_a_presigned_url_expires(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=1
    )
    time.sleep(2.5)

    status, body = fetch(url)

    assert status == 403 and b"<Code>AccessDenied</Code>" in body, body


def test_without_a_signature_nothing_is_done(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    node = cluster.nodes[0]

    for method, path in [
        ("GET", f"/{bucket}/k"),
        ("HEAD", f"/{bucket}/k"),
        ("PUT", f"/{bucket}/k"),
        ("DELETE", f"/{bucket}/k"),
        ("GET", f"/{bucket}"),
        ("GET", "/"),
        ("PUT", "/new-bucket-of-nobody"),
        ("POST", f"/{bucket}?delete"),
    ]:
        status, _, body = send(node, method, path, body=b"y" if method == "PUT" else b"", signed=False)
        assert status == 403, (method, path, body)
        assert method == "HEAD" or b"<Code>AccessDenied</Code>" in body, (method, path, body)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_wrong_secret_and_an_unknown_key_are_told_apart(cluster, bucket):
    wrong = cluster.nodes[0].s3((cluster.key[0], "x" * 40))
    unknown = cluster.nodes[0].s3(("QKNOSUCHKEY", "x" * 40))

    with refused("SignatureDoesNotMatch", status=403):
        wrong.list_objects_v2(Bucket=bucket)
    with refused("SignatureDoesNotMatch", status=403):
        wrong.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("InvalidAccessKeyId", status=403):
        unknown.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_skewed_date_is_refused(cluster, bucket, minutes):
    date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    headers = {"x-amz-date": date.strftime("%Y%m%dT%H%M%SZ")}

    status, _, body = send(cluster.nodes[0], "GET", f"/{bucket}", headers)

    assert status == 403 and b"RequestTimeTooSkewed" in body, body


def test_another_owners_bucket_is_closed_in_every_way(cluster, stranger, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="u")["UploadId"]
    for node in cluster.nodes:
        other = node.s3(stranger)
        part = {"Bucket": bucket, "Key": "u", "UploadId": upload, "PartNumber": 1}
        to = {"Bucket": "strangers-own", "Key": "stolen"}
        for attempt in (
            lambda: other.get_object(Bucket=bucket, Key="k"),
            lambda: other.get_object(Bucket=bucket, Key="none"),
            lambda: other.put_object(Bucket=bucket, Key="k", Body=b"x"),
            lambda: other.delete_object(Bucket=bucket, Key="k"),
            lambda: other.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]}),
            lambda: other.list_objects_v2(Bucket=bucket),
            lambda: other.list_objects(Bucket=bucket),
            lambda: other.list_multipart_uploads(Bucket=bucket),
            lambda: other.delete_bucket(Bucket=bucket),
            lambda: other.get_bucket_location(Bucket=bucket),
            lambda: other.get_object_attributes(
                Bucket=bucket, Key="k", ObjectAttributes=["ETag"]
            ),
            lambda: other.create_multipart_upload(Bucket=bucket, Key="k"),
            lambda: other.upload_part(**part, Body=b"x"),
            lambda: other.copy_object(**to, CopySource=f"{bucket}/k"),
            lambda: other.copy_object(Bucket=bucket, Key="k", CopySource="strangers-own/k"),
            lambda: other.upload_part_copy(**part, CopySource="strangers-own/k"),
        ):
            with refused("AccessDenied", status=403):
                attempt()
        with refused("403"):
            other.head_object(Bucket=bucket, Key="k")
        with refused("BucketAlreadyExists", status=409):
            other.create_bucket(Bucket=bucket)
        assert [b["Name"] for b in other.list_buckets()["Buckets"]] == ["strangers-own"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"mine"
    own = cluster.nodes[1].s3(stranger)
    mine = own.create_multipart_upload(Bucket="strangers-own", Key="u")["UploadId"]
    with refused("AccessDenied", status=403):
        own.upload_part_copy(
            Bucket="strangers-own", Key="u", UploadId=mine, PartNumber=1, CopySource=f"{bucket}/k"
        )


def test_a_deleted_credential_is_refused_by_every_node_soon(cluster):
    key = cluster.create_key("short-lived")
    cluster.nodes[1].cli("key", "delete", key[0])
    time.sleep(2)

    for node in cluster.nodes:
        with refused("InvalidAccessKeyId", status=403):
            node.s3(key).list_buckets()


def test_conditional_writes_are_refused_and_never_ignored(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    where = {"Bucket": bucket, "Key": "k"}

    for attempt in (
        lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"x", IfNoneMatch="*"),
        lambda: s3.put_object(**where, Body=b"x", IfNoneMatch="*"),
        lambda: s3.put_object(**where, Body=b"x", IfMatch=etag),
        lambda: s3.delete_object(**where, IfMatch=etag),
        lambda: s3.copy_object(**where, CopySource=f"{bucket}/k", IfNoneMatch="*"),
        lambda: s3.complete_multipart_upload(
            **where, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*"
        ),
    ):
        with refused("NotImplemented", status=501):
            attempt()
    many = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "ETag": etag}]})
    assert [error["Code"] for error in many["Errors"]] == ["NotImplemented"]

    assert s3.get_object(**where)["Body"].read() == b"first"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_what_is_not_served_is_refused_and_never_ignored(s3, bucket):
    put = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    for attempt in (
        lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        ),
        lambda: s3.put_bucket_policy(Bucket=bucket, Policy="{}"),
        lambda: s3.put_bucket_tagging(Bucket=bucket, Tagging=tags),
        lambda: s3.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        ),
        lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [{"Status": "Enabled", "Prefix": ""}]}
        ),
        lambda: s3.put_object(**put, ServerSideEncryption="AES256"),
        lambda: s3.put_object(**put, ACL="public-read"),
        lambda: s3.put_object(**put, Tagging="a=b"),
        lambda: s3.put_object(**put, StorageClass="GLACIER"),
        lambda: s3.put_object(**put, ObjectLockMode="GOVERNANCE"),
        lambda: s3.put_object(**put, WebsiteRedirectLocation="/x"),
        lambda: s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tags),
        lambda: s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True),
        lambda: s3.create_bucket(Bucket="public", ACL="public-read"),
    ):
        with refused("NotImplemented", status=501):
            attempt()
    for attempt in (
        lambda: s3.get_object(Bucket=bucket, Key="k", VersionId="3HL4kqtJlcpXroDTDmJ"),
        lambda: s3.delete_object(Bucket=bucket, Key="k", VersionId="3HL4kqtJlcpXroDTDmJ"),
    ):
        with refused("NotImplemented", "NoSuchVersion", "InvalidArgument"):
            attempt()

    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_settings_that_were_never_made_are_said_to_be_absent(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    for name, code in [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
    ]:
        with refused(code, status=404):
            getattr(s3, name)(Bucket=bucket)


def test_an_error_names_its_request(cluster, bucket):
    status, headers, body = send(cluster.nodes[0], "GET", f"/{bucket}/none")

    assert status == 404
    assert headers["content-type"].startswith("application/xml")
    assert f"<RequestId>{headers['x-amz-request-id']}</RequestId>".encode() in body
    assert f"<Resource>/{bucket}/none</Resource>".encode() in body
    assert b"<HostId>" in body
