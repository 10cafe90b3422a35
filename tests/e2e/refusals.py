"""Refusals, said shortly, and requests that no SDK would send."""

import contextlib
import datetime
import hashlib
import hmac
import http.client
import ssl

import pytest
from botocore.exceptions import ClientError

from cluster import REGION


@contextlib.contextmanager
def refused(*codes, status=None):
    """The block must fail with one of those S3 error codes."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert answer["Error"]["Code"] in codes, answer
    if status is not None:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer


def signed_form(value):
    """A value's bytes as SDKs sign them: the UTF-8 of its text, whatever is sent."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    return value.strip().encode()


def sign(method, path, headers, body, key):
    """The headers with an Authorization of signature version 4; values may be bytes."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {name.lower(): value for name, value in headers.items()}
    headers.setdefault("x-amz-content-sha256", hashlib.sha256(body).hexdigest())
    headers.setdefault("x-amz-date", now)
    path, _, query = path.partition("?")
    pairs = sorted(pair if "=" in pair else pair + "=" for pair in query.split("&") if pair)
    signed = sorted(name for name in headers if name == "host" or name.startswith("x-amz-"))
    lines = [method.encode(), path.encode(), "&".join(pairs).encode()]
    for name in signed:
        lines.append(name.encode() + b":" + signed_form(headers[name]))
    lines += [b"", ";".join(signed).encode(), headers["x-amz-content-sha256"].encode()]
    scope = f"{headers['x-amz-date'][:8]}/{REGION}/s3/aws4_request"
    request = hashlib.sha256(b"\n".join(lines)).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{request}"
    secret = b"AWS4" + key[1].encode()
    for step in scope.split("/"):
        secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key[0]}/{scope}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return headers


def send(node, method, path, headers=None, body=b"", key=None, signed=True, tls=False):
    """One request as it is written here; gives (status, headers, body)."""
    host = f"localhost:{node.tls_port}" if tls else f"127.0.0.1:{node.s3_port}"
    headers = {"host": host, **(headers or {})}
    if signed:
        headers = sign(method, path, headers, body, key or node.cluster.key)
    if tls:
        context = ssl.create_default_context(cafile=node.certificate)
        connection = http.client.HTTPSConnection(host, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(host, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
