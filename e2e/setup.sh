#!/bin/sh
# Copyright The otelcol-segment Authors
# SPDX-License-Identifier: Apache-2.0

# Gets what the tests drive: the npm packages of sdks/package-lock.json, Chromium where apt-get may install it, and
# Prometheus where apt-get has it. What cannot be had is said; the tests that need it then skip with the same reason, or
# fail if CI is set.
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

# have NAME...: one of these programs is there.
have() {
	for name in "$@"; do
		if command -v "$name" >/dev/null; then return 0; fi
	done
	return 1
}

# update: the package lists are there, as far as this user may see to it.
update() {
	command -v apt-get >/dev/null && { [ "$(id -u)" != 0 ] || apt-get update -qq; }
}

if ! have chromium chromium-browser google-chrome; then
	if ! { [ "$(id -u)" = 0 ] && update &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }; then
		echo 'e2e: Chromium is not installed, and could not be: the tests with a browser will not run' >&2
	fi
fi

# Unpacked, not installed: the package would start a service.
if ! have prometheus prometheus/usr/bin/prometheus; then
	if ! { update && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb prometheus; }; then
		echo 'e2e: Prometheus is not installed, and could not be had: the tests with it will not run' >&2
	fi
	rm -f prometheus_*.deb
fi
