#!/bin/sh
# rerun_on_kernel_failure.sh LOG COMMAND...: run a papermill command, its words into LOG. Two kernels that start at the same moment may pick the same port, and
# one dies of it before its first cell: that alone is tried again.
log=$1; shift
for try in 1 2 3; do
  "$@" 2> "$log" && exit 0
  status=$?
  grep -q "Kernel died before replying" "$log" || break
done
exit $status
