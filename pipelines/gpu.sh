#!/usr/bin/env bash
# What takes a GPU: the rates of stage one and of the training step, whether a training repeats, the paper's scale on MSR-Action3D, and many
# seeds of the small one.
#
#     bash pipelines/gpu.sh DATA TEACHER OUT SECONDS build|step|repeat|paper|small ...
#
# DATA is the folder of raw files, TEACHER that of a model as for `--teacher hf=`. Seeds are added while time lasts, and the reports of those
# that are complete lie in OUT/reports; what the clock stops goes on when this is run again. A benchmark writes each row there at once, and
# begins again. DEVICE, JOBS and PROTOCOL can be set; SMALL=1 gives build, step and repeat little work, to try them.
# The exit code is 1 if something failed, 0 if it ended or the clock stopped it.
set -uo pipefail
if (($# < 5)) || [[ ! " ${*:5} " =~ ^(\ (build|step|repeat|paper|small))+\ $ ]]; then
    sed -n '3,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
data=$1 teacher=$2 out=$3 deadline=$((SECONDS + $4)) failed=0
shift 4
mkdir -p "$out/reports" "$out/stores"

build=(--models dinov2-s:126 dinov2-l:126 vjepa2-l:256) step=(--workers 8 --steps 50 --batch 16 32 64) repeat=(--workers 8)
if [[ -n ${SMALL:-} ]]; then
    tiny=(--size tiny --frames 4 --points 64)
    build=(--models tiny --frames 64 --repeats 1) step=("${tiny[@]}" --steps 2 --batch 4) repeat=("${tiny[@]}" --steps 2 --batch 4)
fi

in_time() {
    local left=$((deadline - SECONDS))
    if ((left <= 0)); then return 124; fi
    timeout --kill-after=5 "$left" "$@"
}

# recipe SCALE TABLES SEEDS ...: the tables with ever more seeds; the stores of both scales are the same.
recipe() {
    local scale=$1 tables=$2 seeds
    shift 2
    mkdir -p "$out/$scale"
    if [[ ! -e $out/$scale/stores ]]; then ln -s ../stores "$out/$scale/stores"; fi
    for seeds in "$@"; do
        in_time python3 -m pipelines.msr_action3d --data "$data" --protocol "${PROTOCOL:-development}" --teacher "hf=$teacher" \
            --scale "$scale" --device "${DEVICE:-cuda}" --jobs "${JOBS:-4}" --out "$out/$scale" --tables "$tables" --seeds "$seeds" \
            >"$out/$scale/report.txt" && cp "$out/$scale/report.json" "$out/reports/msr_action3d_$scale.json" || return
        echo "$scale, tables $tables: $seeds seeds after $SECONDS s"
    done
}

for phase in "$@"; do
    case $phase in
        build)
            in_time python3 -m pipelines.benchmarks.build --device "${DEVICE:-cuda}" --data "$data" "${build[@]}" --json "$out/reports/build.json"
            ;;
        step)
            in_time python3 -m pipelines.benchmarks.step --device "${DEVICE:-cuda}" "${step[@]}" --json "$out/reports/step.json"
            ;;
        repeat)
            in_time python3 -m pipelines.benchmarks.repeat --device "${DEVICE:-cuda}" "${repeat[@]}" --json "$out/reports/repeat.json"
            ;;
        paper) recipe paper 1,11 1 2 3 5 ;;
        small) recipe small 1,11 5 10 15 20 ;;
    esac
    code=$?
    case $code in
        0) ;;
        124 | 137) echo "$phase: stopped by the clock" >&2 ;;
        *) echo "$phase: failed with exit code $code" >&2 && failed=1 ;;
    esac
done
exit $failed
