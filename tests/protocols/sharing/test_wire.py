"""Rule: a wire that another thread closes gives errors or nothing, never the records of TLS as if they were data."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from protocols.wire import Wire


def test_what_is_read_while_another_thread_closes_is_data_or_nothing(tls_pair: Any) -> None:
    for turn in range(40):
        near, far = tls_pair()
        wire, wrong, begun = Wire(near), [], threading.Event()

        def send(far: Any = far) -> None:
            with contextlib.suppress(OSError, ValueError):
                while True:
                    far.sendall(bytes(16384))

        def receive(wire: Wire = wire, wrong: list[int] = wrong, begun: threading.Event = begun) -> None:
            memory = memoryview(bytearray(1 << 16))
            with contextlib.suppress(OSError, ValueError):
                while count := wire.receive_into(memory, time.monotonic() + 10):
                    begun.set()
                    wrong.append(sum(memory[:count]))  # zeros were sent

        threads = [threading.Thread(target=task, daemon=True) for task in (send, receive)]
        for thread in threads:
            thread.start()
        assert begun.wait(10)
        time.sleep(0.0005 * (turn % 5))
        wire.close()
        far.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert not any(wrong)
