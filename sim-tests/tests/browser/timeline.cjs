// Opens a drawn run from disk in headless Chromium, clicks, and says what a person would then see, as one JSON object.
// Arguments: the page, the index of a record to click.
"use strict";
const { chromium } = require("playwright-core");

async function main([page, record]) {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const tab = await browser.newPage({ viewport: { width: 1400, height: 900 } });
    const errors = [], asked = [];
    tab.on("pageerror", (error) => errors.push(String(error)));
    tab.on("request", (request) => asked.push(request.url()));
    await tab.goto(`file://${page}`);
    const seen = () => tab.evaluate(() => ({
      chosen: document.getElementById("chosen").textContent,
      past: [...document.querySelectorAll("#causes li")].map((item) => Number(item.dataset.n)),
      rooms: document.getElementById("rooms").textContent,
    }));
    const first = await seen();
    await tab.click("#whole");
    const spot = await tab.evaluate((at) => window.timeline.locate(at), Number(record));
    const canvas = await tab.locator("#picture").boundingBox();
    await tab.mouse.click(canvas.x + spot.x, canvas.y + spot.y);
    const clicked = await seen();
    await tab.check("#past");
    await tab.locator("#causes li").first().click();
    const followed = await seen();
    console.log(JSON.stringify({ errors, asked, first, clicked, followed }));
  } finally {
    await browser.close();
  }
}
main(process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1); });
