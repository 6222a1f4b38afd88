# Made from interrupt.py by `python -m tools.stubs`, for type checkers: methods added by @patch stand in their classes.

import logging
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from fastcore.basics import patch
__all__ = ['Interrupted']

class Interrupted(KeyboardInterrupt):
    """Exception raised when a signal has stopped a run.

    Parameters
    ----------
    signum : int, default signal.SIGINT
        Number of the signal.
    kept : str, default ""
        Where the run stood when its state was saved, for example "at step 3 of 9". Empty: nothing was saved.
    """

    def __init__(self, signum: int=signal.SIGINT, kept: str=''):
        ...

def stop_at_once(signum, frame):
    ...
SIGNALS = tuple((getattr(signal, s) for s in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, s)))

@contextmanager
def handle_signals(handler):
    ...
REPEATED = 0.5

class Signals:
    """Flag that a signal has come."""

    def __init__(self, enabled: bool=True):
        ...

    def receive(self, signum, frame):
        ...

    def here(self) -> bool:
        ...

    def everywhere(self) -> bool:
        ...

    def leave(self, kept: str):
        ...
_current = None

@contextmanager
def deferred_signals(enabled: bool=True):
    ...
_log = logging.getLogger('diec')

def finished(unit: str, *which):
    ...
