// How soon one can type, and how smoothly in a large file. Usage: node measure.mjs PERCH_BINARY [RUNS]
// Each run is a browser of its own with an empty cache, that opens the link of a file as somebody who has signed in. Printed: medians,
// and of the first load what travels. Nothing is asserted: how fast a machine is tells no test anything.
import { branchWith, eventually, onDisk, Stage } from './harness.mjs'

const runs = Number(process.argv[3] ?? 9)
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
const range = (values) => `${Math.round(median(values))} ms (${Math.round(Math.min(...values))} to ${Math.round(Math.max(...values))})`

const LINE = (n) => `const value_${n} = compute(${n}) // some words that make a line of usual length\n`
const text = (lines) => Array.from({ length: lines }, (_, n) => LINE(n)).join('')

/** Notes when the text is there, shared, and takes keys; in the time since the browser was told to go to the page. */
function watch() {
  const look = () => {
    const content = document.querySelector('section.file:not([hidden]) .cm-content[contenteditable=true]')
    if (content?.textContent.includes('value_0 ') && document.querySelector('.saved[data-standing=saved]') !== null) {
      content.focus()
      window.ready = performance.now()
    } else requestAnimationFrame(look)
  }
  requestAnimationFrame(look)
}

/** Opens the link in a browser that knows nothing but who one is. */
async function open(stage, id, file) {
  const page = await stage.person()
  await page.addInitScript(([token, name]) => {
    if (window !== window.top) return
    sessionStorage.setItem('perch.token', token)
    localStorage.setItem('perch.name', name)
  }, [stage.token, 'Ann'])
  await page.addInitScript(watch)
  const devtools = await page.context().newCDPSession(page)
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' })
  await page.goto(`${stage.url}/#/b/${id}/${file}`)
  const ready = await page.waitForFunction(() => window.ready).then((handle) => handle.jsonValue())
  const { metrics } = await devtools.send('Performance.getMetrics')
  // What the page's thread was at work, however many others wait for the processor.
  const work = metrics.find(({ name }) => name === 'TaskDuration').value * 1_000
  return { page, ready, work }
}

/** What has travelled until now, and when the steps on the way were done. */
const travelled = (page) => page.evaluate(() => {
  const all = performance.getEntriesByType('resource')
  const [navigation] = performance.getEntriesByType('navigation')
  const sum = (kind) => all.filter(({ name }) => name.endsWith(kind)).reduce((bytes, { encodedBodySize }) => bytes + encodedBodySize, 0)
  const first = all.filter(({ name }) => name.endsWith('.js') && document.head.querySelector(`[href="${new URL(name).pathname.slice(1)}"], [src="${new URL(name).pathname.slice(1)}"]`))
  const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0
  return {
    scripts: sum('.js'), styles: sum('.css'), first: first.reduce((bytes, { encodedBodySize }) => bytes + encodedBodySize, 0),
    page: navigation.responseEnd, loaded: Math.max(...first.map(({ responseEnd }) => responseEnd)), run: navigation.domContentLoadedEventEnd, paint,
    asked: all.filter(({ name }) => name.includes('/v1/')).map(({ name, startTime, responseEnd }) => `${new URL(name).pathname.replace(/br_\w+/, 'B')} ${Math.round(startTime)}–${Math.round(responseEnd)}`)
  }
})

/** From the key's event until the frame that shows what came of it, of 40 keys. */
async function keys(page) {
  await page.evaluate(() => {
    window.frames_ = []
    document.querySelector('section.file:not([hidden]) .cm-content').addEventListener('keydown', ({ timeStamp }) => {
      requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel()
        port1.onmessage = () => window.frames_.push(performance.now() - timeStamp)
        port2.postMessage(null)
      })
    })
  })
  await page.keyboard.type('x'.repeat(40), { delay: 40 })
  return eventually('each key is on screen', async () => {
    const frames = await page.evaluate(() => window.frames_)
    return frames.length >= 40 && frames
  })
}

/** The time between frames while the whole file is scrolled through in 120 steps. */
const scroll = (page) => page.evaluate(() => new Promise((done) => {
  const scroller = document.querySelector('section.file:not([hidden]) .cm-scroller')
  const [between, end] = [[], scroller.scrollHeight - scroller.clientHeight]
  let [last, n] = [performance.now(), 0]
  const step = (now) => {
    between.push(now - last)
    last = now
    if (++n > 120) return done(between.slice(1))
    scroller.scrollTop = end * n / 120
    requestAnimationFrame(step)
  }
  requestAnimationFrame(step)
}))

const seen = { 'small.js': [], 'large.js': [] }
const steps = []
let sizes
const smooth = { keys: [], slow: [], frames: [], worst: [] }
for (let run = 0; run < runs; run += 1) {
  const stage = new Stage(process.argv[2])
  try {
    await stage.start()
    const id = await branchWith(stage, 'measured', { 'small.js': text(100), 'large.js': text(14_000) })
    for (const file of Object.keys(seen)) {
      // The browser itself runs by then; its cache is empty, and perch has not opened the file before.
      const { page, ready, work } = await open(stage, id, file)
      seen[file].push(ready)
      if (file === 'small.js') {
        const now = await travelled(page)
        steps.push({ ...now, work })
        sizes = now
      } else {
        const frames = await keys(page)
        smooth.keys.push(median(frames))
        smooth.slow.push(Math.max(...frames))
        const between = await scroll(page)
        smooth.frames.push(median(between))
        smooth.worst.push(Math.max(...between))
      }
      await page.keyboard.type('typed')
      await onDisk(page)
      await page.context().close()
    }
  } finally {
    await stage.end()
  }
}
const kb = (bytes) => `${(bytes / 1024).toFixed(1)} KB`
const of = (what) => range(steps.map((one) => one[what]))
console.log(`${runs} runs with a cold cache, medians (and the range):`)
console.log(`until one can type in 8 KB: ${range(seen['small.js'])}, ${(median(seen['small.js']) / 1000).toFixed(2)} of the bound of 1 s`)
console.log(`until one can type in 1 MB: ${range(seen['large.js'])}`)
console.log(`of that, processor time of the page's thread: ${of('work')}`)
console.log(`on the way: page ${of('page')}, first scripts ${of('loaded')}, run ${of('run')}, painted ${of('paint')}`)
console.log(`first load, compressed: ${kb(sizes.first)} of script, ${kb(sizes.styles)} of style; with what came until one could type ${kb(sizes.scripts)} of script`)
console.log(`in 1 MB, a key until its frame: ${range(smooth.keys)}, the slowest of 40 ${range(smooth.slow)}`)
console.log(`in 1 MB, between frames while scrolling through all of it: ${range(smooth.frames)}, the longest ${range(smooth.worst)}`)
if (process.env.PERCH_STEPS) console.log(steps.at(-1).asked.join('\n'))
