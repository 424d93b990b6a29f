"""LocalStack, listening on 127.0.0.1 alone.

LocalStack's default server takes the port from GATEWAY_LISTEN but not the host, and would listen on
every interface of the machine. Run with LocalStack's own Python, in place of localstack.runtime.main.
"""

from twisted.internet import endpoints


class LoopbackEndpoint(endpoints.TCP4ServerEndpoint):
    def __init__(self, reactor, port, backlog=512, interface="127.0.0.1"):
        super().__init__(reactor, port, backlog, interface)


endpoints.TCP4ServerEndpoint = LoopbackEndpoint

from localstack.runtime.main import main  # noqa: E402 - after the change above

if __name__ == "__main__":
    main()
