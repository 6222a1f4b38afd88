"""No connection but to this machine itself. Python loads this file at its start when its folder is in PYTHONPATH; tests/conftest.py imports it."""
import sys


def is_here(address) -> bool:
    "Whether an address is one of this machine's own: a path, or an address of the loopback interface"
    if not isinstance(address, tuple): return True # of a Unix socket
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    return host in (None, "", "localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")


def refuse_network(event: str, args: tuple):
    "An audit hook (PEP 578) that stops whatever would leave this machine"
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"): address = args[1]
    elif event == "socket.getaddrinfo": address = args[:2]
    elif event == "socket.gethostbyname": address = (args[0],)
    else: return
    import socket
    if address is not None and not is_here(address) and address[0] != socket.gethostname(): raise ConnectionRefusedError(f"there is no network here, {address[0]} was asked for")


sys.addaudithook(refuse_network)
