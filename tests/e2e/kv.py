"""A client of the key-value API that tries nothing twice."""

import base64
import contextlib
import http.client
import json
import ssl
import urllib.parse

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cluster import REGION


class Answer:
    """What came back."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def context(self):
        return self.headers.get("x-quorate-context")

    @property
    def siblings(self):
        return int(self.headers["x-quorate-siblings"])

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:200]}"


class Kv:
    """One node's key-value API, as one credential."""

    def __init__(self, node, key=None, signed=False, tls=False, timeout=30):
        self.node, self.key = node, key or node.cluster.key
        self.signed, self.tls, self.timeout = signed, tls, timeout

    def ask(self, method, bucket, key="", value=None, context=None, headers=None, **query):
        path = "/kv/v1/" + urllib.parse.quote(f"{bucket}/{key}" if key else bucket, safe="/-._~")
        if query:
            path += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        sent = dict(headers or {})
        if context is not None:
            sent["x-quorate-context"] = context
        sent.update(self._who(method, path, value))
        return self.raw(method, path, value, sent)

    def raw(self, method, path, value=None, headers=None):
        with contextlib.closing(self._connect()) as connection:
            connection.request(method, path, value, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def _connect(self):
        if self.tls:
            trust = ssl.create_default_context(cafile=str(self.node.certificate))
            return http.client.HTTPSConnection(
                "localhost", self.node.kv_tls_port, timeout=self.timeout, context=trust
            )
        return http.client.HTTPConnection("127.0.0.1", self.node.kv_port, timeout=self.timeout)

    def _who(self, method, path, value):
        if not self.signed:
            return {"authorization": f"Bearer {self.key[0]}:{self.key[1]}"}
        request = AWSRequest(method, f"{self.node.kv_url}{path}", data=value)
        S3SigV4Auth(Credentials(*self.key), "s3", REGION).add_auth(request)
        return dict(request.headers)

    def get(self, bucket, key, **more):
        return self.ask("GET", bucket, key, **more)

    def put(self, bucket, key, value, context=None, **more):
        return self.ask("PUT", bucket, key, value, context, **more)

    def delete(self, bucket, key, context=None, **more):
        return self.ask("DELETE", bucket, key, None, context, **more)

    def scan(self, bucket, **query):
        return self.ask("GET", bucket, **query)

    def values(self, bucket, key, **more):
        """The values that stand, as a set; empty if the key is not there."""


        answer = self.get(bucket, key, headers={"accept": "application/json"}, **more)
        if answer.status == 404:
            return set()
        assert answer.status in (200, 300), answer
        return {base64.b64decode(one["value"]) for one in answer.json()["siblings"]}
