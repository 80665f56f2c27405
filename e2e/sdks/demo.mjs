// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Is four web servers until it is stopped: each tracks what its visitors do, as busy as a random walk with a fixed seed says.
import { Analytics } from '@segment/analytics-node'

const [host] = process.argv.slice(2)
let seed = 4
// Numerical Recipes' generator; the same stream each time.
const random = () => (seed = (seed * 1664525 + 1013904223) % 2 ** 32) / 2 ** 32

const servers = ['web-server-10', 'web-server-11', 'web-server-12', 'web-server-13'].map((source) => {
  const analytics = new Analytics({ host, writeKey: 'demo', flushInterval: 1000 })
  analytics.on('error', (err) => console.error(`demo: ${source}: ${err.code}: ${err.reason}`))
  const track = (event, properties) =>
    analytics.track({ anonymousId: `visitor-${Math.floor(random() * 1000)}`, event, properties, context: { Librato: { source } } })
  return { analytics, track, visits: 1 + random() }
})

const timer = setInterval(() => {
  for (const server of servers) {
    server.visits = Math.min(3, Math.max(0.2, server.visits + (random() - 0.5) / 2))
    for (let n = Math.floor(server.visits + random()); n > 0; n--) {
      server.track('Page Viewed')
      if (random() < 0.1) server.track('Signed Up')
      if (random() < 0.05) server.track('Order Completed', { value: Math.round(500 + random() * 9500) / 100 })
    }
  }
}, 1000)

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    clearInterval(timer)
    await Promise.all(servers.map(({ analytics }) => analytics.closeAndFlush({ timeout: 5000 })))
  })
}
