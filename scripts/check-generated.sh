#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Fails, naming the files, if `make generate` changes anything. Uncommitted work is compared as it stands.
set -eu

before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT

state() {
	git ls-files --cached --others --exclude-standard | while IFS= read -r file; do
		if [ -f "$file" ]; then git hash-object --no-filters -- "$file" | tr '\n' ' '; fi
		echo "$file"
	done
}

state >"$before"
make generate
state >"$after"
if ! diff "$before" "$after"; then
	echo 'check-generated: `make generate` changed the files above: commit what it wrote' >&2
	exit 1
fi
