"""Places that many of these tests read from."""

from collections.abc import Iterator

import places
import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch) -> None:
    """Keep indexes where no other test, and no user, has any."""
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with places.s3_server() as address:
        yield address


@pytest.fixture
def s3(s3_address, monkeypatch):
    """An empty bucket `images`; also its file system."""
    import fsspec

    places.use_s3(s3_address, monkeypatch)
    system = fsspec.filesystem("s3", use_listings_cache=False)
    if system.exists("images"):
        system.rm("images", recursive=True)
    system.mkdir("images")
    return system


@pytest.fixture
def memory():
    """fsspec's own store in memory, empty."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def web(tmp_path) -> Iterator[str]:
    """A web server that shows the test's own folder."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
