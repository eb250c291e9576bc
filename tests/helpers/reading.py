"""What the tests of the report read back."""

import base64
import gzip
import json
import re

from gaxjax.results.stored_run import open_runs

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)> $x_{ ' & {{ 7*7 }}"


def payload(page: str) -> dict:
    [text] = re.findall(r'<script type="text/plain" id="report-data">(.*?)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(text)))


def load(path):
    return open_runs((path,))[0]
