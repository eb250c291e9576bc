#!/usr/bin/env bash
# The paper's X-ray experiment, from Kaggle's folder to a report; docs/paper.md says what is what.
#
#   examples/xray.sh CHEST_XRAY OUTPUT [more flags of gaxjax finetune]
#
# CHEST_XRAY is Kaggle's folder as it is: train/, val/ and test/, each of NORMAL/ and PNEUMONIA/.
# The same command goes on where it was cut off. Settings by the environment:
#
#   WEIGHTS  what the backbone starts from: a checkpoint, or torchvision's resnet34 (the default,
#            which is downloaded and needs the torch extra); empty for random weights
#   SIZE     height and width of the images, 256 unless told
#
# The whole of it wants a GPU. To see on a CPU that all of it runs:
#
#   WEIGHTS= SIZE=64 examples/xray.sh CHEST_XRAY OUTPUT \
#       --min-iterations 20 --max-iterations 40 --validate-every 20
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: $0 CHEST_XRAY OUTPUT [flags of gaxjax finetune]" >&2
  exit 2
fi
data=$1 output=$2
shift 2
weights=${WEIGHTS-resnet34} size=${SIZE:-256}
mkdir -p "$output"

train() { # NAME VALIDATION_ACCURACY [flags]
  gaxjax finetune --data "$data" ${weights:+--weights "$weights"} --size "$size" \
    --output "$output/$1" --validation-accuracy "$2" "${@:3}"
}
train r34_1 0.99 "$@"
train r34_sub 0.8 "$@"

for model in r34_1 r34_sub; do
  gaxjax ax --model "$output/$model/model.ckpt" --data "$data" --split test --size "$size" \
    --output "$output/ax_$model"
  gaxjax statistics "$output/ax_$model"
done

gaxjax gax --model "$output/r34_1/model.ckpt" --data "$data" --split test --size "$size" \
  --classes NORMAL --first-correct 100 --bias --output "$output/gax_normal"

gaxjax report "$output"/ax_r34_1 "$output"/ax_r34_sub "$output"/gax_normal \
  --output "$output/report.html"
