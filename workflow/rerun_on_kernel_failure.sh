#!/bin/sh
# rerun_on_kernel_failure.sh LOG COMMAND...: run a papermill command and write its messages to LOG. Two kernels that start
# at the same moment may choose the same port, and then one dies before its first cell. Only this failure is tried again.
log=$1; shift
for try in 1 2 3; do
  "$@" 2> "$log" && exit 0
  status=$?
  grep -q "Kernel died before replying" "$log" || break
done
exit $status
