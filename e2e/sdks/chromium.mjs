// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

import { chromium } from 'playwright-core'

// launch starts a Chromium that is a test's own and asks nobody.
export const launch = (executablePath) => chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
})
