// Copyright The otelcol-segment Authors
// SPDX-License-Identifier: Apache-2.0

// Uses the page of librato-local at host as people do: with the mouse, with the keyboard alone, on a phone, in the dark.
// axe looks at what is shown each time.
import { AxeBuilder } from '@axe-core/playwright'
import assert from 'node:assert/strict'
import { launch } from './chromium.mjs'
import { readInput } from './input.cjs'

const { host, executablePath } = readInput()
const browser = await launch(executablePath)
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
const page = await context.newPage()
const errors = []
page.on('pageerror', (err) => errors.push(err))
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))

const minute = Math.floor(Date.now() / 60_000) * 60
const attributes = { aggregate: true, summarize_function: 'sum', display_stacked: true }
async function post (...gauges) {
  const response = await fetch(`${host}/v1/metrics`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: 'Basic YTpi' },
    body: JSON.stringify({ gauges: gauges.map((g) => ({ period: 60, attributes, ...g })) }),
  })
  assert.equal(response.status, 200)
}

// The page asks every few seconds; refresh() is how it does.
const refresh = () => page.evaluate('refresh()')
const chosen = () => page.locator('#metrics a[aria-current]').evaluate((a) => a.firstChild.textContent)
const period = () => page.locator('#chart').getAttribute('aria-valuetext')
const hasFocus = (selector) => page.locator(selector).first().evaluate((e) => e === document.activeElement)

async function accessible (what) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    const { violations } = await new AxeBuilder({ page }).analyze()
    assert.deepEqual(violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html}: ${n.failureSummary}`)), [], `${what}, ${colorScheme}`)
  }
  await page.emulateMedia({ colorScheme: 'light' })
}

try {
  await page.goto(host)
  await page.locator('#empty').waitFor()
  assert.match(await page.locator('#empty pre').first().textContent(), /^curl .*\/v1\/track/)
  await accessible('empty')

  // Two sources in the minute before this one; the graph comes by itself.
  await post({ name: 'Signed-Up', source: 'web-1', value: 2, measure_time: minute - 60 }, { name: 'Signed-Up', source: 'web-2', value: 3, measure_time: minute - 60 })
  await page.locator('#graph').waitFor()
  assert.equal(await page.locator('#empty').isVisible(), false)
  assert.match(await period(), /web-1 2, web-2 3, total 5$/)
  await accessible('graph')

  // A bar is as high at its right as at its left, and the period after it is empty.
  const painted = await page.evaluate((at) => {
    const color = (seconds, value) => [...plot.ctx.getImageData(plot.valToPos(at + seconds, 'x', true), plot.valToPos(value, 'y', true), 1, 1).data].join()
    return { left: color(10, 1), right: color(50, 1), above: [color(10, 4.9), color(50, 4.9)], over: color(50, 5.2), before: color(-30, 1) }
  }, minute - 60)
  assert.equal(painted.left, painted.right)
  assert.equal(painted.above[0], painted.above[1])
  assert.notEqual(painted.left, painted.above[0], 'two sources have two colours')
  assert.notEqual(painted.above[1], painted.over)
  assert.notEqual(painted.before, painted.left)

  // What was chosen stays, though another metric is newer; what is open stays, though ten posts are newer.
  const opened = page.locator('#posts details').first()
  const json = await opened.locator('pre').last().textContent()
  assert.equal(await opened.evaluate((d) => d.open), true, 'the first post is open')
  for (let i = 0; i < 12; i++) await post({ name: 'Later', source: `s-${i}`, value: 1 })
  await refresh()
  assert.equal(await chosen(), 'Signed-Up')
  const open = page.locator('#posts details[open]')
  assert.equal(await open.count(), 1)
  assert.equal(await open.locator('pre').last().textContent(), json)

  // With the keyboard: another metric, another time, another period. What has the focus keeps it when the page asks again.
  await page.locator('#filter').focus()
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await page.locator('#name', { hasText: 'Later' }).waitFor()
  await refresh()
  assert.equal(await hasFocus('#metrics a'), true)
  assert.match(await page.locator('#about').textContent(), /8 largest of 12 sources/)
  assert.match(await period(), /4 smaller sources 4, total 12$/)
  await page.locator('#source').fill('S-11')
  await page.locator('#chart[aria-valuetext$=": s-11 1"]').waitFor()
  await page.locator('#minutes').selectOption('5')
  assert.match(page.url(), /\?minutes=5#Later$/)
  await page.reload()
  await page.locator('#graph').waitFor()
  assert.equal(await page.locator('#minutes').inputValue(), '5')
  assert.equal(await chosen(), 'Later')
  await page.locator('#chart').focus()
  await page.keyboard.press('End')
  assert.match(await period(), /still running/)
  const running = await period()
  await page.keyboard.press('ArrowLeft')
  assert.notEqual(await period(), running)
  await page.keyboard.press('Escape')
  await accessible('many sources')

  // On a phone the graph comes first and nothing is cut off.
  await page.setViewportSize({ width: 390, height: 844 })
  await refresh()
  const [graph, list] = await Promise.all(['#chart canvas', '#list'].map((s) => page.locator(s).boundingBox()))
  assert.ok(graph.y + graph.height < 844 && graph.y + graph.height < list.y, 'the graph stands above the list')
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390)
  await accessible('phone')
  assert.deepEqual(errors, [])
} finally {
  await browser.close()
}
