"""Run a command as on a bare machine: `python -m tools.bare make test`.

The home folder is empty. No variable is set but PATH, LANG, LC_ALL and TERM. There is no network but the loopback interface, by which a notebook's
kernel and processes that work together talk. No data package is installed: /usr/share/datasets is empty.

Linux's namespaces do this, without root where the system allows it. Elsewhere Python itself refuses the network (tools/guard), and the command
is not run if there is a data package that cannot be hidden. Needs nothing but Python.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = ("PATH", "LANG", "LC_ALL", "TERM")
DATA = ("/usr/share/datasets",)
GUARD = Path(__file__).resolve().parent/"guard"


def unshare() -> list:
    "The words before a command that give it a network and mounts of its own; none where the system does not allow that"
    for rights in ([], ["--map-root-user"]):
        words = ["unshare", *rights, "--mount", "--net"]
        if shutil.which("unshare") and subprocess.run([*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0: return words
    return []


def loopback_up():
    "Switch the new network's loopback interface on"
    import fcntl, socket, struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1)) # SIOCSIFFLAGS, IFF_UP


def inside(hidden: list, command: list):
    "In the new namespaces: hide the folders, then become the command"
    loopback_up()
    for folder in hidden: subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    os.execvp(command[0], command)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hide", action="append", default=list(DATA), metavar="FOLDER", help="hide this folder as well")
    parser.add_argument("--no-namespaces", action="store_true", help="do without, as on a system that does not allow them")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    hidden = [f for f in dict.fromkeys(args.hide) if Path(f).exists()]
    if not args.command: parser.error("a command is missing")
    if args.inside: inside(hidden, args.command)
    words = [] if args.no_namespaces else unshare()
    if not words and hidden: sys.exit(f"{', '.join(hidden)} cannot be hidden: this system allows no namespaces; remove it, or run as root")
    with tempfile.TemporaryDirectory(prefix="bare-home-") as home:
        env = {k: os.environ[k] for k in KEPT if k in os.environ} | {"HOME": home}
        if not words: return subprocess.run(args.command, env=env | {"PYTHONPATH": str(GUARD)}).returncode
        flags = [w for f in hidden for w in ("--hide", f)]
        return subprocess.run([*words, sys.executable, __file__, "--inside", *flags, *args.command], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
