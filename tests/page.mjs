// Uses the service's pages in a browser. Prints what went wrong, by scenario, as JSON; with a folder it also takes pictures.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const [modules, executablePath, url, wanted, pictures] = process.argv.slice(2);
const installed = createRequire(modules + "/");
const axe = readFileSync(installed.resolve("axe-core/axe.min.js"), "utf8");
// Chromium's own sandbox needs user namespaces, which a container may not have; only this service's pages are opened.
const browser = await installed("playwright-core").chromium.launch({ executablePath, args: ["--no-sandbox"] });
const complaints = new Set();

async function opened(path, { width = 1280, ...options } = {}) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, ...options });
  page.setDefaultTimeout(15_000);
  page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || complaints.add(`asked for ${request.url()}`));
  // A refused record is a status that Chromium notes too.
  page.on("console", (line) => line.type() === "error" && !line.text().includes("status of 422") && complaints.add(line.text()));
  page.on("pageerror", (error) => complaints.add(error.message));
  await page.goto(url + path);
  return page;
}

const value = (page) => page.locator("#said strong").innerText();
const field = (page, label) => page.locator("#record").getByLabel(label);
const focused = (page) => page.evaluate(() => document.activeElement.name);
const predict = async (page) => {
  await page.getByRole("button", { name: "Predict" }).click();
  await page.waitForSelector("#share");
};

async function everywhere(check) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 768, 1280]) {
      const page = await opened("/", { width, colorScheme });
      await predict(page);
      await check(page, "page", width, colorScheme);
      await page.goto(`${url}/docs`);
      await page.getByRole("button", { name: "Send POST /predict" }).click();
      await page.waitForSelector(".try output:not(:empty)");
      await check(page, "docs", width, colorScheme);
      await page.close();
    }
  }
}

const scenarios = {
  "without JavaScript a form is answered": async () => {
    const page = await opened("/", { javaScriptEnabled: false });
    await field(page, "Distance").fill("5");
    await predict(page);
    assert.match(await page.locator("#said").innerText(), /^\d+\.\d+ minutes/);
    assert.ok(await page.locator("#said").evaluate((said) => said === document.activeElement));
    assert.equal(await page.locator("#why tr").count(), 5);
    assert.equal(await field(page, "Distance").inputValue(), "5");
  },
  "without JavaScript a message stands beside its field": async () => {
    const page = await opened("/", { javaScriptEnabled: false });
    await field(page, "Pick-up zone").fill("999");
    await field(page, "Distance").fill("7.25");
    await page.getByRole("button", { name: "Predict" }).click();
    assert.match(await page.locator("#PULocationID-error").innerText(), /less than or equal to 265/);
    assert.equal(await page.locator("#DOLocationID-error").innerText(), "");
    assert.equal(await field(page, "Pick-up zone").getAttribute("aria-invalid"), "true");
    assert.equal(await field(page, "Distance").inputValue(), "7.25");
    assert.equal(await focused(page), "PULocationID");
  },
  "with JavaScript the page stays where it is": async () => {
    const page = await opened("/");
    await page.evaluate(() => (window.same = true));
    await field(page, "Pick-up zone").fill("0");
    await page.getByRole("button", { name: "Predict" }).click();
    await page.waitForSelector("#PULocationID-error:not(:empty)");
    assert.equal(await focused(page), "PULocationID");
    assert.match(await page.getByRole("status").innerText(), /Nothing was predicted/);
    await field(page, "Pick-up zone").fill("74");
    await predict(page);
    assert.equal(await page.locator("#PULocationID-error").innerText(), "");
    assert.match(await page.getByRole("status").innerText(), /minutes/);
    assert.ok(await page.evaluate(() => window.same));
  },
  "the keyboard is enough, and shows where it is": async () => {
    const page = await opened("/");
    for (let steps = 0; (await focused(page)) !== "trip_distance"; steps++) {
      assert.ok(steps < 20);
      await page.keyboard.press("Tab");
      assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "none");
    }
    await page.keyboard.type("9.5");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#share");
    assert.ok(Number(await value(page)) > 10);
  },
  "a link shares a filled-in form": async () => {
    const page = await opened("/");
    await field(page, "Distance").fill("4.75");
    await field(page, "Pick-up time").fill("");
    await predict(page);
    const link = new URL(await page.locator("#share").getAttribute("href"), url);
    for (const javaScriptEnabled of [true, false]) {
      const other = await opened(link.pathname + link.search, { javaScriptEnabled });
      assert.equal(await field(other, "Distance").inputValue(), "4.75");
      assert.equal(await field(other, "Pick-up time").inputValue(), "");
      assert.equal(await other.locator("#said strong").count(), 0);
    }
  },
  "an example is predicted at a click": async () => {
    const page = await opened("/");
    await predict(page);
    const before = await value(page);
    await page.locator("#examples a").nth(1).click();
    await page.waitForFunction((was) => document.querySelector("#said strong").innerText !== was, before);
    const plain = await opened("/", { javaScriptEnabled: false });
    await plain.locator("#examples a").nth(1).click();
    assert.equal(await field(plain, "Pick-up time").inputValue(), await field(page, "Pick-up time").inputValue());
  },
  "a request can be tried out": async () => {
    const page = await opened("/docs");
    const [send, output] = [page.getByRole("button", { name: "Send POST /predict" }), page.locator(".try output").first()];
    await page.getByLabel("explain=true").check();
    await send.click();
    await page.waitForSelector(".try output:not(:empty)");
    assert.match(await output.innerText(), /^200 [^]*"contributions"/);
    await page.getByLabel("Body").fill('{"PULocationID": 0}');
    await send.click();
    await page.waitForFunction(() => document.querySelector(".try output").innerText.startsWith("422"));
    await page.getByRole("button", { name: "Send GET /version" }).click();
    await page.waitForFunction(() => [...document.querySelectorAll(".try output")].at(-1).innerText.includes("run_id"));
  },
  "axe-core finds nothing and nothing is wider than the window": async () => {
    const found = [];
    await everywhere(async (page, name, width, colorScheme) => {
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) found.push(`${name} at ${width}: ${wide} pixels too wide`);
      const heights = await page.$$eval("#record input, #record select", (all) => [...new Set(all.map((each) => each.offsetHeight))]);
      if (heights.length > 1) found.push(`${name} at ${width}: fields of ${heights} pixels`);
      const shade = await page.evaluate(() => Number(getComputedStyle(document.documentElement).backgroundColor.match(/\d+/)[0]));
      if (shade > 127 !== (colorScheme === "light")) found.push(`${name}: not ${colorScheme}`);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run());
      found.push(...violations.map((each) => `${name} at ${width}, ${colorScheme}: ${each.id}: ${each.nodes[0].html}`));
      await page.evaluate(() => scrollTo(0, 0));
      if (pictures) await page.screenshot({ path: `${pictures}/${name}-${width}-${colorScheme}.png`, fullPage: true });
    });
    assert.deepEqual(found, []);
  },
};

const wrong = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  if (!name.includes(wanted)) continue;
  try {
    await scenario();
  } catch (error) {
    wrong[name] = error.message;
  }
}
await browser.close();
if (complaints.size) wrong["no request leaves the service and nothing is complained of"] = [...complaints];
console.log(JSON.stringify(wrong));
