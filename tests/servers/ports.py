"""Ports of the loopback that are free, and stay so until a server is started there."""

import socket


def free_port() -> int:
    """Give a port that the system gives to nobody else for as long as this process lives.

    Somebody who names it may serve there: Linux lets a port be bound twice by who agrees to it,
    as servers do, while at most one of them listens. Nobody listens there till then.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    reserved.detach()  # which leaves it open
    return port
