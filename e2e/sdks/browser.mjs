// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Tracks the events it is given with analytics.js in a headless Chromium, from a page of another origin than host.
// mode is standard (a request an event), batching, or unload (batching, and the page is left before the batch is due).
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { launch } from './chromium.mjs'
import { readInput } from './input.cjs'

const { host, writeKey, events, mode, executablePath } = readInput()
const bundles = join(dirname(createRequire(import.meta.url).resolve('@segment/analytics-next/package.json')), 'dist/umd')

// The page's own server: analytics.js, and an empty page to go to.
const server = createServer(async (req, res) => {
  if (req.url === '/analytics.js') {
    res.writeHead(200, { 'Content-Type': 'text/javascript' }).end(await readFile(join(bundles, 'index.js')))
    return
  }
  const script = req.url === '/' ? '<script src="/analytics.js"></script>' : ''
  res.writeHead(200, { 'Content-Type': 'text/html' }).end(`<!doctype html><title>page</title>${script}`)
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const origin = `http://localhost:${server.address().port}`

const browser = await launch(executablePath)
try {
  const page = await browser.newPage()
  page.on('console', (message) => console.error('page:', message.text()))
  page.on('pageerror', (err) => console.error('page:', err))
  await page.goto(`${origin}/`)
  await page.evaluate(async ({ host, writeKey, events, mode }) => {
    const deliveryStrategy = {
      standard: { strategy: 'standard' },
      batching: { strategy: 'batching', config: { size: 5, timeout: 200 } },
      unload: { strategy: 'batching', config: { size: 1000, timeout: 600_000 } },
    }[mode]
    const analytics = window.AnalyticsNext.AnalyticsBrowser.load(
      { writeKey, cdnURL: host },
      { integrations: { 'Segment.io': { deliveryStrategy } } },
    )
    await analytics.ready()
    await Promise.all(events.map(({ event, properties, context }) => analytics.track(event, properties, { context })))
  }, { host, writeKey, events, mode })
  if (mode === 'unload') {
    await page.goto(`${origin}/elsewhere`)
  }
  // A page cannot tell when a batch was answered, least of all one that it left: the test closes stdin once it saw it arrive.
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.on('end', resolve))
} finally {
  await browser.close()
  server.close()
}
