#!/usr/bin/env bash
# Switches off one rule at a time and says which tests notice. Prints a line for each safeguard:
#   safeguard | number of failing tests | one of them
# A rule that no test notices is one that only exhaustive exploration can show; docs/SAFEGUARDS.md lists those.
# Usage: tests/flip_every_rule.sh [SAFEGUARD...]    (all of them take about a quarter of an hour on two cores)
set -u
cd "$(dirname "$0")/.."
suites="--test paper_s4_1 --test paper_s4_2 --test paper_s4_2_order --test paper_s4_2_batches --test paper_s4_3 --test paper_s4_3_transfer --test paper_s4_4
        --test paper_s4_4_new_view --test bad_input --test certificates --test store"
cargo test -q $suites --test simulation --no-run || exit 2
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    mapfile -t names < <(cargo run -q -- check --list-rules | cut -d' ' -f1)
fi
for name in "${names[@]}"; do
    log=$(PBFT_WITHOUT=$name cargo test -q --no-fail-fast $suites 2>&1)
    if ! grep -q '^test result: FAILED' <<<"$log"; then
        log=$(PBFT_WITHOUT=$name timeout 600 cargo test -q --no-fail-fast --test simulation 2>&1)
    fi
    failing=$(grep -oE '^    [a-z0-9_:]+$' <<<"$log" | sort -u)
    echo "$name | $(grep -c . <<<"$failing") | $(head -1 <<<"$failing" | tr -d ' ')"
done
