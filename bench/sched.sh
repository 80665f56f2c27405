#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Shows who waits for a processor while the bench sends at a rate: records the kernel's scheduling for three seconds in the
# steady state, and counts how often threads that could run did not, and how long others ran meanwhile. Needs perf and root.
#   sh sched.sh -load 100 -load-rate 4500 [-load-storage | -load-bare]
set -eu
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/bench" .
"$dir/bench" "$@" -load-time 10s 2>"$dir/log" &
bench=$!
until grep -q '^load:' "$dir/log"; do # the set of ids is full
	kill -0 $bench 2>/dev/null || { cat "$dir/log"; exit 1; }
	sleep 0.2
done
sleep 2
perf sched record -a -o "$dir/data" -- sleep 3 >/dev/null 2>&1
wait $bench
perf sched timehist -i "$dir/data" 2>/dev/null | awk '
	$2 ~ /^\[[0-9]+\]$/ && NF >= 6 {
		name = $3
		sub(/\[.*/, "", name)
		delay = $(NF - 1); run = $NF
		n[name]++; ran[name] += run
		if (delay > 0.5) half[name]++
		if (delay > 1) one[name]++
		if (delay > 2) two[name]++
		if (delay > most[name]) most[name] = delay
		if (run > 1) runs[name]++
	}
	END {
		printf "%-18s %9s %9s   %s\n", "", "scheduled", "ran, ms", "waited for a processor longer than 0.5 ms, 1 ms, 2 ms; longest, ms; ran longer than 1 ms at a stretch"
		for (name in n) if (ran[name] > 20 && name != "<idle>")
			printf "%-18s %9d %9.0f   %5d %5d %5d %7.1f %5d\n", name, n[name], ran[name], half[name], one[name], two[name], most[name], runs[name]
	}'
