"""LocalStack, listening on 127.0.0.1 alone, without pauses of half a second.

LocalStack's default server takes the port from GATEWAY_LISTEN but not the host, and would listen on
every interface of the machine. Run with LocalStack's own Python, in place of localstack.runtime.main.

What it has loaded by the time it is ready stays until its end. Python's collector of cycles went over
all of that again and again: every ten seconds under load nothing was answered for 500 to 730 ms.

With WORLD_COLLECTOR=off it does not collect at all: for measuring alone, since it grows by some 10 MB/s under load.
"""

import gc
import os
import threading

from twisted.internet import endpoints


class LoopbackEndpoint(endpoints.TCP4ServerEndpoint):
    def __init__(self, reactor, port, backlog=512, interface="127.0.0.1"):
        super().__init__(reactor, port, backlog, interface)


endpoints.TCP4ServerEndpoint = LoopbackEndpoint

from localstack.runtime import events  # noqa: E402 - after the change above
from localstack.runtime.main import main  # noqa: E402


def spare_the_loaded():
    """Once all is loaded, takes it out of the collector's sight."""
    events.infra_ready.wait()
    gc.collect()
    gc.freeze()
    if os.environ.get("WORLD_COLLECTOR") == "off":
        gc.disable()
    else:
        gc.set_threshold(5_000, 4, 100)


if __name__ == "__main__":
    threading.Thread(target=spare_the_loaded, daemon=True).start()
    main()
