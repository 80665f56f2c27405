#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Installs what the SDK tests drive: the npm packages of sdks/package-lock.json, and Chromium where apt-get may install it.
# What cannot be had is said; the tests that need it then skip with the same reason, or fail if CI is set.
set -eu
cd "$(dirname "$0")"

if ! command -v npm >/dev/null; then
	echo 'e2e: npm is not installed: the tests with the JavaScript SDKs will not run' >&2
elif [ ! -f sdks/node_modules/.package-lock.json ] || [ sdks/package-lock.json -nt sdks/node_modules/.package-lock.json ]; then
	if (cd sdks && npm ci --ignore-scripts --no-progress); then
		touch sdks/node_modules/.package-lock.json
	else
		echo 'e2e: npm ci failed: the tests with the JavaScript SDKs will not run' >&2
	fi
fi

for name in chromium chromium-browser google-chrome; do
	if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq &&
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; then
	exit 0
fi
echo 'e2e: Chromium is not installed, and could not be: the tests with a browser will not run' >&2
