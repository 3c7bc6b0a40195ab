"""The owner's clients for programs that run on asyncio: the same objects and names, awaited.

Each client works on one thread of its own, as encryption, sharing and TLS block. Calls of one client run one after another;
open several for several at a time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.client import Answer, OwnerClient
from protocols.messages import Offer
from protocols.sharing.owner import Answer as SharesAnswer
from protocols.sharing.owner import Offline, SharesClient
from secureimg import ckks, sharing
from secureimg.errors import LocalProtocolError

__all__ = ["AsyncOwnerClient", "AsyncSharesClient"]

C = TypeVar("C", bound=OwnerClient | SharesClient)
T = TypeVar("T")


class _AsyncClient(Generic[C]):
    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="owner")
        self._held: C | None = None

    async def __aenter__(self) -> Self:
        try:
            self._held = await self._call(self._connect)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye and close the connection."""
        if self._held is not None:
            client, self._held = self._held, None
            await self._call(client.close)
        self._thread.shutdown(wait=False)

    @property
    def _client(self) -> C:
        if self._held is None:
            raise LocalProtocolError("this client is not connected: use it in an `async with` block")
        return self._held

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class AsyncOwnerClient(_AsyncClient[OwnerClient]):
    """`OwnerClient`, awaited.

    Parameters
    ----------
    *arguments, **options
        As for `OwnerClient`.

    Examples
    --------
    >>> async with AsyncOwnerClient("127.0.0.1", 7443, "owner.pem") as client:   # doctest: +SKIP
    ...     await client.register(OwnerKeys.generate(client.program))
    ...     scores = await client.infer(image)
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(functools.partial(OwnerClient, *arguments, **options))

    @property
    def program(self) -> ckks.PublicProgram:
        """The server's program."""
        return self._client.program

    @property
    def offer(self) -> Offer:
        """What the server said of itself."""
        return self._client.offer

    async def register(self, keys: ckks.OwnerKeys) -> int:
        """See `OwnerClient.register`."""
        return await self._call(lambda: self._client.register(keys))

    async def evaluate(self, blob: bytes, count: int = 1) -> Answer:
        """See `OwnerClient.evaluate`."""
        return await self._call(lambda: self._client.evaluate(blob, count))

    async def infer(self, x: ArrayLike) -> NDArray[np.float64]:
        """See `OwnerClient.infer`."""
        return await self._call(lambda: self._client.infer(x))


class AsyncSharesClient(_AsyncClient[SharesClient]):
    """`SharesClient`, awaited.

    Parameters
    ----------
    *arguments, **options
        As for `SharesClient`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(functools.partial(SharesClient, *arguments, **options))

    @property
    def program(self) -> sharing.PublicProgram:
        """The parties' program."""
        return self._client.program

    async def prepare(self, images: int) -> Offline:
        """See `SharesClient.prepare`."""
        return await self._call(lambda: self._client.prepare(images))

    async def run(self, images: ArrayLike) -> SharesAnswer:
        """See `SharesClient.run`."""
        return await self._call(lambda: self._client.run(images))
