#!/bin/sh
# Peak memory and time of full-size models on this machine: random weights in the shapes of Qwen2-VL-2B and -7B, replayed
# completions, one optimizer step. Needs GNU time; 2b takes 4.4 GB of disk, 7b 16.6 GB.
#
#   benches/full_size.sh WORK_FOLDER [ROW...]      rows: generate lora-16bit lora-4bit lora-7b teacher full
set -eu
program=${PROGRAM:-target/release/vision-ekipl}
device=${DEVICE:-cpu}
work=$1
shift
rows=${*:-generate lora-16bit lora-4bit lora-7b teacher full}
mkdir -p "$work"

model() { # model SIZE: makes the folder once
    [ -f "$work/$1/config.json" ] || "$program" full-size --size "$1" --tokenizer tests/golden/public/qwen2vl-tiny --out "$work/$1"
}

data() { # data NAME ROWS TOKENS: one question with a picture, and completions to replay
    [ -f "$work/data/counting-train.json" ] || "$program" data counting --split train --count 1 --out "$work/data"
    awk -v rows="$2" -v tokens="$3" 'BEGIN {
        srand(7)
        for (row = 0; row < rows; row++) {
            printf "{\"step\":1,\"id\":\"train-0\",\"source\":\"policy\",\"reward\":%d,\"completion_ids\":[", row % 3
            for (token = 0; token < tokens; token++)
                printf "%s%d", token ? "," : "", 5 + int(rand() * 800)
            print "]}"
        }
    }' >"$work/$1.jsonl"
}

measure() { # measure NAME COMMAND...
    name=$1
    shift
    rm -rf "$work/out-$name"
    started=$(date +%s)
    /usr/bin/time -v "$program" "$@" --device "$device" >"$work/$name.log" 2>&1 || { tail -5 "$work/$name.log"; exit 1; }
    peak=$(awk '/Maximum resident/ {printf "%.2f", $NF * 1024 / 1e9}' "$work/$name.log")
    planned=$(sed -n 's/.*planned peak: \([0-9.]*\) GB.*/\1/p' "$work/$name.log" | tail -1)
    echo "| $name | $peak GB | ${planned:--} | $(($(date +%s) - started)) s |"
}

train() { # train NAME SIZE GROUP TOKENS PIXELS FLAGS...
    name=$1 size=$2 group=$3 tokens=$4 pixels=$5
    shift 5
    model "$size"
    data "$name" "$group" "$tokens"
    measure "$name" train benches/full_size.yaml --model_name_or_path "$work/$size" \
        --dataset_name "$work/data/counting-train.json" --replay_rollouts "$work/$name.jsonl" --output_dir "$work/out-$name" \
        --num_generations "$group" --per_device_train_batch_size "$group" --max_completion_length "$tokens" \
        --min_pixels "$pixels" --max_pixels "$pixels" "$@"
}

echo "| run | peak | planned | time |"
echo "|---|---|---|---|"
for row in $rows; do
    case $row in
    generate)
        model 2b
        data generate 1 1
        picture=$(ls "$work"/data/images/*/*.png "$work"/data/images/*.png 2>/dev/null | head -1)
        measure generate generate --model "$work/2b" --prompt "How many objects are there?" --image "$picture" --max-new-tokens 1
        ;;
    lora-16bit) train "$row" 2b 8 512 480000 ;;
    lora-4bit) train "$row" 2b 8 512 480000 --load_in_4bit true ;;
    lora-7b) train "$row" 7b 4 256 200000 --load_in_4bit true ;;
    teacher)
        model 7b
        model 2b
        data teacher 1 1
        measure teacher train benches/full_size.yaml --model_name_or_path "$work/2b" \
            --dataset_name "$work/data/counting-train.json" --output_dir "$work/out-teacher" --num_generations 4 \
            --per_device_train_batch_size 4 --max_completion_length 16 --min_pixels 200000 --max_pixels 200000 \
            --external "[{name: teacher, model_name_or_path: $work/7b, load_in_4bit: true}]"
        ;;
    full)
        model 2b
        data full 2 128
        measure full train benches/full_size.yaml --model_name_or_path "$work/2b" \
            --dataset_name "$work/data/counting-train.json" --replay_rollouts "$work/full.jsonl" --output_dir "$work/out-full" \
            --num_generations 2 --per_device_train_batch_size 2 --max_completion_length 128 --min_pixels 200000 \
            --max_pixels 200000 --use_peft false --beta 0 --max_grad_norm 0 --gradient_checkpointing true --save_strategy "no"
        ;;
    *)
        echo "unknown row: $row" >&2
        exit 2
        ;;
    esac
done
