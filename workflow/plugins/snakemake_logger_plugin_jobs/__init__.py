"What the batch is doing and how much of it is left, a line of at most 80 columns whenever a job begins or ends. Snakemake finds this plugin by its name."
import logging
import sys
import time

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


def duration(seconds: float) -> str:
    minutes = round(seconds/60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes//60} h {minutes % 60} min"


class Progress:
    "Counts jobs. What is left is estimated from the time that the finished ones took"
    def __init__(self, width=80, clock=time.monotonic):
        self.width, self.clock, self.running, self.done, self.total = width, clock, {}, 0, None
        self.start = clock()

    def line(self) -> str:
        elapsed = self.clock() - self.start
        count = f"[{self.done}/{self.total}]" if self.total else f"[{self.done}]"
        left = f", about {duration(elapsed/self.done*(self.total - self.done))} left" if self.total and self.total <= 4*self.done < 4*self.total else "" # the first jobs are the longest
        text = f"{count} {duration(elapsed)}{left}: {', '.join(self.running.values()) or 'nothing runs'}"
        return text if len(text) <= self.width else text[:self.width - 3] + "..."

    def heard(self, record) -> bool:
        "Take note of what Snakemake logs; whether there is something to say"
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO: self.running[record.jobid] = "-".join([record.rule_name, *map(str, dict(record.wildcards or {}).values())])
        elif event == LogEvent.JOB_FINISHED: self.running.pop(record.job_id, None)
        elif event == LogEvent.JOB_ERROR: self.running.pop(record.jobid, None)
        elif event == LogEvent.RUN_INFO: self.total = (getattr(record, "stats", None) or {}).get("total")
        elif event == LogEvent.PROGRESS: self.done, self.total = record.done, record.total
        return event in (LogEvent.JOB_INFO, LogEvent.PROGRESS)


class LogHandler(LogHandlerBase):
    "Writes the lines to standard error, and warnings and errors; all else that Snakemake says goes into its log file alone"
    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False

    def __post_init__(self): self.progress = Progress()

    def emit(self, record):
        message = record.getMessage()
        if self.progress.heard(record): text = self.progress.line()
        elif getattr(record, "event", None) != LogEvent.JOB_ERROR and record.levelno >= logging.WARNING or message.startswith("Nothing to be done"): text = message
        else: return # workflow/reproduce.py names the notebooks that failed, so that JOB_ERROR need not
        print(text, file=sys.stderr, flush=True)
