// Uses the page as a person would, in Chromium, from a file: `node page.cjs PAGE CHROMIUM [SCREENSHOTS]`. Needs playwright-core and axe-core.
'use strict';
const { execFileSync } = require('node:child_process');
const assert = require('node:assert/strict');
const { pathToFileURL } = require('node:url');
const { chromium } = require('playwright-core');
const { source: axe } = require('axe-core');

const [page, channel, screenshots] = process.argv.slice(2);
const executablePath = execFileSync('which', [channel]).toString().trim();
const PAINT_MS_MAX = 1000;

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const tab = await context.newPage();
  const outside = [], errors = [];
  tab.on('request', (request) => /^(file|data|blob):/.test(request.url()) || outside.push(request.url()));
  tab.on('pageerror', (error) => errors.push(String(error)));
  await tab.goto(pathToFileURL(page).href);
  const text = (selector) => tab.textContent(selector);
  const says = (selector, wanted) => tab.waitForFunction(
    ([selector, wanted]) => document.querySelector(selector).textContent.includes(wanted), [selector, wanted], { timeout: 20000 });

  // The example is played at once: what it costs, which limit refuses, when it is back.
  await says('#verdict', 'tenant-tpm');
  assert.match(await text('#verdict'), /may come again after \d+ s/);
  assert.match(await text('#texts'), /messages\[1\]: \d+ tokens/);
  assert.ok(await tab.locator('#texts span').count() > 15);
  assert.ok(await tab.locator('#chart path').count() === 1);
  const painted = await tab.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
  assert.ok(painted <= PAINT_MS_MAX, `first paint after ${painted} ms`);
  const ready = await tab.evaluate(() => performance.now());
  if (screenshots) await tab.screenshot({ path: `${screenshots}/playground.png` });

  // A weight is dragged, by the keyboard.
  await says('#shares', 'canary:');
  await tab.focus('#weight-canary');
  await tab.keyboard.press('End');
  await tab.focus('#weight-stable');
  await tab.keyboard.press('Home');
  await says('#shares', 'canary: 1000 of 1000');

  // Replicas by signal, of the example and of a trace that is chosen.
  await says('#signals', 'pending-tokens');
  assert.equal(await tab.locator('#replicas path').count(), 4);
  const csv = ['TIMESTAMP,ContextTokens,GeneratedTokens', ...Array.from({ length: 300 }, (_, i) => `2023-11-16 18:${String(10 + Math.floor(i / 60)).padStart(2, '0')}:${String(i % 60).padStart(2, '0')}.0000000,1000,100`)];
  await tab.setInputFiles('#trace', { name: 'trace.csv', mimeType: 'text/csv', buffer: Buffer.from(csv.join('\n')) });
  await says('#scaling', '300 requests in 299 s');
  await tab.setInputFiles('#trace', { name: 'trace.csv', mimeType: 'text/csv', buffer: Buffer.from('a,b\n1,2') });
  await tab.waitForFunction(() => document.querySelector('#scaling').className === 'bad');

  // A mistake is shown, and leads to its line.
  const config = await tab.inputValue('#config');
  await tab.fill('#config', config.replace('every: 1m', 'every: 1x'));
  await says('#mistakes', 'limits[0].every');
  await tab.click('#mistakes button');
  const selected = await tab.evaluate(() => {
    const field = document.getElementById('config');
    return field.value.slice(field.selectionStart, field.selectionEnd);
  });
  assert.equal(selected.trim(), 'every: 1x');
  await tab.fill('#config', config);

  // The link has the state.
  await tab.fill('#answer', '77');
  await says('#costs', '77 tokens');
  const link = await tab.evaluate(() => location.href);
  const other = await context.newPage();
  await other.goto(link);
  assert.equal(await other.inputValue('#answer'), '77');
  await other.close();

  // A megabyte is counted while the page answers.
  const big = JSON.stringify({ model: 'chat', messages: [{ role: 'user', content: 'what a long story, '.repeat(52500) }] });
  assert.ok(big.length > 997000);
  await tab.fill('#times', '1');
  await tab.evaluate(() => {
    window.longest = 0;
    let before = performance.now();
    (function beat() {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - before);
      before = now;
      setTimeout(beat, 10);
    })();
  });
  await tab.evaluate((big) => {
    const field = document.getElementById('body');
    field.value = big;
    field.dispatchEvent(new Event('input'));
  }, big);
  await says('#texts', 'more pieces are counted');
  const longest = await tab.evaluate(() => window.longest);

  // Narrow, and dark: nothing is wider than the screen, and every field has a name.
  for (const colorScheme of ['light', 'dark']) {
    const narrow = await browser.newPage({ viewport: { width: 375, height: 800 }, colorScheme });
    await narrow.goto(pathToFileURL(page).href);
    await narrow.waitForFunction(() => document.querySelector('#verdict').textContent.includes('tenant-tpm'));
    assert.ok(await narrow.evaluate(() => document.documentElement.scrollWidth) <= 375, 'it scrolls to the side');
    // WCAG 2.2 at AA, as far as a program can tell: names of fields, contrast, order of headings, what the keyboard reaches.
    await narrow.evaluate(axe);
    const { violations } = await narrow.evaluate(() => axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }));
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], colorScheme);
    if (screenshots) await narrow.screenshot({ path: `${screenshots}/playground-${colorScheme}.png` });
    await narrow.close();
  }
  assert.deepEqual(outside, []);
  assert.deepEqual(errors, []);
  assert.ok(longest < 500, `the page stood still for ${longest} ms`);
  console.log(`first paint after ${Math.round(painted)} ms, answer by ${Math.round(ready)} ms, longest stop ${Math.round(longest)} ms`);
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
