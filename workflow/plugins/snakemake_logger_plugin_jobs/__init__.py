"""The progress of the batch: a line of at most 80 columns whenever a job begins or ends.

Snakemake finds this plugin by its name.
"""
import logging
import sys
import time

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


def duration(seconds: float) -> str:
    "A duration in words"
    minutes = round(seconds/60)
    if seconds < 90: return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes//60} h {minutes % 60} min"


class Progress:
    "Counts jobs, and estimates the remaining time from the time that the finished ones took"
    def __init__(self, width=80, clock=time.monotonic):
        self.width, self.clock, self.start = width, clock, clock()
        self.running, self.done, self.total = {}, 0, None # jobid -> name

    def line(self) -> str:
        "The state of the batch"
        elapsed, left = self.clock() - self.start, ""
        count = f"[{self.done}/{self.total}]" if self.total else f"[{self.done}]"
        if self.total and self.total <= 4*self.done < 4*self.total: # not in the first quarter: its jobs are the longest
            left = f", about {duration(elapsed/self.done*(self.total - self.done))} left"
        text = f"{count} {duration(elapsed)}{left}: {', '.join(self.running.values()) or 'nothing runs'}"
        return text if len(text) <= self.width else text[:self.width - 3] + "..."

    def heard(self, record) -> bool:
        "Update the counts from a log record of Snakemake; returns whether there is a line to print"
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            wildcards = map(str, dict(record.wildcards or {}).values())
            self.running[record.jobid] = "-".join([record.rule_name, *wildcards])
        elif event == LogEvent.JOB_FINISHED: self.running.pop(record.job_id, None)
        elif event == LogEvent.JOB_ERROR: self.running.pop(record.jobid, None)
        elif event == LogEvent.RUN_INFO: self.total = (getattr(record, "stats", None) or {}).get("total")
        elif event == LogEvent.PROGRESS: self.done, self.total = record.done, record.total
        return event in (LogEvent.JOB_INFO, LogEvent.PROGRESS)


class LogHandler(LogHandlerBase):
    "Prints the progress, warnings and errors; everything else that Snakemake logs goes to its log file"
    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False

    def __post_init__(self): self.progress = Progress()

    def emit(self, record):
        message, failed = record.getMessage(), getattr(record, "event", None) == LogEvent.JOB_ERROR
        if self.progress.heard(record): message = self.progress.line()
        elif failed: return # workflow/reproduce.py names the notebooks that failed
        elif record.levelno < logging.WARNING and not message.startswith("Nothing to be done"): return
        print(message, file=sys.stderr, flush=True)
