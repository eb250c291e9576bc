#!/usr/bin/env bash
# GAX over a cluster with Slurm: eight shards of the images side by side, one GPU each, into one run
# folder on a disk that all nodes share; docs/clusters.md says more.
#
#   gaxjax convert resnet34 --output resnet34.ckpt   # once, before: the jobs download nothing
#   job=$(sbatch --parsable examples/slurm.sh resnet34.ckpt /data/val /scratch/gax-run)
#   sbatch --dependency="afterany:$job" --wrap 'gaxjax inspect /scratch/gax-run'
#
# Further words are further flags of `gaxjax gax`. sbatch hands on the environment it is called in:
# activate gaxjax's before. For another number of shards, change --array and nothing else. A shard
# that is stopped for the time limit or for other jobs is put into the queue again and goes on;
# where one failed, give the same sbatch again, the whole array: what is done ends at once.
# Ask for a partition and an account as your cluster has them.
#
#SBATCH --job-name=gaxjax
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
# To gaxjax itself, and up to a minute earlier than that:
#SBATCH --signal=USR1@120
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: sbatch $0 MODEL DATA OUTPUT [flags of gaxjax gax]" >&2
  exit 2
fi
model=$1 data=$2 output=$3
shift 3
# Slurm takes the bare SLURM_JOB_ID of one of the tasks for the whole array.
task=${SLURM_ARRAY_JOB_ID:?is not set: give this script to sbatch}_$SLURM_ARRAY_TASK_ID

trap : TERM USR1 # this shell outlives what stops gaxjax, to see how it ended
status=0
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  gaxjax gax --model "$model" --data "$data" --output "$output" --shard auto "$@" || status=$?

# 128 and SIGUSR1 or SIGTERM: it was stopped, and what it had done is committed. Whom Slurm has
# cancelled is no longer RUNNING. Any other status is a fault that would come again.
if [ "$status" = 138 ] || [ "$status" = 143 ]; then
  if [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]; then
    echo "shard $SLURM_ARRAY_TASK_ID was stopped (exit status $status) and is queued again"
    scontrol requeue "$task"
  fi
elif [ "$status" = 0 ]; then
  echo "shard $SLURM_ARRAY_TASK_ID is done. When all are:"
  echo "  gaxjax inspect $output                      # what is missing, and is all of it whole"
  echo "  gaxjax verify $output --num-images 100      # the scores again, in torch"
  echo "  gaxjax report $output --output report.html"
fi
exit "$status"
