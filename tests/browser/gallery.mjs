// Views as people see them: wide, narrow and on a phone, light and dark. In each: nothing is cut off or covered, and no serious
// fault of accessibility. With PERCH_SHOTS=folder a picture of each is kept, to be looked at.
import assert from 'node:assert/strict'
import { faints, faults, misfits, picture } from './harness.mjs'

const WINDOWS = [[1280, 800], [1024, 700], [390, 844]]
/** Below this width the panels lie over the text. */
const PHONE = 700

export class Gallery {
  #found = []

  /** Puts the panel away that lies over the text on a phone; what is returned brings it back. */
  async #bare(page) {
    const shown = page.locator('.activity-on')
    if (await shown.count() === 0 || await page.locator('dialog[open]').count() > 0) return () => {}
    const id = await shown.getAttribute('data-panel')
    await shown.click()
    return () => page.locator(`[data-panel="${id}"]`).click()
  }

  /**
   * Looks at what the page shows now. `isPanel`: it is the side bar's panel that is looked at, on a phone too. `open`: opens it anew in
   * each window, for what does not outlive another size.
   */
  async look(page, name, { isPanel = false, open = null } = {}) {
    for (const [width, height] of WINDOWS) {
      await page.setViewportSize({ width, height })
      const back = width < PHONE && !isPanel ? await this.#bare(page) : () => {}
      await open?.()
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
        await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))))
        const what = `${name}-${colorScheme}-${width}`
        await picture(page, `look-${what}`)
        // What lies where is the same in the dark: only colours are looked at again.
        const found = colorScheme === 'light' ? [...await misfits(page, what), ...await faults(page, what)] : await faints(page, what)
        this.#found.push(...found)
      }
      await back()
    }
    await page.setViewportSize({ width: WINDOWS[0][0], height: WINDOWS[0][1] })
    await page.emulateMedia({ colorScheme: 'light' })
  }

  /** All that was found, at the end, so that one run tells all. */
  end() {
    assert.equal([...new Set(this.#found)].join('\n'), '', 'what was found')
  }
}
