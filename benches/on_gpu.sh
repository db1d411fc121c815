#!/bin/sh
# What this program does on this GPU, in at most eight minutes: every kernel against stored double-precision values, the
# GPU's log-probabilities against the CPU's, tokens a second, seconds of a GRPO step by phase, largest memory against the plan.
#
#   cargo build --release && sh benches/on_gpu.sh                          # a small model made on the spot
#   sh benches/on_gpu.sh --model ~/models/Qwen2-VL-2B-Instruct             # LoRA on a real one
#   sh benches/on_gpu.sh --device vulkan --tiny                            # does the script itself work
#
# Writes on_gpu/on_gpu.json and on_gpu/on_gpu.md (a table of one row per run). Needs the built program, a POSIX shell,
# awk and sed; no network.
set -u

device=gpu model= out=on_gpu tiny= program=${PROGRAM:-target/release/vision-ekipl} budget=460
while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2; shift ;;
    --model) model=$2; shift ;;
    --out) out=$2; shift ;;
    --program) program=$2; shift ;;
    --tiny) tiny=yes ;;
    *) echo "on_gpu.sh: unknown argument $1 (--device --model --out --program --tiny)" >&2; exit 2 ;;
    esac
    shift
done
[ -x "$program" ] || { echo "on_gpu.sh: $program is not there; hint: cargo build --release, or --program FILE" >&2; exit 2; }

started=$(date +%s)
mkdir -p "$out" || exit 2
log=$out/log.txt
: >"$log"
rows=$out/rows.part
: >"$rows"

say() { echo "[$(($(date +%s) - started)) s] $*"; }
left() { echo $((budget - $(date +%s) + started)); }

# Runs a command with what is left of the time; its output goes to the log.
limited() {
    [ "$(left)" -gt 5 ] || { say "no time left for: $*"; return 1; }
    "$@" >>"$log" 2>&1 &
    pid=$!
    (sleep "$(left)"; kill "$pid") >/dev/null 2>&1 &
    dog=$!
    wait "$pid"
    status=$?
    kill "$dog" 2>/dev/null
    return $status
}

# The last value of a key in a JSON or JSON-lines file; null without one.
value() {
    found=$(sed -n "s|.*\"$2\": *\(-\{0,1\}[0-9][-+0-9.eE]*\).*|\1|p" "$1" 2>/dev/null | tail -n 1)
    echo "${found:-null}"
}
words() { sed -n "s|.*\"$2\": *\"\(.*\)\",*$|\1|p" "$1" | tail -n 1; }

# 1. The device, and every kernel.
say "kernels"
if "$program" doctor --json --device "$device" >"$out/doctor.json" 2>>"$log"; then kernels=true; else kernels=false; fi
if [ ! -s "$out/doctor.json" ]; then
    cat "$log" >&2
    exit 1
fi
name=$(words "$out/doctor.json" description)
version=$(words "$out/doctor.json" version)
tests=$(grep -c '"kernel":' "$out/doctor.json")

# 2. Rows and a model.
say "data"
size=112
[ -z "$tiny" ] || size=56
limited "$program" data counting --split train --count 64 --seed 7 --out "$out/data" --size $size
data=$out/data/counting-train.json
picture=$(ls "$out"/data/*/* 2>/dev/null | head -n 1)
[ -n "$picture" ] || picture=$(ls "$out"/data/* | grep -i png | head -n 1)
if [ -z "$model" ]; then
    say "model"
    model=$out/model
    if [ -n "$tiny" ]; then
        shape="--hidden 48 --layers 2 --vision-width 16 --vision-depth 1"
    else
        shape="--hidden 768 --layers 12 --vision-width 320 --vision-depth 8"
    fi
    # shellcheck disable=SC2086 # words
    limited "$program" init --rows "$data" --task_name clevr-math --out "$model" --overwrite $shape || {
        tail -n 5 "$log" >&2
        exit 1
    }
    made=yes
else
    made=
fi

# 3. The same log-probabilities as on the CPU.
say "log-probabilities against the CPU"
picture=$(cd "$(dirname "$picture")" && pwd)/$(basename "$picture")
{
    echo "{\"id\": \"a\", \"image\": \"$picture\", \"problem\": \"How many objects are there?\", \"completion\": \"<think>I see three and one.</think><answer>4</answer>\"}"
    echo '{"id": "b", "problem": "What is 12 times 7?", "completion": "<answer>84</answer>"}'
} >"$out/score.jsonl"
difference=null
for one in "$device" cpu; do
    limited "$program" score --model "$model" --input "$out/score.jsonl" --output "$out/score-$one.jsonl" --overwrite --device "$one"
done
logprobs() { sed -n 's|.*"logprobs": *\[\([^]]*\)\].*|\1|p' "$1" | tr ',' '\n'; }
if [ -s "$out/score-$device.jsonl" ] && [ -s "$out/score-cpu.jsonl" ]; then
    logprobs "$out/score-$device.jsonl" >"$out/a.part"
    logprobs "$out/score-cpu.jsonl" >"$out/b.part"
    difference=$(paste "$out/a.part" "$out/b.part" | awk '{d = $1 - $2; if (d < 0) d = -d; if (d > m) m = d} END {printf "%.3g", m}')
fi

# 4. GRPO steps. Arguments: a name, then keys.
grpo() {
    run=$1
    shift
    say "GRPO, $run"
    tokens=128 completions=8 steps=4
    [ -z "$tiny" ] || { tokens=8; completions=4; steps=2; }
    cat >"$out/$run.yaml" <<END
model_name_or_path: $model
dataset_name: $data
task_name: clevr-math
num_generations: $completions
per_device_train_batch_size: $completions
max_completion_length: $tokens
beta: 0.04
learning_rate: 1.0e-5
max_steps: $steps
logging_steps: 1
save_strategy: "no"
output_dir: $out/runs/$run
overwrite_output_dir: true
device: "$device"
END
    for key in "$@"; do echo "$key" >>"$out/$run.yaml"; done
    "$program" plan "$out/$run.yaml" --json >"$out/$run-plan.json" 2>>"$log"
    limited "$program" train "$out/$run.yaml" || say "GRPO, $run: it did not end by itself; see $log"
    metrics=$out/runs/$run/metrics.jsonl
    [ -s "$metrics" ] || return
    # The row of the last step: the summary behind it has no phases.
    grep '"timing_s/gen"' "$metrics" | tail -n 1 >"$out/last.part"
    of() { value "$out/last.part" "$1"; }
    gen=$(of timing_s/gen)
    mean=$(of completions/mean_length)
    speed=$(awk -v n="$completions" -v l="$mean" -v s="$gen" 'BEGIN {if (s > 0) printf "%.1f", n * l / s; else print "null"}')
    planned=$(sed -n '/"peak"/,/}/s|.*"bytes": *\([0-9]*\).*|\1|p' "$out/$run-plan.json" | head -n 1)
    planned=$(awk -v b="${planned:-0}" 'BEGIN {if (b > 0) printf "%.3f", b / 1073741824; else print "null"}')
    [ ! -s "$rows" ] || echo "," >>"$rows"
    cat >>"$rows" <<END
{"run": "$run", "decode_tokens_per_s": $speed, "completion_tokens": $mean,
 "seconds": {"step": $(of timing_s/step), "sampling": $gen, "reference": $(of timing_s/ref), "update": $(of timing_s/update_actor)},
 "peak_gib": $(of perf/max_memory_allocated_gb), "reserved_gib": $(of perf/max_memory_reserved_gb), "planned_gib": $planned,
 "decoding_against_training": $(of sampling/sampling_logp_difference/max)}
END
    short() { awk -v v="$(of "$1")" 'BEGIN {if (v == "null") print "-"; else printf "%.3g", v}'; }
    echo "| $name | $run | $kernels ($tests) | $difference | $speed | $(short timing_s/step) | $(short timing_s/gen) | $(short timing_s/ref) | $(short timing_s/update_actor) | $(short perf/max_memory_allocated_gb) | $(short perf/max_memory_reserved_gb) | $planned |" >>"$out/table.part"
}
rm -f "$out/table.part"
lora="lora_target_modules: all-linear"
[ -z "$made" ] || grpo full-f32
grpo lora-as-file "use_peft: true" "$lora" "freeze_vision_modules: true"
grpo lora-4bit "use_peft: true" "$lora" "freeze_vision_modules: true" "load_in_4bit: true"

# 5. One JSON, one table.
{
    echo "{\"device\": \"$name\", \"version\": \"$version\", \"system\": \"$(uname -sm)\", \"model\": \"${made:+made here: }$(basename "$model")\","
    echo " \"kernels_right\": $kernels, \"kernels\": $tests, \"logprobs_against_cpu\": $difference, \"seconds\": $(($(date +%s) - started)), \"runs\": ["
    cat "$rows"
    echo "]}"
} >"$out/on_gpu.json"
{
    echo "| device | run | kernels right | logprobs against CPU | tokens/s | step s | sampling s | reference s | update s | peak GiB | reserved GiB | planned GiB |"
    echo "|---|---|---|---|---|---|---|---|---|---|---|---|"
    cat "$out/table.part" 2>/dev/null
} >"$out/on_gpu.md"
rm -f "$out"/*.part
say "done: $out/on_gpu.json and $out/on_gpu.md"
cat "$out/on_gpu.md"
[ "$kernels" = true ]
