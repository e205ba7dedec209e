// Opens a drawn run from disk in headless Chromium, clicks, filters, and says what a person would then see, as one JSON
// object. Arguments: the page, the index of a record to click; "ack": the first acknowledgement after half of the run.
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
    const drawn = () => tab.evaluate(() => ({ rows: window.timeline.names(), dots: window.timeline.count() }));
    const first = await seen();
    await tab.click("#whole");
    const whole = await drawn();
    const at = record !== "ack" ? Number(record) : await tab.evaluate(() => {
      const { lines } = window.timeline, half = lines[lines.length - 1].t / 2;
      return lines.findIndex((line) => line.k === "ack" && line.code === 0 && line.t > half);
    });
    // A crowded picture is zoomed into before anybody can click one event.
    const spot = await tab.evaluate((at) => {
      const { view, lines, locate, drawNow } = window.timeline;
      if (lines.length > 4000) { view.from = lines[at].t - 2e5; view.to = lines[at].t + 2e5; drawNow(); }
      return locate(at);
    }, at);
    const canvas = await tab.locator("#picture").boundingBox();
    await tab.mouse.click(canvas.x + spot.x, canvas.y + spot.y);
    const clicked = await seen();
    await tab.check("#past");
    await tab.locator("#causes li").first().click();
    const followed = await seen();
    await tab.uncheck("#past");
    await tab.click("#whole");
    const filters = {};
    for (const id of ["client", "room"]) {
      filters[id] = { value: await tab.evaluate((id) => document.getElementById(id).options[1].value, id) };
      await tab.selectOption(`#${id}`, filters[id].value);
      Object.assign(filters[id], await drawn());
      await tab.selectOption(`#${id}`, "");
    }
    const again = await drawn();
    const facts = await tab.evaluate(() => {
      const { lines, faults } = window.timeline;
      return { records: lines.length, end_us: lines[lines.length - 1].t, faults };
    });
    console.log(JSON.stringify({ errors, asked, first, whole, clicked, followed, filters, again, facts }));
  } finally {
    await browser.close();
  }
}
main(process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1); });
