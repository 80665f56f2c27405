// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Tracks the events it is given with analytics-node 6, and ends once all are answered.
const Analytics = require('analytics-node')
const { readInput } = require('./input.cjs')

const { host, writeKey, events } = readInput()
const analytics = new Analytics(writeKey, { host, flushInterval: 500 })
// The first event goes alone, at once, and each event has its own callback.
const answered = events.map(({ event, properties, context }) => new Promise((resolve, reject) => {
  analytics.track({ userId: 'user-1', event, properties, context }, (err) => (err ? reject(err) : resolve()))
}))
Promise.all(answered).catch((err) => {
  console.error(err)
  process.exitCode = 1
})
