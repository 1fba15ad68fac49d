// Photographs a page: opens it, clicks, waits until an element is there, and cuts the page off at a height.
import { createRequire } from "node:module";

const [modules, executablePath, url, target, height, element, ...clicked] = process.argv.slice(2);
const { chromium } = createRequire(modules + "/")("playwright-core");
// Chromium's own sandbox needs user namespaces, which a container may not have; only pages of this machine are opened.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: Number(height) } });
page.setDefaultTimeout(60_000);
// MLflow would open its assistant over a fifth of a first visit's page.
await page.addInitScript(() => location.protocol === "http:" && localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"));
await page.goto(url);
for (const each of clicked) await page.locator(each).first().click();
await page.locator(element).first().waitFor();
// MLflow asks for more while it already shows something.
await page.waitForTimeout(2_000);
await page.evaluate(() => scrollTo(0, 0));
await page.screenshot({ path: target, animations: "disabled" });
console.log(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth));
await browser.close();
