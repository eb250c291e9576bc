"""Ray in one process: actors are objects whose methods run in threads; some die and start again."""

import threading
import types
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Died(BaseException):
    """Raised in a method, it kills the actor's process."""


class FakeRay:
    """What `ray` gives, as far as it is used.

    Attributes:
        restarts: of actors, so far.
        names: of actors and of tasks.
    """

    def __init__(self, cpus: int = 4, gpus: int = 0) -> None:
        self.exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.resources = {"CPU": float(cpus), "GPU": float(gpus)}
        self.restarts = 0
        self.names: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.address: Any = "never asked"
        self._there = False

    def is_initialized(self) -> bool:
        return self._there

    def init(self, address: str | None, **_: Any) -> None:
        if address not in (None, "ray://here"):
            raise ConnectionError(f"no cluster at {address}")
        self.address, self._there = address, True

    def shutdown(self) -> None:
        self._there = False

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": True}]

    def remote(self, kind: type) -> "_Kind":
        return _Kind(self, kind)

    def wait(self, futures, num_returns: int = 1, timeout: float | None = None):
        assert futures, "Ray refuses an empty list"
        futures = list(futures)
        if num_returns == len(futures):
            done, _ = wait(futures, timeout)
        else:
            done, _ = wait(futures, timeout, FIRST_COMPLETED)
        return [each for each in futures if each in done], [
            each for each in futures if each not in done
        ]

    def get(self, futures):
        return (
            [each.result() for each in futures] if isinstance(futures, list) else futures.result()
        )


class _Kind:
    def __init__(self, ray: FakeRay, kind: type) -> None:
        self._ray, self._kind, self._options = ray, kind, {}

    def options(self, **options: Any) -> "_Kind":
        self._options = options
        self._ray.names.append(options["name"])
        self._ray.options.append(options)
        return self

    def remote(self, *arguments: Any) -> "_Actor":
        return _Actor(self._ray, self._kind, arguments, self._options)


class _Actor:
    def __init__(self, ray: FakeRay, kind: type, arguments: Any, options: dict[str, Any]) -> None:
        self._ray, self._make = ray, lambda: kind(*arguments)
        self._left = options["max_restarts"]
        self._threads = ThreadPoolExecutor(options["max_concurrency"])
        self._starting = threading.Lock()
        self._self = self._make()

    def __getattr__(self, method: str) -> "_Method":
        return _Method(self, method)

    def call(self, method: str, arguments: Any) -> Any:
        for _ in range(10):
            living = self._self
            try:
                return getattr(living, method)(*arguments)
            except Died:
                with self._starting:
                    living._kept.close()  # the system gives its locks up
                    if not self._left:
                        raise RayError("the actor died too often") from None
                    if self._self is living:
                        self._left -= 1
                        self._ray.restarts += 1
                        self._self = self._make()
            except RayError:
                raise
            except Exception as error:
                raise RayTaskError(error) from error
        raise AssertionError("it dies without end")


class _Method:
    def __init__(self, actor: _Actor, name: str) -> None:
        self._actor, self._name = actor, name

    def options(self, name: str) -> "_Method":
        self._actor._ray.names.append(name)
        return self

    def remote(self, *arguments: Any) -> "Future[Any]":
        return self._actor._threads.submit(self._actor.call, self._name, arguments)
