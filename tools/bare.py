"""Run a command as on a bare machine: `python -m tools.bare make test`.

The home folder is empty, only PATH, LANG, LC_ALL and TERM are set, no data package is installed (/usr/share/datasets
is empty), and there is no network except the loopback interface, which notebook kernels and processes need.

This uses Linux namespaces, without root where the system allows it. Elsewhere Python itself refuses the network
(tools/guard), and the command does not run if a data package cannot be hidden. Needs nothing but Python.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TERM")
DATA = ("/usr/share/datasets",)
GUARD = Path(__file__).resolve().parent/"guard"


def namespace_prefix() -> list:
    "The start of a command that gets its own network and mounts; empty where the system does not allow this"
    for rights in ([], ["--map-root-user"]):
        prefix = ["unshare", *rights, "--mount", "--net"]
        if not shutil.which("unshare"): continue
        trial = subprocess.run([*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
        if trial.returncode == 0: return prefix
    return []


def loopback_up():
    "Switch on the loopback interface of the new network"
    import fcntl
    import socket
    import struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1)) # SIOCSIFFLAGS, IFF_UP


def run_inside(hidden: list, command: list):
    "In the new namespaces: hide the folders, then become the command"
    loopback_up()
    for folder in hidden: subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    os.execvp(command[0], command)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hide", action="append", default=list(DATA), metavar="FOLDER", help="also hide this folder")
    parser.add_argument("--no-namespaces", action="store_true",
                        help="use no namespaces, as on a system that does not allow them")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    hidden = [f for f in dict.fromkeys(args.hide) if Path(f).exists()]
    if not args.command: parser.error("a command is missing")
    if args.inside: run_inside(hidden, args.command)
    prefix = [] if args.no_namespaces else namespace_prefix()
    if not prefix and hidden:
        sys.exit(f"{', '.join(hidden)} cannot be hidden, because this system allows no namespaces; "
                 "remove the folder, or run as root")
    with tempfile.TemporaryDirectory(prefix="bare-home-") as home:
        env = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ} | {"HOME": home}
        if not prefix: return subprocess.run(args.command, env=env | {"PYTHONPATH": str(GUARD)}).returncode
        flags = [w for f in hidden for w in ("--hide", f)]
        again = [sys.executable, __file__, "--inside", *flags, *args.command]
        return subprocess.run([*prefix, *again], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
