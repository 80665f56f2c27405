// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Tracks the events it is given with @segment/analytics-node 3, and ends once all are answered.
import { Analytics } from '@segment/analytics-node'
import { readInput } from './input.cjs'

const { host, writeKey, events } = readInput()
const analytics = new Analytics({ writeKey, host, flushInterval: 500 })
analytics.on('error', (err) => {
  console.error(err.code, err.reason)
  process.exitCode = 1
})
for (const { event, properties, context } of events) {
  analytics.track({ userId: 'user-1', event, properties, context })
}
await analytics.closeAndFlush()
