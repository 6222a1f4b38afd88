"""Refuse network connections except to this machine.

Python loads this file at its start if its folder is in PYTHONPATH; tests/conftest.py imports it.
"""
import sys


def is_local(address) -> bool:
    "Whether an address belongs to this machine: a path, or an address of the loopback interface"
    if not isinstance(address, tuple): return True # of a Unix socket
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    return host in (None, "", "localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")


def refuse_network(event: str, args: tuple):
    "An audit hook (PEP 578) that stops connections to other machines"
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"): address = args[1]
    elif event == "socket.getaddrinfo": address = args[:2]
    elif event == "socket.gethostbyname": address = (args[0],)
    else: return
    import socket
    if address is not None and not is_local(address) and address[0] != socket.gethostname():
        raise ConnectionRefusedError(f"no network here: a connection to {address[0]} was refused")


sys.addaudithook(refuse_network)
