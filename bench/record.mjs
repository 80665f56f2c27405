// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Records what the load is made of: one batch of 100 events as @segment/analytics-node sends it, some 690 bytes an event, over
// 10 names and 10 sources, into testdata/batch.http. It needs the SDK that e2e/setup.sh installs: node bench/record.mjs

import { createRequire } from 'node:module'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'

const { Analytics } = createRequire(new URL('../e2e/sdks/package.json', import.meta.url))('@segment/analytics-node')

const names = ['Signed Up', 'Order Completed', 'Product Viewed', 'Product Added', 'Checkout Started',
  'Payment Info Entered', 'Coupon Applied', 'Email Opened', 'Invitation Sent', 'invoice.paid']
const paths = ['/pricing', '/products/dashboards', '/blog/2026/05/a-year-of-metrics', '/account/settings/billing']

const server = createServer((req, res) => {
  const parts = []
  req.on('data', (part) => parts.push(part))
  req.on('end', () => {
    const head = Object.entries(req.headers).filter(([name]) => name !== 'host').map(([name, value]) => `${name}: ${value}\r\n`)
    const start = `${req.method} ${req.url} HTTP/1.1\r\nhost: example.com\r\n${head.join('')}\r\n`
    writeFileSync(new URL('testdata/batch.http', import.meta.url), Buffer.concat([Buffer.from(start), ...parts]))
    res.setHeader('content-type', 'application/json')
    res.end('{"success":true}')
  })
})
server.listen(0, '127.0.0.1', async () => {
  const analytics = new Analytics({ writeKey: 'bench-write-key', host: `http://127.0.0.1:${server.address().port}`, maxEventsInBatch: 100 })
  for (let i = 0; i < 100; i++) {
    analytics.track({
      userId: `5f7a1c2e9b${1000 + i * 37}`,
      event: names[(i * 7) % 10],
      properties: {
        ...(i % 3 ? { value: i % 4 ? i * 1.5 : i } : {}),
        currency: 'EUR',
        plan: i % 2 ? 'Enterprise' : 'Team',
        path: paths[i % 4],
        referrer: 'https://www.example.org/search?q=event+metrics',
        coupon: i % 5 ? null : 'SPRING "26"',
        products: [{ sku: `G-${i}`, name: 'Monopoly: 3rd Edition', price: 19, quantity: 1 }, { sku: 'F-32', name: 'UNO', price: 4.5, quantity: 2 }],
      },
      context: { Librato: { source: `web-${Math.floor(i / 10)}.example.com` }, ip: '203.0.113.7' },
    })
  }
  await analytics.closeAndFlush()
  server.close()
})
